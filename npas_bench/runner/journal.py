"""The log file of a run: what began and ended when, and every warning."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from typing_extensions import override

from npas_bench.database.plain_files import refuse_to_append
from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def default_log(folder: Path) -> Path:
    """The path of a new log, in the folder for checkpoints."""
    return folder / "logs" / f"{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}.log"


class _Handler(logging.FileHandler):
    """Warns once if the log cannot be written, and lets the work go on."""

    told = False

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        if not self.told:
            self.told = True
            logging.getLogger().warning("the log %s cannot be written", self.baseFilename)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Write what the package logs to a file while the block runs; warnings still reach the terminal.

    Raises:
        NpasBenchError: if the file cannot be written, or is a database or what belongs to one, a pipe or a disk.
    """
    package, root = logging.getLogger("npas_bench"), logging.getLogger()
    refuse_to_append(path, f"the log {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _Handler(path, encoding="utf-8")
    except OSError as error:
        raise NpasBenchError(f"the log {path} cannot be written: {error}; name another with --log") from None
    handler.setFormatter(logging.Formatter(_FORMAT))
    before, levels = package.level, [(other, other.level) for other in root.handlers]
    for other, level in levels:
        # The root's level does not hold back records of the package, so that its handlers must.
        other.setLevel(max(level, root.level))
    package.addHandler(handler)
    package.setLevel(min(logging.INFO, root.level))
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before)
        for other, level in levels:
            other.setLevel(level)
        with suppress(OSError):
            handler.close()
