"""The benchmarks run, and count what the closed forms say."""

import json
import subprocess
import sys

import pytest
import torch

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.methods import Problem
from tests.conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import common

    return common


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ssn", {}),
        ("ssn", {"combine": "avg"}),
        ("ssn", {"upsample": "inter"}),
        ("superweights", {"clustering": "single"}),
        ("hypernetwork", {}),
        ("hashednets", {}),
    ],
)
def test_generation_flops_are_the_closed_forms(common, method, options, share):
    architecture, signature = plugins.architecture("wrn-10-1"), ImageSignature((3, 8, 8), 10)
    problem = Problem(architecture, signature, int(share * architecture.size(signature)))
    network = plugins.methods.load(method)(options).build(problem)
    counted, closed = common.counted_flops(network), network.generation_flops()
    # Masked tiles are multiplied to their ends and windows' ends, and cut off after.
    slack = 1.3 if any(reading.rule == "mask" for reading in network.sharing()) else 1.0
    assert closed <= counted <= slack * closed


def test_swrn_flops_are_the_closed_form(common):
    architecture, signature = plugins.architecture("wrn-22-1"), ImageSignature((3, 8, 8), 10)
    problem = Problem(architecture, signature, architecture.size(signature))
    network = plugins.methods.load("swrn")({"templates": 2}).build(problem)
    shared = sum(layer.size for layer in network.layers)
    assert common.counted_flops(network) == network.generation_flops() == 2 * 2 * shared


@pytest.mark.slow
def test_both_benchmarks_run_and_write_what_they_measured(tmp_path):
    for script, key in (("step_time", "ratio"), ("memory", "saved_bytes")):
        path = tmp_path / f"{script}.json"
        more = ["--rounds", "3"] if script == "step_time" else []
        command = [
            sys.executable,
            BENCHMARKS / f"{script}.py",
            "--case",
            "tiny",
            "--threads",
            "1",
            "--json",
            path,
            *more,
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "tiny" in done.stdout
        found = json.loads(path.read_text())
        assert found["torch"] == str(torch.__version__)
        assert set(found["cases"][0][key]) >= {"kept", "regenerated"}
        if script == "memory":
            saved = found["cases"][0]["saved_bytes"]
            assert saved["plain"] <= saved["regenerated"] <= 1.02 * saved["plain"] < saved["kept"]


def test_commands_are_timed_on_a_database_of_many_runs(tmp_path):
    command = [sys.executable, BENCHMARKS / "scale_database.py", "--runs", "700", "--repeat", "1", "--json", "s.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["runs"], found["database"]) == (700, "sqlite")
    assert [one["command"] for one in found["commands"]] == ["leaderboard", "leaderboard --task", "status"]
    assert all(one["peak"] > 2**20 and one["lines"] > 3 for one in found["commands"])


def test_an_unknown_case_is_answered_with_the_known_ones():
    command = [sys.executable, BENCHMARKS / "step_time.py", "--case", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no case is called nothing" in done.stderr
    assert "wrn-28-10 b8 ssn 10%" in done.stderr
