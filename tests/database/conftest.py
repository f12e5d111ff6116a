import os
import secrets

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from npas_bench.database.opening import locate, open_for_writing


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request, tmp_path):
    """An empty database of each kind; PostgreSQL where NPAS_BENCH_TEST_POSTGRES names a server."""
    if request.param == "sqlite":
        yield locate(str(tmp_path / "runs.db"))
        return
    server = os.environ.get("NPAS_BENCH_TEST_POSTGRES")
    if not server:
        pytest.skip("needs a PostgreSQL server, named by NPAS_BENCH_TEST_POSTGRES")
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"test_{secrets.token_hex(6)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield locate(make_url(server).set(database=name).render_as_string(hide_password=False))
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(location):
    opened = open_for_writing(location)
    yield opened
    opened.close()
