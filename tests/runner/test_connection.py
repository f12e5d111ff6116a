"""Ray's start on machines and under accounts that are not as it expects. Ray itself is not started."""

import errno
import os
import signal
from pathlib import Path

import pytest
import ray

from npas_bench.errors import NpasBenchError
from npas_bench.runner.cluster.connection import Connection

SETTINGS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "TMPDIR")


@pytest.fixture(autouse=True)
def account(monkeypatch, tmp_path):
    """An account whose home is empty, and which has set nothing."""
    for name in SETTINGS:
        # Set before, so that it is restored in the end.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("npas_bench.runner.cluster.connection.time.sleep", lambda _: None)
    return home


@pytest.fixture
def starts(monkeypatch):
    """What the environment told Ray at each start; `starts.error` is what a start ends with."""

    class Starts(list):
        error = None

        def __call__(self, **_):
            self.append({name: os.environ.get(name) for name in SETTINGS})
            if self.error is not None:
                raise self.error

    starts = Starts()
    monkeypatch.setattr(ray, "init", starts)
    return starts


@pytest.mark.parametrize(
    "error",
    [
        OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /a/long/path"),
        PermissionError(errno.EACCES, "Permission denied", "/tmp/ray"),  # noqa: S108
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "/etc/passwd/ray"),
        OSError(errno.EROFS, "Read-only file system", "/tmp/ray"),  # noqa: S108
        OSError(errno.ENOSPC, "No space left on device", "/tmp/ray"),  # noqa: S108
    ],
    ids=["too long", "not permitted", "a file", "read-only", "full"],
)
def test_a_temporary_folder_that_does_not_suit_ray_is_told_at_once_with_the_remedy(starts, error):
    starts.error = error
    with pytest.raises(NpasBenchError, match=r"Ray cannot be started on this machine: .* with RAY_TMPDIR, .*inline"):
        Connection()
    assert len(starts) == 1


def test_a_start_that_may_succeed_the_next_time_is_tried_again(starts):
    starts.error = ConnectionError("Ray does not answer.")
    with pytest.raises(NpasBenchError, match=r"this machine: Ray does not answer\. --executor inline"):
        Connection()
    assert len(starts) == 3


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_relative_temporary_folder_is_the_one_that_the_user_means(starts, monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, "some/folder")
    Connection()
    assert starts[0]["RAY_TMPDIR"] == str(tmp_path / "some/folder")


def test_ray_writes_no_token_into_the_home(starts, account):
    Connection()
    assert len(starts[0]["RAY_AUTH_TOKEN"]) == 64
    assert list(account.iterdir()) == []


@pytest.mark.parametrize("home", ["/etc/passwd", "/nonexistent"])
def test_a_home_that_is_none_is_not_needed(starts, monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    Connection()
    assert starts[0]["RAY_AUTH_TOKEN"]


def test_a_users_own_token_is_used(starts, account, monkeypatch):
    (account / ".ray").mkdir()
    (account / ".ray" / "auth_token").write_text("mine")
    Connection()
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(Path("mine").absolute()))
    Connection()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    Connection()
    assert [start["RAY_AUTH_TOKEN"] for start in starts] == [None, None, None]


def test_ray_does_not_take_over_the_signal_that_stops_a_command(monkeypatch):
    def init(**_):
        ray._private.utils.set_sigterm_handler(theirs)
        # Not by way of the function that Ray has for it.
        signal.signal(signal.SIGTERM, theirs)

    def mine(*_):
        pass

    def theirs(*_):
        raise AssertionError

    theirs_is = ray._private.utils.set_sigterm_handler
    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, mine)
    try:
        Connection()
        assert signal.getsignal(signal.SIGTERM) is mine
        assert ray._private.utils.set_sigterm_handler is theirs_is
    finally:
        signal.signal(signal.SIGTERM, before)
