"""Reading for pages: databases are opened for each question, and answers are kept until the database changes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import streamlit as st

from npas_bench.budget import Budget
from npas_bench.database.damage import reaching
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
# After this many seconds a page says that a database is locked instead of waiting longer.
_PATIENCE = 3.0
_KEPT = 64


@dataclass(frozen=True)
class Look:
    """A source of results in its present state.

    Attributes:
        name: `mine` or `published`.
        title: the source as people read it, with its place.
        short: the source in a word or two, without its place.
        place: the place of its database, as `locate` understands it.
        revision: a text that changes with the content of the database.
    """

    name: str
    title: str
    short: str
    place: str
    revision: str


class Looks(NamedTuple):
    """The sources of results.

    Attributes:
        there: the sources that can be read, the user's own first.
        problems: why other sources cannot be read, a sentence each.
    """

    there: list[Look]
    problems: list[str]


def looks() -> Looks:
    """Find the sources of results, and read their present revisions."""
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
    """The revision of a database, which is opened once to see that it can be; None if there is no database."""
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
    """Open a source once, so that one that cannot be read is reported."""
    with _opened(look):
        pass


@contextmanager
def _opened(look: Look) -> Iterator[Database]:
    location = locate(look.place)
    database = open_published() if look.name == "published" else open_for_reading(location, patience=_PATIENCE)
    if database is None:
        raise NpasBenchError(f"database {location} is not there any more")
    try:
        with reaching(location):
            yield database
    finally:
        database.close()


def ask(look: Look, question: Callable[[Database], _T]) -> _T:
    """Ask the database of a source a question.

    Raises:
        DatabaseError: if the database cannot be read.
    """
    with _opened(look) as database:
        return question(database)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def names(look: Look, kind: str) -> list[str]:
    """The names of the tasks, architectures or metrics that a source has results of."""
    return ask(look, lambda database: sorted(stored_names(database, kind)))


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def papers(look: Look) -> list[PaperNumber]:
    """The papers' numbers in the database of a source."""
    return ask(look, read_papers)


@dataclass(frozen=True)
class View:
    """Which results of a source to show. These are the fields of `Choice`, with budgets as text."""

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
    """The methods that a source has cells of, with their options."""
    return ask(look, lambda database: sorted(stored_methods(database, task=task, architecture=architecture)))


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def listed(look: Look, task: str | None, architecture: str | None, limit: int) -> tuple[list[BoardFacts], int]:
    """The facts of the tables with the newest results in a source, and how many tables there are in all."""

    def read(database: Database) -> tuple[list[BoardFacts], int]:
        boards = choose_boards(database, task=task, architecture=architecture, limit=limit)
        return describe_boards(database, boards.chosen), boards.total

    return ask(look, read)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def tables(look: Look, view: View, beside: tuple[Look, ...] = ()) -> Tables:
    """Read tables of a source.

    Args:
        look: the source.
        view: which tables to read.
        beside: other sources, in which its cells may have been run again.
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
