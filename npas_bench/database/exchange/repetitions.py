"""A check that imported repetitions repeat what they say: runs of their own cells, and never themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import aliased

from npas_bench.database.keys import RunKey
from npas_bench.database.schema import RunRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from npas_bench.database.exchange.files import Located

# No command repeats a repetition, so that a longer chain was made by hand.
_LONGEST_CHAIN = 16


def refuse_wrong_repetitions(session: Session, added: Mapping[str, Located]) -> None:
    """Refuse records that repeat a run of another cell, or themselves by way of others.

    A run that is not in the database may be repeated: when it comes, it is compared with its repetitions.

    Args:
        session: in the transaction that has just added the records.
        added: the records by their uids.

    Raises:
        DatabaseError: at the first such record.
    """
    repeating = {uid: one.record.run.repeats for uid, one in added.items() if one.record.run.repeats is not None}
    if repeating:
        _refuse_other_cells(session, added, RunRow.uid.in_(list(repeating)))
        _refuse_circles(session, added, repeating)
    _refuse_other_cells(session, added, RunRow.repeats.in_(list(added)))


def _refuse_other_cells(session: Session, added: Mapping[str, Located], condition: ColumnElement[bool]) -> None:
    """Compare the repetitions of a condition with the runs that they repeat."""
    repeated = aliased(RunRow)
    query = (
        select(
            *(RunRow.uid, RunRow.identity, RunRow.data_digest, RunRow.device_class),
            *(repeated.uid, repeated.identity, repeated.data_digest, repeated.device_class),
        )
        .join(repeated, repeated.uid == RunRow.repeats)
        .where(condition)
        .order_by(RunRow.id)
    )
    for uid, *key, repeated_uid, identity, digest, device_class in session.execute(query):
        if RunKey(*key) == RunKey(identity, digest, device_class):
            continue
        if uid in added:
            raise added[uid].wrong(f"it repeats run {repeated_uid}, which is of another cell, data or device class")
        raise added[repeated_uid].wrong(f"run {uid} repeats it, and is of another cell, data or device class")


def _refuse_circles(session: Session, added: Mapping[str, Located], repeating: Mapping[str, str]) -> None:
    """Follow what repetitions repeat up to runs that repeat nothing."""
    reached = dict(repeating)
    for _ in range(_LONGEST_CHAIN):
        query = select(RunRow.uid, RunRow.repeats).where(
            RunRow.uid.in_(sorted(set(reached.values()))), RunRow.repeats.is_not(None)
        )
        further = {uid: repeats for uid, repeats in session.execute(query) if repeats is not None}
        reached = {uid: further[last] for uid, last in reached.items() if last in further}
        if not reached:
            return
    first = next(uid for uid in added if uid in reached)
    raise added[first].wrong("the run that it repeats is a repetition, too, and so on without an end")
