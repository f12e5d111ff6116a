"""Signals that ask a command to stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from npas_bench.cli.console import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a scheduler, a container or `kill` sends, and what a terminal sends when it closes.
_ALSO = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# A signal often comes several times at once, to the process and to its group.
_PATIENCE = 4.0


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop the block as Ctrl-C does: it is left in an orderly way, and can be taken up again.

    The command then ends with the exit code that a shell gives to a process which the signal killed: 130, 143 or 129.
    A signal that was ignored before, as `nohup` has SIGHUP ignored, stays ignored. While the command is being stopped,
    further SIGTERM and SIGHUP change nothing; a further Ctrl-C ends it at once. Where the block still runs seconds
    later as if nothing had come, since the code of a plugin catches everything, a further signal stops it again.
    """
    received: list[int] = []
    raised = 0.0
    owner = os.getpid()

    def stop(number: int, _: object) -> None:
        nonlocal raised
        if os.getpid() != owner:
            # A forked child dies of the signal, as it would if its parent had not asked for it.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not received or (time.monotonic() - raised > _PATIENCE and not _is_being_left()):
            received.append(number)
            raised = time.monotonic()
            # Ray passes on nothing but this very exception when a signal interrupts a call of it.
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _ALSO}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from here", style="yellow")
        raise typer.Exit(128 + (received or [signal.SIGINT])[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _is_being_left() -> bool:
    """Tell whether the code that a signal interrupted is handling an interruption already, as when it cleans up."""
    handled = sys.exception()
    while handled is not None:
        if isinstance(handled, KeyboardInterrupt):
            return True
        handled = handled.__context__
    return False
