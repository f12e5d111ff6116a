"""Signals that stop a command."""

import os
import signal

import pytest
import typer

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
