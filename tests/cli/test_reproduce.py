"""Repetitions, reproductions and kept weights as a user meets them."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from npas_bench import plugins
from npas_bench.runner.provenance import Commit
from npas_bench.tasks.classification.digits import Digits
from npas_bench.weights_file import read_weights, write_weights
from tests.boards import published_version

INSTALLED = plugins.tasks.load("digits").version
ONE_BY_ONE = ("--executor", "inline")
RAN = (
    *("run", "--task", "digits", "--method", "full", "--method", "ssn", "--budget", "2%"),
    *("--epochs", "1", "--seeds", "1", *ONE_BY_ONE),
)


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory):
    """A folder with a database in which `full` was run, with its weights kept, and an impossible `ssn`."""
    from npas_bench.cli.main import main

    folder = tmp_path_factory.mktemp("ran")
    with pytest.raises(SystemExit) as exit_:
        main([*RAN, "--keep-weights", "--db", str(folder / "runs.db")])
    assert exit_.value.code == 0
    return folder


@pytest.fixture
def ran(finished_runs, tmp_path):
    """A copy of that folder, in which the test runs."""
    shutil.copytree(finished_runs, tmp_path, dirs_exist_ok=True)


def change(statement, *values):
    with closing(sqlite3.connect("runs.db")) as connection:
        connection.execute(statement, values)
        connection.commit()


def ask(query):
    with closing(sqlite3.connect("runs.db")) as connection:
        return connection.execute(query).fetchall()


def test_a_run_is_reproduced_bit_for_bit_as_a_repetition_that_no_board_counts(ran, call):
    before = call("leaderboard", "--source", "mine").stdout
    said = call("reproduce", "1")
    assert said.returncode == 0, said
    assert "Metrics are to agree bit for bit: the run was made on a CPU of this instruction set" in said.stdout
    assert "reproduced, bit for bit" in said.stdout
    assert "The repetition is run 3 of runs.db." in said.stdout
    assert ask("SELECT id, state, current, repeats = (SELECT uid FROM runs WHERE id = 1) FROM runs WHERE id = 3") == [
        (3, "done", 0, 1)
    ]
    after = call("leaderboard", "--source", "mine").stdout
    assert [line for line in before.splitlines() if "full" in line] == [
        line for line in after.splitlines() if "full" in line
    ]
    assert "repetition of run 1; no board counts it as a seed" in " ".join(call("show", "3").stdout.split())
    assert "repeated by run 3" in " ".join(call("show", "1").stdout.split())
    assert not list(Path("runs.db.work").glob("*-again-*"))


def test_a_doctored_metric_is_named_with_its_difference_and_exit_code_1(ran, call):
    ((value,),) = ask("SELECT value FROM metrics WHERE run_id = 1 AND name = 'nll'")
    change("UPDATE metrics SET value = ? WHERE run_id = 1 AND name = 'nll'", value + 0.01)
    said = call("reproduce", "1")
    assert said.returncode == 1
    assert "not reproduced: nll differs by -0.01 (" in said.stdout
    assert "error@1 differs" not in said.stdout
    loose = call("reproduce", "1", "--tolerance", "0.9")
    assert (loose.returncode, "reproduced within 90 %" in loose.stdout) == (0, True)


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (Commit("a" * 40, False), Commit("a" * 40, False), f"The code is that of the run, commit {'a' * 12}."),
        (Commit("a" * 40, False), Commit("b" * 40, True), f"this is commit {'b' * 12} with local changes."),
        # Changes that were made to one commit at two times may be others.
        (Commit("a" * 40, True), Commit("a" * 40, True), "The run was made by commit"),
        (Commit(None, None), Commit("a" * 40, False), "not known which commit the run was made by"),
        (Commit("a" * 40, False), Commit(None, None), "not known which commit is installed here"),
    ],
)
def test_a_reproduction_says_whether_the_code_is_that_of_the_run(ran, call, monkeypatch, then, now, said):
    change('UPDATE runs SET "commit" = ?, dirty = ? WHERE id = 1', then.commit, then.dirty)
    monkeypatch.setattr("npas_bench.runner.provenance.code", lambda: now)
    found = call("reproduce", "1")
    assert (found.returncode, said in found.stdout) == (0, True), found.stdout


def test_losses_that_differ_are_told_as_a_hint(ran, call):
    ((history,),) = ask("SELECT history FROM runs WHERE id = 1")
    entries = json.loads(history)
    entries[0]["loss"] += 1
    change("UPDATE runs SET history = ? WHERE id = 1", json.dumps(entries))
    said = call("reproduce", "1")
    assert (said.returncode, "losses differ from epoch 1 on" in said.stdout) == (0, True)


def test_a_run_of_the_published_board_is_repeated_in_the_user_s_own_database(call):
    said = call("reproduce", "183", "--published", "--keep-weights")
    # A published result of an older version of the task is none that this version could come to.
    if published_version(183) < INSTALLED:
        assert (said.returncode, "install the npas-bench" in said.stderr) == (2, True)
        return
    assert said.returncode in (0, 1), said
    assert "The repetition is run 1 of runs.db." in said.stdout
    assert ask("SELECT state, current FROM runs") == [("done", 0)]
    assert ask("SELECT count(*) FROM weights") == [(1,)]
    if "bit for bit: the run was made on a CPU of this instruction set" in said.stdout:
        assert "reproduced, bit for bit" in said.stdout
    assert "repetition of a run elsewhere" in " ".join(call("show", "1").stdout.split())
    assert "run 183, done" in " ".join(call("show", "183", "--published").stdout.split())


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE runs SET state = 'failed', message = 'it broke'", "run 1 cannot be reproduced: it failed (it broke)"),
        ("UPDATE runs SET state = 'running'", "it is running and has no result yet; npas-bench status"),
        ("UPDATE cells SET identity_version = 9", "its identity is of version 9"),
        ("UPDATE cells SET method_version = 9", "version 9 of method full, and version 1 is installed"),
        ("UPDATE cells SET task_version = 9", f"version 9 of task digits, and version {INSTALLED} is installed"),
        ("UPDATE cells SET method = 'fool'", "lacks what it needs: unknown method 'fool'"),
        ("UPDATE cells SET seed = 9", "do not agree with its canonical form: the record was changed"),
        (
            "UPDATE runs SET data_digest = 'abcd'",
            "it was run on digits (sha256 abcd), and the data",
        ),
        (
            "UPDATE runs SET origin = 'theirs.jsonl', data_digest = 'abcd'",
            "run 1, which was imported from theirs.jsonl, cannot be reproduced: it was run on digits",
        ),
        ('UPDATE runs SET cost = \'{"engine": ["warp"]}\'', "run 1 had the switch warp"),
    ],
)
def test_a_run_that_cannot_be_repeated_here_is_refused_by_name(ran, call, statement, reason):
    change("DELETE FROM runs WHERE id = 2")
    change(statement)
    said = call("reproduce", "1")
    assert said.returncode == 2
    assert reason in " ".join(said.stderr.split()), said.stderr
    assert ask("SELECT count(*) FROM runs") == [(1,)]


def test_an_unsupported_run_a_missing_one_and_an_impossible_tolerance_are_refused(ran, call):
    for arguments, reason in (
        (("2",), "run 2 cannot be reproduced: its method does not support the budget"),
        (("99",), "has no run 99: its runs go up to 2"),
        (("1", "--tolerance", "2"), "a share from 0, which means bit for bit, to below 1 is wanted"),
        (("999999", "--published"), "has no run 999999"),
    ):
        said = call("reproduce", *arguments)
        assert (said.returncode, reason in " ".join(said.stderr.split())) == (2, True), said.stderr


def test_an_imported_run_is_reproduced_where_its_data_and_versions_are(ran, call):
    assert call("export", "--out", "theirs.jsonl").returncode == 0
    assert call("import", "theirs.jsonl", "--db", "other.db").returncode == 0
    said = call("reproduce", "1", "--db", "other.db")
    assert (said.returncode, "reproduced, bit for bit" in said.stdout) == (0, True), said


def test_again_runs_what_is_done_as_repetitions_and_leaves_the_rest(ran, call):
    again = call(*RAN, "--again")
    assert again.returncode == 0, again
    assert "2 cells: 1 done, 1 unsupported" in again.stdout
    assert ask("SELECT id, state, current, repeats IS NOT NULL FROM runs ORDER BY id") == [
        (1, "done", 1, 0),
        (2, "unsupported", 1, 0),
        (3, "done", 0, 1),
    ]
    assert call(*RAN, "--again").returncode == 0
    assert len(ask("SELECT id FROM runs WHERE repeats IS NOT NULL")) == 2
    metrics = [ask(f"SELECT name, value FROM metrics WHERE run_id = {run} ORDER BY position") for run in (1, 3, 4)]
    assert metrics[0] == metrics[1] == metrics[2]
    refused = call(*RAN, "--again", "--only", "failed")
    assert (refused.returncode, "leave one out" in refused.stderr) == (2, True)


def test_again_runs_a_cell_that_was_never_done_for_its_own_result(call):
    assert call(*RAN[:-2], *ONE_BY_ONE, "--again").returncode == 0
    assert ask("SELECT count(*) FROM runs WHERE repeats IS NOT NULL") == [(0,)]


def test_kept_weights_are_listed_shown_and_written_byte_for_byte(ran, call):
    ((file, digest, size),) = ask("SELECT file, sha256, bytes FROM weights WHERE run_id = 1 AND kind = 'trained'")
    kept = Path("runs.db.weights") / file
    assert kept.stat().st_size == size
    said = call("weights", "1", "--out", "mine.safetensors")
    assert said.returncode == 0, said
    assert digest in said.stdout
    assert Path("mine.safetensors").read_bytes() == kept.read_bytes()
    assert digest in "".join(call("show", "1").stdout.split())


def test_the_plain_network_of_a_run_has_its_error(ran, call):
    said = call("weights", "1", "--out", "plain.safetensors", "--plain")
    assert said.returncode == 0, said
    from npas_bench import plugins

    network = plugins.architecture("wrn-10-1").build(Digits().signature)
    network.load_state_dict(load_file("plain.safetensors"))
    ((stored,),) = ask("SELECT value FROM metrics WHERE run_id = 1 AND name = 'error@1'")
    assert Digits().evaluate(network.eval(), Digits().data("test"))["error@1"] == stored


def test_weights_that_were_not_kept_say_how_to_get_them(ran, call):
    change("DELETE FROM weights")
    said = call("weights", "1", "--out", "w.safetensors")
    assert said.returncode == 2
    assert "run 1 did not keep its weights: npas-bench reproduce 1 --keep-weights" in " ".join(said.stderr.split())
    other = call("weights", "2", "--out", "w.safetensors")
    assert (other.returncode, "run 2 is unsupported and has no weights" in other.stderr) == (2, True)
    assert not Path("w.safetensors").exists()


def test_a_kept_file_that_is_cut_short_missing_or_of_another_run_is_refused(ran, call):
    (kept,) = Path("runs.db.weights").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:1000])
    assert "is cut short: it has 1,000 of" in " ".join(call("weights", "1", "--out", "w.safetensors").stderr.split())
    kept.write_bytes(whole)
    weights = read_weights(kept)
    longer = {**weights.tensors, "more": torch.zeros(9)}
    write_weights(kept, weights._replace(header=weights.header.model_copy(update={"run": "f" * 32}), tensors=longer))
    said = " ".join(call("weights", "1", "--out", "w.safetensors").stderr.split())
    assert "holds the weights of another run: of run ffff" in said
    kept.unlink()
    said = " ".join(call("weights", "1", "--out", "w.safetensors").stderr.split())
    assert "name the folder that the run was given with --workdir" in said


def test_a_file_is_not_overwritten_unless_asked(ran, call):
    Path("w.safetensors").write_text("precious")
    assert "add --force to overwrite" in call("weights", "1", "--out", "w.safetensors").stderr
    assert Path("w.safetensors").read_text() == "precious"
    assert call("weights", "1", "--out", "w.safetensors", "--force").returncode == 0
    assert "ends in .safetensors" in call("weights", "1", "--out", "w.pt").stderr
    assert "kept its weights" not in call("weights", "1", "--out", "deep/w.safetensors").stderr


def test_another_folder_for_checkpoints_has_the_weights_too(call):
    ran = call(*RAN, "--keep-weights", "--workdir", "shared")
    assert ran.returncode == 0, ran
    assert "--workdir" in call("weights", "1", "--out", "w.safetensors").stderr
    assert call("weights", "1", "--out", "w.safetensors", "--workdir", "shared").returncode == 0
