"""Signals that stop a command."""

import os
import signal
from contextlib import contextmanager

import pytest
import typer

from npas_bench.cli import stopping
from npas_bench.cli.stopping import stoppable
from npas_bench.runner.recorder import Recorder
from tests.runner.test_survival import EPOCHS, finish, runs, trained_anew

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def handlers():
    """The usual handlers, and afterwards those from before."""
    before = {number: signal.getsignal(number) for number in CODES}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_a_signal_ends_a_command_with_the_code_that_a_shell_expects(number, code, capsys):
    cleaned = []
    with pytest.raises(typer.Exit) as exit_, stoppable():
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(True)
    assert (exit_.value.exit_code, cleaned) == (code, [True])
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
    assert [signal.getsignal(other) for other in (signal.SIGTERM, signal.SIGHUP)] == [signal.SIG_DFL] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    with stoppable():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == signal.SIG_IGN


def test_further_signals_do_not_disturb_a_command_that_is_being_stopped():
    cleaned = []
    with pytest.raises(typer.Exit) as exit_, stoppable():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned.append(True)
    assert (exit_.value.exit_code, cleaned) == (129, [True])


@pytest.fixture
def later(monkeypatch):
    """Lets time pass at once."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def pass_by(self):
            self.now += stopping._PATIENCE + 1

    clock = Clock()
    monkeypatch.setattr(stopping, "time", clock)
    return clock.pass_by


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_further_signal_stops_a_command_that_swallowed_the_first(later, number):
    went_on = []

    def swallow():
        # As the code of a plugin may do.
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            went_on.append("after the first")

    with pytest.raises(typer.Exit) as exit_, stoppable():
        swallow()
        os.kill(os.getpid(), number)
        went_on.append("at once")
        later()
        os.kill(os.getpid(), number)
        went_on.append("later")
    assert (exit_.value.exit_code, went_on) == (143, ["after the first", "at once"])


def test_a_further_signal_stops_a_command_again_and_again(later):
    swallowed = []
    with pytest.raises(typer.Exit), stoppable():
        for _ in range(3):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except KeyboardInterrupt:
                swallowed.append(True)
            later()
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(swallowed) == 3


@contextmanager
def slow_to_leave(later, cleaned):
    try:
        yield
    finally:
        later()
        os.kill(os.getpid(), signal.SIGTERM)
        cleaned.append(True)


def test_a_command_that_takes_long_to_be_left_is_not_disturbed(later):
    cleaned = []
    with pytest.raises(typer.Exit) as exit_, stoppable(), slow_to_leave(later, cleaned):
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        except KeyboardInterrupt:
            later()
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                raise ValueError("while it is left")
            except ValueError:
                later()
                os.kill(os.getpid(), signal.SIGTERM)
            raise
    assert (exit_.value.exit_code, cleaned) == (129, [True])


def test_a_forked_child_dies_of_the_signal_itself():
    with stoppable():
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


def test_a_signal_stops_a_run_which_goes_on_from_its_last_epoch(tmp_path, monkeypatch, capsys):
    def stop(recorder, attempt, report):
        if report.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "progressed", stop)
        finish(tmp_path, expected=143)
    assert "the same command goes on from here" in capsys.readouterr().err
    assert [row.state for row in runs(tmp_path)] == ["pending", "pending"]
    assert trained_anew(tmp_path) == 2 * EPOCHS - 2
    assert [row.state for row in runs(tmp_path)] == ["done", "done"]
