"""What pages read: databases opened for reading, for as long as it takes, and results kept until a database changes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from npas_bench.budget import Budget
from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.boards import choose_boards, describe_boards
from npas_bench.database.queries.papers import read_papers
from npas_bench.database.queries.results import stored_methods, stored_names
from npas_bench.database.revision import file_revision, server_revision
from npas_bench.errors import NpasBenchError
from npas_bench.leaderboard.published import open_published, published_location
from npas_bench.leaderboard.reading import Choice, Tables, read_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npas_bench.database.opening import Database, Location
    from npas_bench.database.queries.boards import BoardFacts
    from npas_bench.database.queries.papers import PaperNumber

_T = TypeVar("_T")
# A page shall say that a database is locked, not hang until it is free.
_PATIENCE = 3.0
_KEPT = 64


@dataclass(frozen=True)
class Look:
    """A source of results as it is now.

    Attributes:
        name: `mine` or `published`.
        title: for people.
        short: the same in a word or two, without the place.
        place: of its database, as `locate` understands it.
        revision: changes with its content.
    """

    name: str
    title: str
    short: str
    place: str
    revision: str


class Looks(NamedTuple):
    """The sources of results that there are.

    Attributes:
        there: a user's own first.
        problems: of sources that cannot be read, in words.
    """

    there: list[Look]
    problems: list[str]


def looks() -> Looks:
    """The sources that can be read now."""
    there, problems = [], []
    try:
        mine = locate(None)
        revision = _revision(mine)
        if revision is not None:
            there.append(Look("mine", f"Your runs ({mine})", "your runs", _place(mine), revision))
    except NpasBenchError as error:
        problems.append(str(error))
    published = published_location()
    if published is not None:
        there.append(
            Look("published", "Published board", "published", _place(published), file_revision(published) or "")
        )
    return Looks(there, problems)


def _place(location: Location) -> str:
    return str(location.path) if location.path else location.url.render_as_string(hide_password=False)


def _revision(location: Location) -> str | None:
    """Of a database that can be opened; None where there is none."""
    revision = file_revision(location)
    if location.path is not None and revision is None:
        return None
    if location.path is None:
        with _opened(Look("mine", "", "", _place(location), "")) as database:
            return server_revision(database)
    _checked(Look("mine", "", "", _place(location), revision or ""))
    return revision


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def _checked(look: Look) -> None:
    """Whether it opens at all."""
    with _opened(look):
        pass


@contextmanager
def _opened(look: Look) -> Iterator[Database]:
    location = locate(look.place)
    database = open_published() if look.name == "published" else open_for_reading(location, patience=_PATIENCE)
    if database is None:
        raise NpasBenchError(f"database {location} is not there any more")
    try:
        yield database
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise NpasBenchError(f"database {location} cannot be read: {str(cause).strip().splitlines()[0]}") from error
    finally:
        database.close()


def ask(look: Look, question: Callable[[Database], _T]) -> _T:
    """Ask a database something.

    Raises:
        DatabaseError: if it cannot be read.
    """
    with _opened(look) as database:
        return question(database)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def names(look: Look, kind: str) -> list[str]:
    """The names of tasks, architectures or metrics that a database has results of."""
    return ask(look, lambda database: sorted(stored_names(database, kind)))


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def papers(look: Look) -> list[PaperNumber]:
    """The papers' numbers of a database."""
    return ask(look, read_papers)


@dataclass(frozen=True)
class View:
    """What of a source to show; budgets as they are written."""

    task: str | None = None
    architecture: str | None = None
    metric: str | None = None
    lowest: str | None = None
    highest: str | None = None
    limit: int | None = None
    table: str | None = None
    methods: frozenset[str] | None = None


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def methods(look: Look, task: str | None, architecture: str | None) -> list[str]:
    """The methods, with their options, that a source has cells of."""
    return ask(look, lambda database: sorted(stored_methods(database, task=task, architecture=architecture)))


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def listed(look: Look, task: str | None, architecture: str | None, limit: int) -> tuple[list[BoardFacts], int]:
    """What a source's tables are about, of those with the newest results, and how many there are."""

    def read(database: Database) -> tuple[list[BoardFacts], int]:
        boards = choose_boards(database, task=task, architecture=architecture, limit=limit)
        return describe_boards(database, boards.chosen), boards.total

    return ask(look, read)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def tables(look: Look, view: View, beside: tuple[Look, ...] = ()) -> Tables:
    """The tables of a source.

    Args:
        look: the source.
        view: which.
        beside: other sources, where its cells may have been run again.
    """
    choice = Choice(
        task=view.task,
        architecture=view.architecture,
        metric=view.metric,
        lowest=Budget.parse(view.lowest) if view.lowest else None,
        highest=Budget.parse(view.highest) if view.highest else None,
        limit=view.limit,
        table=view.table,
        methods=view.methods,
    )

    def read(database: Database, others: tuple[Look, ...]) -> Tables:
        if not others:
            return read_tables(database, choice, beside=opened)
        with _opened(others[0]) as other:
            opened.append(other)
            return read(database, others[1:])

    opened: list[Database] = []
    return ask(look, lambda database: read(database, beside))
