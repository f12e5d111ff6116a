"""The dashboard reads both kinds of database, and a role that may only read is enough."""

import json
import secrets

import pytest
from sqlalchemy import create_engine, text

from tests.dashboard.conftest import fill, show

__all__ = ["show"]

PAGES = ("board", "frontier", "cost", "compare", "run", "grids", "papers")


def written(location):
    return str(location.path) if location.path else location.url.render_as_string(hide_password=False)


@pytest.fixture
def reader(location):
    """How somebody reaches the database who may only read."""
    fill(written(location))
    if location.path is not None:
        yield written(location)
        return
    engine, role = create_engine(location.url), f"reader_{secrets.token_hex(4)}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
    yield location.url.set(username=role).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {role}"))
        connection.execute(text(f"DROP ROLE {role}"))
    engine.dispose()


def test_every_page_reads_it_and_says_what_the_command_says(reader, show, monkeypatch, call):
    monkeypatch.setenv("NPAS_BENCH_DB", reader)
    drawn = {page: show(page, source="your runs", of="your runs", run="1") for page in PAGES}
    for page, one in drawn.items():
        assert (page, list(one.exception), [error.value for error in one.error]) == (page, [], [])
    shown = json.loads(call("leaderboard", "--source", "mine", "--format", "json").stdout)["boards"][0]["tables"]
    means = [one["mean"] for table in shown for band in table["budgets"] for one in band["standings"]]
    frame = drawn["board"].dataframe[0].value
    assert [None if mean != mean else mean for mean in frame["Mean"]] == means
    assert len(drawn["cost"].dataframe[0].value) > 5
