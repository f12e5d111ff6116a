"""The version that counts of each task and each method: other versions are other experiments, which boards leave out.

It is the newest one among the runs that say most. A result says more than a failure, an own run more than an imported
one, and a run that is done more than one that found its cell unsupported. So an import does not decide which version of
own results is shown, and a failure hides no result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, not_, select

from npas_bench.database.schema import CellRow, RunRow
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from npas_bench.database.queries.results import Result

# How a run ended and whether it is an own one; what says most comes first.
_SAYING = (
    (RunState.DONE, True),
    (RunState.UNSUPPORTED, True),
    (RunState.DONE, False),
    (RunState.UNSUPPORTED, False),
    (RunState.FAILED, True),
    (RunState.FAILED, False),
)
_PLACES = {kind: place for place, kind in enumerate(_SAYING)}


class Versions(NamedTuple):
    """The version that counts of each task and method that has several."""

    tasks: dict[str, int]
    methods: dict[str, int]


def outdated_versions(session: Session) -> Versions | None:
    """The tasks and methods that have several versions, with the one that counts; None if there are none."""
    tasks = _counting(session, CellRow.task, CellRow.task_version)
    methods = _counting(session, CellRow.method, CellRow.method_version)
    return Versions(tasks, methods) if tasks or methods else None


def newest_only(versions: Versions, cell: Any = CellRow) -> ColumnElement[bool]:
    """The condition that a cell has the versions that count of its task and its method."""
    return and_(
        *(not_(and_(cell.task == name, cell.task_version != newest)) for name, newest in versions.tasks.items()),
        *(not_(and_(cell.method == name, cell.method_version != newest)) for name, newest in versions.methods.items()),
    )


def _counting(
    session: Session, name: InstrumentedAttribute[str], version: InstrumentedAttribute[int]
) -> dict[str, int]:
    there: dict[str, list[int]] = {}
    for one, number in session.execute(select(name, version).distinct()):
        there.setdefault(one, []).append(number)
    return {
        one: next(_saying_most(session, name == one, version, numbers), max(numbers))
        for one, numbers in there.items()
        if len(numbers) > 1
    }


def _saying_most(
    session: Session, named: ColumnElement[bool], version: InstrumentedAttribute[int], numbers: list[int]
) -> Iterator[int]:
    """The versions with runs that boards can show, those of the runs that say most and the newest ones first."""
    # Of many runs, one is found soon. That there is none of a kind is known only when all of a version were looked at.
    for state, own in _SAYING:
        origin = RunRow.origin.is_(None) if own else RunRow.origin.is_not(None)
        for number in sorted(numbers, reverse=True):
            query = select(RunRow.id).join(CellRow, CellRow.identity == RunRow.identity)
            like_this = named, version == number, RunRow.current, RunRow.state == state, origin
            if session.scalar(query.where(*like_this).limit(1)) is not None:
                yield number


def of_counting_versions(results: Iterable[Result]) -> list[Result]:
    """The results that have the versions that count, which these very results decide."""
    found = list(results)
    tasks: dict[str, tuple[int, int]] = {}
    methods: dict[str, tuple[int, int]] = {}
    for one in found:
        place = _PLACES.get((one.state, one.origin is None), len(_PLACES))
        for best, name, version in (
            (tasks, one.task, one.task_version),
            (methods, one.method, one.method_version),
        ):
            # The lowest place comes first, and of one place the highest version.
            best[name] = min(best.get(name, (place, -version)), (place, -version))
    return [
        one for one in found if (-one.task_version, -one.method_version) == (tasks[one.task][1], methods[one.method][1])
    ]
