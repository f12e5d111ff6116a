"""Signals that ask a command to stop."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from npas_bench.cli.console import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a scheduler, a container or `kill` sends, and what a terminal sends when it closes.
_ALSO = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop the block as Ctrl-C does: it is left in an orderly way, and can be taken up again.

    The command then ends with the exit code that a shell gives to a process which the signal killed: 130, 143 or 129.
    A signal that was ignored before, as `nohup` has SIGHUP ignored, stays ignored. Once the command is being stopped,
    further SIGTERM and SIGHUP change nothing; a further Ctrl-C ends it at once.
    """
    received: list[int] = []
    owner = os.getpid()

    def stop(number: int, _: object) -> None:
        if os.getpid() != owner:
            # A forked child dies of the signal, as it would if its parent had not asked for it.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not received:
            received.append(number)
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
