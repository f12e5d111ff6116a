import pytest
from sqlalchemy import text

from npas_bench.database.access import Access, opened, opened_if_there
from npas_bench.database.opening import locate
from npas_bench.database.queries.counts import count_states
from npas_bench.errors import DatabaseError


@pytest.fixture
def place(tmp_path):
    return locate(str(tmp_path / "runs.db"))


@pytest.mark.parametrize("access", [Access.READING, Access.BESIDE])
def test_what_is_only_read_or_changed_has_to_exist(place, access):
    with pytest.raises(DatabaseError, match=r"runs.db does not exist: run something first, or name another"):
        opened(place, access).__enter__()
    with opened_if_there(place, access) as database:
        assert database is None
    assert not place.path.exists()


@pytest.mark.parametrize("access", [Access.WRITING, Access.IMPORTING])
def test_what_is_written_is_made(place, access):
    with opened(place, access):
        pass
    with opened(place) as database:
        assert count_states(database) == {}


def test_a_driver_lets_the_next_one_in_when_its_block_fails(place):
    with pytest.raises(KeyError), opened(place, Access.WRITING):
        raise KeyError
    with opened(place, Access.WRITING) as database:
        assert database.alone


def test_an_import_and_a_small_change_go_beside_a_driver(place):
    with opened(place, Access.WRITING):
        for access in (Access.IMPORTING, Access.BESIDE):
            with opened(place, access) as database:
                assert not database.alone
        with pytest.raises(DatabaseError, match="another npas-bench run at work"):
            opened(place, Access.WRITING).__enter__()


def test_a_database_that_fails_within_the_block_is_named(place):
    with (
        pytest.raises(DatabaseError, match=r"database .*runs.db failed: no such table: nowhere"),
        opened(place, Access.WRITING) as database,
        database.session() as session,
    ):
        session.execute(text("SELECT 1 FROM nowhere"))
