"""Repetitions, subjects, evaluations and kept weights: what they are, and that boards are the same with and without."""

import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from npas_bench.database.check import find_faults
from npas_bench.database.drivers import enter
from npas_bench.database.exchange.files import export_records, write_records
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.keys import RunKey
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.queries.counts import count_states
from npas_bench.database.queries.reproductions import reproduced_runs
from npas_bench.database.queries.results import find_run, latest_runs, read_results
from npas_bench.database.queries.status import read_status
from npas_bench.database.queries.timings import read_timings
from npas_bench.database.runs import (
    Findings,
    add_runs,
    cancel_runs,
    claim_run,
    finish_run,
    newest_repetitions,
    newest_runs,
    uids_of,
)
from npas_bench.errors import DatabaseError
from npas_bench.leaderboard.reading import read_tables
from npas_bench.leaderboard.standings import Marks, tabulate
from tests.database.test_exchange import file_of, own_run, record
from tests.database.test_runs import CODE, cell, finished, metric, run

ERROR = {"metric": "error@1", "unit": "%", "higher_is_better": False}
OTHERS = Findings(
    evaluations=[
        {"subject": "member 0", "split": "test", "value": 0.5, **ERROR},
        {"subject": "all", "split": "validation", "value": 0.25, **ERROR},
    ],
    subjects=[
        {"name": "member 0", "parameters": 7, "forward_flops": 9, "latency_seconds": 0.5, "detail": {"width": 2}}
    ],
    weights=[{"kind": "plain", "file": "a.safetensors", "sha256": "a" * 64, "bytes": 12}],
)


def repetition(database, of, identity="a", **fields):
    """A pending repetition of a run."""
    uid = uids_of(database, [of])[of]
    (number,) = add_runs(database, [cell(identity)], [run(identity, repeats=uid, **fields)])
    return number


def end(database, number, value=1.0, state="done", findings=OTHERS):
    token = f"token {number}"
    assert claim_run(database, number, enter(database, CODE), token, {})
    metrics = [metric(value)] if state == "done" else []
    fields = {"state": state, "parameters": 5, "train_seconds": 2.0}
    assert finish_run(database, number, token, fields, metrics, findings)
    return number


def faults(database):
    """What `db check` finds, but for the cells of these tests, whose identities are made up."""
    return [fault.what for fault in find_faults(database) if "not what the identity says" not in fault.what]


def key(identity="a"):
    return RunKey(identity, "d", "cpu")


def test_a_repetition_is_a_run_of_its_own_that_no_board_shows(database):
    first = finished(database, "a", 1.0)
    number = end(database, repetition(database, first), 2.0)
    again = find_run(database, number)
    assert (again.state, again.current, again.repeats) == ("done", False, find_run(database, first).uid)
    assert find_run(database, first).current
    assert [(r.run, r.value) for r in read_results(database)] == [(first, 1.0)]
    assert newest_runs(database, [key()]) == {key(): (first, "done")}
    assert newest_repetitions(database, [again.repeats, "unknown"]) == {again.repeats: (number, "done")}
    assert faults(database) == []


def test_a_repetition_is_not_given_up_because_its_cell_is_done_and_starts_from_nothing(database):
    first = finished(database, "a")
    number = repetition(database, first)
    assert claim_run(database, number, enter(database, CODE), "t", {}) == (1, None)


def test_an_ordinary_run_is_neither_stopped_by_a_repetition_nor_goes_on_from_one(database):
    failed = finished(database, "a", state="failed")
    end(database, repetition(database, failed))
    (number,) = add_runs(database, [cell("a")], [run("a")])
    assert claim_run(database, number, enter(database, CODE), "t", {}) == (1, "token")


def test_of_a_run_there_is_one_open_repetition_beside_an_open_run_of_its_cell(database):
    first = finished(database, "a")
    number = repetition(database, first)
    (plain,) = add_runs(database, [cell("a")], [run("a")])
    assert len({first, number, plain}) == 3
    assert repetition(database, first) == number
    uid = find_run(database, first).uid
    statement = (
        "INSERT INTO runs (uid, repeats, identity, state, attempt, board, current, created, data_name, data_label,"
    )
    statement += (
        " data_digest, data_official, device_class, device) SELECT 'x', repeats, identity, state, attempt, board,"
    )
    statement += " current, created, data_name, data_label, data_digest, data_official, device_class, device FROM runs"
    with pytest.raises(IntegrityError), database.engine.begin() as connection:
        connection.execute(text(f"{statement} WHERE id = {number}"))
    end(database, number)
    another = repetition(database, first)
    assert another not in (first, number, plain)
    assert newest_repetitions(database, [uid]) == {uid: (another, "pending")}
    assert cancel_runs(database, runs=[another]) == 1


def test_a_run_of_another_database_can_be_repeated(database):
    uid = "f" * 32
    number, same = add_runs(database, [cell("a")], [run("a", repeats=uid), run("a", repeats=uid)])
    assert number == same
    end(database, number)
    assert find_run(database, number).repeats == uid
    assert newest_runs(database, [key()]) == {}
    assert read_results(database) == []
    assert faults(database) == []


