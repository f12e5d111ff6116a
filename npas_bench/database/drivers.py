"""Drivers at work on a database: which of them are alive, and whose runs are left behind.

A driver's row carries its heartbeat by the database's own clock, so that drivers on several machines need not agree
about the time. One that has not been heard of for a lease is taken for dead, and its running runs become stale:
others may go on with them. Should it live after all, what it still computes is fenced off by its attempts' tokens.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, or_, select, update

from npas_bench.database.schema import DriverRow, RunRow
from npas_bench.database.states import UNDER_WAY, RunState
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from npas_bench.database.opening import Database

log = logging.getLogger(__name__)

# The key of the lock under which drivers register: any number, the same in every version.
_ENTRANCE = 0x6E706465
LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 5.0


class CodeVersion(NamedTuple):
    """The code that a driver runs.

    Attributes:
        version: version of the package.
        digest: digest of the package's sources.
    """

    version: str
    digest: str


def enter(database: Database, code: CodeVersion) -> str:
    """Register a driver, mark the runs that dead drivers left behind as stale, and return the new driver's id.

    Raises:
        DatabaseError: if a driver that is alive runs other code.
    """
    reap(database)
    with database.session.begin() as session:
        if session.get_bind().dialect.name == "postgresql":
            # If two drivers come at the same time, the second one sees the first.
            session.execute(select(func.pg_advisory_xact_lock(_ENTRANCE)))
        for other in session.scalars(select(DriverRow).where(DriverRow.ended.is_(None))):
            if other.code != code.digest:
                raise DatabaseError(
                    f"database {database.location} has a driver at work on {other.host} (process {other.pid}) with "
                    f"other code: npas-bench {other.version} ({other.code}), this is {code.version} ({code.digest}). "
                    "Results of both would be mixed: run the same code, wait for it, or name another database with --db"
                )
        moment = clock(session)
        driver = DriverRow(
            id=secrets.token_hex(8),
            host=platform.node()[:200],
            pid=os.getpid(),
            born=_birth(os.getpid()),
            version=code.version,
            code=code.digest,
            started=moment,
            heartbeat=moment,
        )
        session.add(driver)
        return driver.id


def beat(database: Database, driver: str, epochs: Mapping[int, int]) -> None:
    """Record that a driver is alive, and how far its runs are.

    A driver that was taken for dead in the meantime gets those of its runs back that no other driver has taken.

    Args:
        database: open for writing.
        driver: its id.
        epochs: whole epochs that its running runs have reached, by run.
    """
    with database.session.begin() as session:
        session.execute(update(DriverRow).where(DriverRow.id == driver).values(heartbeat=clock(session), ended=None))
        mine = RunRow.driver == driver, RunRow.state == RunState.STALE
        session.execute(update(RunRow).where(*mine).values(state=RunState.RUNNING))
        for run, epoch in epochs.items():
            session.execute(update(RunRow).where(RunRow.id == run, RunRow.driver == driver).values(epoch=epoch))


def leave(database: Database, driver: str) -> None:
    """Record that a driver has ended, and put the runs that it did not finish back to pending."""
    with database.session.begin() as session:
        session.execute(
            update(RunRow).where(RunRow.driver == driver, RunRow.state.in_(UNDER_WAY)).values(state=RunState.PENDING)
        )
        session.execute(update(DriverRow).where(DriverRow.id == driver).values(ended=clock(session)))


def reap(database: Database, besides: str | None = None) -> int:
    """Mark the running runs of dead drivers as stale, and return how many there were.

    Args:
        database: open for writing.
        besides: id of the driver that asks, which is alive.
    """
    with database.session.begin() as session:
        dead = _dead(database, session) - {besides}
        if dead:
            session.execute(update(DriverRow).where(DriverRow.id.in_(dead)).values(ended=DriverRow.heartbeat))
        # Runs of drivers that have ended count too, and runs of the first schema, which had no drivers.
        ended = select(DriverRow.id).where(DriverRow.ended.is_not(None))
        stale: Any = session.execute(
            update(RunRow)
            .where(RunRow.state == RunState.RUNNING, or_(RunRow.driver.is_(None), RunRow.driver.in_(ended)))
            .values(state=RunState.STALE)
            .execution_options(synchronize_session=False)
        )
        return int(stale.rowcount)


def dead_drivers(database: Database) -> set[str]:
    """The ids of drivers that ended without saying so; for readers, who cannot mark their runs as stale."""
    with database.session() as session:
        return _dead(database, session)


def _dead(database: Database, session: Session) -> set[str]:
    moment, here = clock(session), _processes()
    lease = timedelta(seconds=LEASE_SECONDS)
    found = set()
    for driver in session.scalars(select(DriverRow).where(DriverRow.ended.is_(None))):
        if here is not None and driver.born.startswith(f"{here} "):
            # A process of this machine can be looked at, so that no clock matters, however it jumps.
            birth = _birth(driver.pid)
            # Another user's process may be hidden from us; then the lease decides.
            gone = birth != driver.born if birth or not _hidden(driver.pid) else moment - driver.heartbeat > lease
        else:
            gone = moment - driver.heartbeat > lease
        if gone or database.alone:
            found.add(driver.id)
    return found


def _processes() -> str | None:
    """The boot of the machine and the container, within which a process number is unique; None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot[:18]}-{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _hidden(pid: int) -> bool:
    """Tell whether there is a process of that number that this user may not look at."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return False


def _birth(pid: int) -> str:
    """When a process of this machine began, as its system counts; empty if there is no such process, or if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The process name before the last bracket may contain any character.
    fields = stat.rpartition(")")[2].split()
    here = _processes()
    return "" if fields[0] == "Z" or here is None else f"{here} {fields[19]}"


def clock(session: Session) -> datetime:
    """The time by the database's own clock, in UTC."""
    if session.get_bind().dialect.name == "postgresql":
        moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)
    return datetime.now(UTC)
