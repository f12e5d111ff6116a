"""Accounts that have no name, no home or no temporary folder, as in containers and on clusters."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from npas_bench.account import complete_account

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")


def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")


@pytest.fixture
def nobody(monkeypatch):
    """A user whom the system does not know, and of whom the environment tells nothing."""
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in NAMES:
        # Set before, so that it is restored in the end.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_an_account_without_name_and_home_is_given_both(nobody):
    complete_account()
    assert os.environ["USER"] == os.environ["LOGNAME"] == f"uid-{os.getuid()}"
    assert not Path.home().exists()


@pytest.mark.parametrize("name", ["LOGNAME", "USER", "USERNAME"])
def test_the_name_that_the_environment_tells_is_kept(nobody, monkeypatch, name):
    monkeypatch.setenv(name, "somebody")
    complete_account()
    assert {os.environ.get(other) for other in NAMES[:-1]} == {"somebody", None}


def test_the_home_that_the_environment_tells_is_kept(nobody, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    complete_account()
    assert Path.home() == tmp_path


def test_an_account_that_the_system_knows_is_left_alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    known = dict(os.environ)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("me", "", 1, 1, "", "/home/me", "")))
    complete_account()
    assert dict(os.environ) == known


# Stands for a user whom the system does not know: only root could become one.
UNKNOWN = """
import pwd, sys
def unknown(number):
    raise KeyError(number)
pwd.getpwuid = unknown
"""
LIBRARIES = """
import npas_bench
from streamlit import config
config.get_option("server.port")
from torch._inductor.runtime.cache_dir_utils import default_cache_dir
print(default_cache_dir())
"""
COMMAND = """
from npas_bench.cli.main import main
main(sys.argv[1:])
"""


def as_nobody(folder, code, *arguments):
    environment = {name: value for name, value in os.environ.items() if name not in (*NAMES, "TERM")}
    return subprocess.run(
        [sys.executable, "-c", UNKNOWN + code, *arguments],
        cwd=folder,
        # There is no temporary folder either: Python takes another.
        env=environment | {"TMPDIR": str(folder / "missing"), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_libraries_find_what_they_ask_of_an_account_that_the_system_does_not_know(tmp_path):
    done = as_nobody(tmp_path, LIBRARIES)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"uid-{os.getuid()}" in done.stdout


@pytest.mark.exhaustive
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_user_whom_the_system_does_not_know_runs_cells(tmp_path, executor, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    # The path of the test's own folder is too long for Ray.
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # noqa: S108
    cell = ("--task", "digits", "--method", "full", "--seed", "0", "--epochs", "1", "--executor", executor)
    done = as_nobody(tmp_path, COMMAND, "run", *cell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 cells: 1 done" in done.stdout


def test_a_working_directory_that_is_gone_is_told(call, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = call("leaderboard")
    monkeypatch.chdir(tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "npas-bench: the working directory is gone (No such file or directory): change to another one\n",
    )


def test_without_any_temporary_folder_a_command_names_the_remedy(call, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']")

    monkeypatch.setattr("npas_bench.runner.launch.plan_cells", missing)
    done = call("run", "--task", "digits", "--method", "full")
    assert (done.returncode, done.stderr) == (
        2,
        "npas-bench: no temporary folder can be written: name one with TMPDIR\n",
    )