def test_repetitions_are_reproductions_timings_and_runs_under_way(database):
    first = finished(database, "a")
    number = repetition(database, first, grid="g")
    assert count_states(database)["g"] == {"pending": 1}
    claim_run(database, number, enter(database, CODE), f"token {number}", {})
    assert [under.cell for under in read_status(database).under_way] == ["digits wrn-10-1 full 100% seed 0, repeated"]
    fields = {"state": "done", "parameters": 5, "train_seconds": 2.0}
    assert finish_run(database, number, f"token {number}", fields, [metric(1)])
    assert reproduced_runs(read_results(database), database) == {first}
    assert [timing.train_seconds for timing in read_timings(database, "cpu")] == [2.0]


def test_what_does_not_rank_a_run_is_kept_apart_from_what_does(database):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    end(database, number)
    row = find_run(database, number)
    assert [m.name for m in row.metrics] == ["error@1"]
    assert {(e.position, e.subject, e.split, e.value) for e in row.evaluations} == {
        (0, "member 0", "test", 0.5),
        (1, "all", "validation", 0.25),
    }
    assert [(s.name, s.parameters, s.detail) for s in row.subjects] == [("member 0", 7, {"width": 2})]
    assert [(w.kind, w.file, w.bytes) for w in row.weights] == [("plain", "a.safetensors", 12)]


@pytest.mark.parametrize("seed", range(3))
def test_boards_are_the_same_with_and_without_repetitions_subjects_and_evaluations(database, seed):
    drawn = np.random.default_rng(seed)
    runs = []
    for method in ("full", "ssn"):
        for number in range(3):
            fields = {"method": method, "seed": number, "budget": 100, "budget_text": "100"}
            state = str(drawn.choice(("done", "done", "failed")))
            identity = f"{method}{number}"
            (made,) = add_runs(database, [cell(identity, **fields)], [run(identity)])
            runs.append((identity, fields, end(database, made, drawn.uniform(1, 9), state, Findings())))
    before = read_results(database)
    tables = read_tables(database).shown
    revised = {}
    for chosen in drawn.permutation(len(runs))[:4]:
        identity, fields, number = runs[chosen]
        uid = uids_of(database, [number])[number]
        for _ in range(drawn.integers(1, 3)):
            (made,) = add_runs(database, [cell(identity, **fields)], [run(identity, repeats=uid)])
            state = str(drawn.choice(("done", "failed", "unsupported")))
            end(database, made, drawn.uniform(1, 9), state, OTHERS if state == "done" else Findings())
            revised.setdefault(number, []).append(state)
        (made,) = add_runs(database, [cell(identity, **fields)], [run(identity, repeats=uid)])
        assert drawn.random() < 0.5 or claim_run(database, made, enter(database, CODE), "open", {})
    assert read_results(database) == before
    reproduced = {number for number, states in revised.items() if "done" in states}
    reproduced &= {result.run for result in before if result.state == "done"}
    assert reproduced_runs(before, database) == reproduced
    # Of a row nothing but the word `reproduced` may be new.
    assert (tables, read_tables(database).shown) == (tabulate(before), tabulate(before, Marks(reproduced)))


def test_what_is_new_in_format_4_travels_and_the_rest_is_as_small_as_before(database):
    first = finished(database, "a")
    own_run(database)
    (number,) = add_runs(database, [record()["cell"]], [run(record()["cell"]["identity"], repeats="f" * 32)])
    end(database, number)
    with database.session.begin() as session:
        session.execute(text(f"UPDATE runs SET reported_epoch = 3 WHERE id = {number}"))
    plain, made = [json.loads(line) for line in export_records(database) if json.loads(line)["cell"]["seed"] == 0][1:]
    assert plain["run"].keys().isdisjoint({"repeats", "reported_epoch"})
    assert plain.keys() == {"format", "cell", "run", "metrics"}
    assert (made["run"]["repeats"], made["run"]["reported_epoch"]) == ("f" * 32, 3)
    assert made["evaluations"] == OTHERS.evaluations
    assert (made["subjects"], made["weights"]) == (OTHERS.subjects, OTHERS.weights)
    assert first not in (number, None)


def test_what_is_new_in_format_4_comes_out_of_another_database_alike(database):
    other = open_for_writing(locate("other.db"))
    original = record(0, uid="e" * 32)
    later = {"created": "2026-01-02T00:00:00Z", "finished": "2026-01-03T00:00:00Z"}
    repeating = record(0, uid="d" * 32, repeats="e" * 32, **later)
    repeating["run"]["reported_epoch"] = 2
    repeating |= OTHERS._asdict()
    add_records(database, [file_of(original, repeating)])
    assert [(row.current, row.repeats) for row in all_rows(database)] == [(True, None), (False, "e" * 32)]
    write_records(export_records(database), Path("mine.jsonl"))
    # The run that is repeated need not be there.
    lines = Path("mine.jsonl").read_text(encoding="utf-8").splitlines()
    Path("one.jsonl").write_text(lines[1] + "\n", encoding="utf-8")
    assert add_records(other, [Path("one.jsonl")]).added == 1
    assert list(export_records(other)) == lines[1:]
    assert read_results(other) == []
    assert faults(other) == []
    # A later attempt at it replaces what it had measured, and is not shown either.
    later = json.loads(lines[1])
    later["run"]["attempt"] += 1
    later["evaluations"] = later["evaluations"][1:]
    assert add_records(database, [file_of(later)]).replaced == 1
    assert [len(row.evaluations) for row in all_rows(database)] == [0, 1]
    assert [row.current for row in all_rows(database)] == [True, False]
    other.close()


