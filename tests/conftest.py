"""Fixtures of the whole suite."""

import os

# Two test processes with two threads each would wait for one another more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# One process cannot talk to a Ray cluster that asks for a token and then to one that does not.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

# Ray lets its workers stand back behind everything else, so that they would wait for the tests in other processes.
os.environ.setdefault("RAY_worker_niceness", "0")

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("suite")

REPOSITORY = Path(__file__).parent.parent
# Seconds; a test that may take longer begins before all others.
_LONG = 600


def pytest_collection_modifyitems(items):
    """Let the longest test begin first, so that the others are done beside it."""
    items.sort(key=lambda item: not _may_take_long(item))


def _may_take_long(item):
    marker = item.get_closest_marker("timeout")
    return marker is not None and marker.args[0] > _LONG


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder of its own, with the user's settings out of the way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NPAS_BENCH_DB", raising=False)


@pytest.fixture
def real_data():
    """The folder of real data sets; the test is skipped where CIFAR-10 is not in it."""
    folder = os.environ.get("NPAS_BENCH_DATA")
    if not folder or not (Path(folder) / "cifar-10-batches-py").is_dir():
        pytest.skip("needs cifar-10-batches-py in the folder that NPAS_BENCH_DATA names")
    return Path(folder)


@pytest.fixture
def command(tmp_path):
    """Runs `npas-bench` in a process of its own and returns what became of it."""

    def run(*arguments, cwd=tmp_path, env=None, timeout=120):
        return subprocess.run(
            [sys.executable, "-m", "npas_bench.cli.main", *map(str, arguments)],
            cwd=cwd,
            env=os.environ | {"COLUMNS": "80"} | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


class Called(NamedTuple):
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs `npas-bench` in this process, where torch is imported already; an exception fails the test."""
    from npas_bench.cli.main import main

    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([*map(str, arguments)])
        return Called(exit_.value.code or 0, *capsys.readouterr())

    return run
