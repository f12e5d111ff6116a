"""Waiting for a database that does not answer for a while: a server that restarts, a file that is locked."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

# A server that is not back after some minutes needs somebody to look after it.
PATIENCE_SECONDS = 300.0
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
# SQLite's messages about locks, and PostgreSQL's classes of errors that pass: connections, shortage, shut-down,
# conflicts.
_LOCKED = ("database is locked", "database table is locked")
_PASSING = ("08", "53", "57P", "40")
_CLOSED = ("connection", "server closed", "terminating", "starting up", "shutting down")


def passes(error: DBAPIError) -> bool:
    """Tell whether an error is of a kind that passes: nothing was changed, and the same call may soon succeed."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING)
    said = str(error.orig).lower()
    return said.startswith(_LOCKED) or (
        type(error.orig).__module__.startswith("psycopg") and any(word in said for word in _CLOSED)
    )


def patiently(act: Callable[_P, _R], /, *arguments: _P.args, **named: _P.kwargs) -> _R:
    """Call a function, and call it again as long as the database does not answer.

    Args:
        act: the function. It works in whole transactions and can be called twice: if the answer to a commit got lost,
            the first call may have had its effect.
        arguments: its positional arguments.
        named: its keyword arguments.

    Raises:
        DBAPIError: if the database does not answer for five minutes, or something else is wrong.
    """
    end, failures = time.monotonic() + PATIENCE_SECONDS, 0
    while True:
        try:
            return act(*arguments, **named)
        except DBAPIError as error:
            if not passes(error) or time.monotonic() > end:
                raise
            if failures == 0:
                log.warning("the database does not answer (%s); waiting for it", str(error.orig).splitlines()[0])
            time.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1