def all_rows(database):
    return [find_run(database, number) for number in sorted(latest_runs(database, 100))]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE runs SET current = true WHERE id = 2", "1 run repeats another and is shown on boards: 2"),
        ("UPDATE runs SET data_digest = 'x' WHERE id = 2", "1 run repeats a run of another cell: 2"),
        ("DELETE FROM subjects", "1 run has evaluations of a subject that is not there: 2"),
        (
            "UPDATE runs SET state = 'failed' WHERE id = 2",
            "1 run has evaluations, subjects or weights, though not done: 2",
        ),
    ],
)
def test_what_contradicts_itself_in_the_new_tables_is_found(database, statement, message):
    first = finished(database, "a")
    end(database, repetition(database, first))
    assert faults(database) == []
    with database.engine.begin() as connection:
        connection.execute(text(statement))
    assert message in faults(database)


def test_an_evaluation_that_is_not_finite_is_found(database):
    first = finished(database, "a")
    end(database, repetition(database, first))
    infinity = "1e999" if database.engine.dialect.name == "sqlite" else "'NaN'"
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE evaluations SET value = {infinity} WHERE position = 1"))
    assert faults(database) == ["1 run has evaluations that are no finite numbers: 2"]


OTHER_CELLS = {
    "another seed": record(3),
    "other data": record(0, data_digest="e" * 64),
    "another device class": record(0, device_class="cuda"),
}


@pytest.mark.parametrize("what", OTHER_CELLS)
def test_a_record_that_repeats_a_run_of_another_cell_is_refused(database, what):
    uid = uids_of(database, [own_run(database)])[1]
    wrong = OTHER_CELLS[what]
    wrong["run"] |= {"uid": "c" * 32, "repeats": uid}
    with pytest.raises(DatabaseError, match=f"r.jsonl, line 2, .*it repeats run {uid}, which is of another cell, data"):
        add_records(database, [file_of(record(9, repeats="f" * 32), wrong)])
    assert latest_runs(database, 9) == [1]
    assert find_faults(database) == []


def test_a_repetition_and_a_run_of_another_cell_are_refused_in_either_order(database):
    first, again = record(0, uid="a" * 32), record(3, uid="c" * 32, repeats="a" * 32)
    with pytest.raises(DatabaseError, match=f"r.jsonl, line 2, .*it repeats run {'a' * 32}, which is of another cell"):
        add_records(database, [file_of(first, again)])
    with pytest.raises(DatabaseError, match=r"r.jsonl, line 1, .*it repeats run a+, which is of another cell"):
        add_records(database, [file_of(again, first)])
    with pytest.raises(DatabaseError, match=f"b.jsonl, line 1, .*run {'c' * 32} repeats it, and is of another cell"):
        add_records(database, [file_of(again, name="a.jsonl"), file_of(first, name="b.jsonl")])
    assert latest_runs(database, 9) == []


@pytest.mark.parametrize("length", [2, 3, 40])
def test_records_that_repeat_one_another_in_a_circle_are_refused(database, length):
    uids = [f"{number + 1:032x}" for number in range(length)]
    circle = [record(0, uid=uid, repeats=uids[number - 1]) for number, uid in enumerate(uids)]
    with pytest.raises(DatabaseError, match="the run that it repeats is a repetition, too, and so on without an end"):
        add_records(database, [file_of(*circle)])
    add_records(database, [file_of(circle[0])])
    with pytest.raises(DatabaseError, match="the run that it repeats is a repetition, too, and so on without an end"):
        add_records(database, [file_of(*circle[1:])])
    assert len(latest_runs(database, 9)) == 1


def test_repetitions_of_a_run_that_comes_later_or_never_are_taken(database):
    later = [record(0, uid=f"{number:032x}", repeats="a" * 32) for number in range(3)]
    assert add_records(database, [file_of(*later, record(0, uid="a" * 32), record(9, repeats="f" * 32))]).added == 5
    assert find_faults(database) == []


def test_repetitions_in_a_circle_in_an_older_database_are_found(database):
    chain = [record(0, uid=uid * 32, repeats=repeated * 32) for uid, repeated in ("ab", "bc", "de")]
    add_records(database, [file_of(*chain)])
    assert find_faults(database) == []
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE runs SET repeats = '{'a' * 32}' WHERE uid = '{'b' * 32}'"))
    assert faults(database) == ["2 runs repeat themselves by way of others: 1, 2"]
