"""Logs that killed drivers leave, which SQLite takes for those of whatever file comes to lie beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npas_bench.database.companions import logs_beside
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from npas_bench.database.location import Location


def refuse_left_logs(location: Location, path: Path) -> None:
    """Refuse to make a database where the log of one lies that is gone, whose runs would turn up in the new one.

    Args:
        location: the place of the database, as messages show it.
        path: its real path, at which no file lies.

    Raises:
        DatabaseError: if there is such a log; the message names it.
    """
    logs = logs_beside(path)
    if logs:
        names = " and ".join(str(location.shown(log)) for log in logs)
        raise DatabaseError(
            f"database {location} is not there, and {names} is, the log of a driver that was killed: SQLite would take "
            "it for the new database's. Put the database back, or remove the log too if its runs are not wanted"
        )


def advice_about_logs(location: Location) -> str:
    """Advice about a damaged file, beside which the log of another one lies perhaps; empty if there is no log."""
    logs = logs_beside(location.path) if location.path is not None else []
    if not logs:
        return ""
    return (
        f"Beside it lies {location.shown(logs[0])}, the log of a driver that is at work or was killed: if that driver "
        "wrote to another file, which lay here before, put that one back or remove the log; else the log holds the "
        "newest runs"
    )
