"""Standard output and standard error that may stop taking what is written: full disks, closed pipes, lost terminals."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

log = logging.getLogger(__name__)


class NobodyReads(Exception):
    """Raised by a write to a pipe whose reader has gone: there is no reason to go on, and nothing to complain about."""


class OutputLost(NpasBenchError):
    """An output that cannot be written, such as one to a full disk."""


class Guarded:
    """A text stream whose failure ends the command with a message, or is borne and told once.

    After the first failure, everything that is written goes to the null device: what is in the buffers cannot fail
    once more when the process ends.

    Args:
        stream: the stream to write to.
        name: what a message calls it.
        heard: whether the command is there for what it writes to this stream, so that a failure ends it.

    Attributes:
        heard: the same; it may change while the stream is in use.
    """

    def __init__(self, stream: TextIO, name: str, *, heard: bool) -> None:
        self._stream = stream
        self._name = name
        self._lost: NobodyReads | OutputLost | None = None
        self._borne = False
        self.heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, which counts as written whole if a failure of the stream is borne.

        Raises:
            NobodyReads: if the stream is heard, and is a pipe that nobody reads.
            OutputLost: if the stream is heard, and cannot be written otherwise.
        """
        if self._works():
            try:
                return self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts, as `write` does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Pass on what is in the buffers; it raises what `write` does."""
        if self._works():
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def _works(self) -> bool:
        # Libraries that try whether a stream can be written to may have caught it.
        if self._lost is not None and not self._borne:
            raise self._lost
        return self._lost is None

    def _fail(self, error: OSError) -> None:
        self._lead_away()
        reason = f"{self._name} cannot be written: {error.strerror or error}"
        # A reader that has gone, as that of `| head -1`, has what it wanted.
        unread = error.errno == errno.EPIPE
        self._lost = NobodyReads(reason) if unread else OutputLost(reason)
        self._borne = not self.heard
        if self.heard:
            raise self._lost from error
        log.log(logging.INFO if unread else logging.WARNING, "%s", reason)

    def _lead_away(self) -> None:
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard the standard streams of this process while the block runs, and open those that were closed from the start.

    A file that is opened later would otherwise get the number of a closed stream, and what libraries write to that
    stream would go into the file.

    Raises:
        NobodyReads: by the block, if it writes to standard output, and that is a pipe that nobody reads.
        OutputLost: by the block, if it writes to standard output, and that cannot be written otherwise.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal lacks is to be shown as a question mark, and not to end in a traceback.
            stream.reconfigure(errors="replace")
    guards: Any = Guarded(sys.stdout, "standard output", heard=True), Guarded(sys.stderr, "standard error", heard=False)
    sys.stdout, sys.stderr = guards
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


@contextmanager
def unheard() -> Iterator[None]:
    """Let the block go on if nobody can read what it writes to standard output: its results are kept elsewhere."""
    stream: Any = sys.stdout
    guarded = isinstance(stream, Guarded)
    if guarded:
        stream.heard = False
    try:
        yield
    finally:
        if guarded:
            stream.heard = True
