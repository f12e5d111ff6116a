"""How long `npas-bench db upgrade` takes on databases of many runs, from every older schema.

python benchmarks/upgrade.py [--runs 100000] [--server URL] [--json FILE]

Without a server, SQLite files are made in a temporary folder. A server's databases are dropped in the end.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import scale_database
from alembic import command
from alembic.config import Config
from rich.console import Console
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from npas_bench.database.check import find_faults
from npas_bench.database.opening import Database, locate, open_for_reading, upgrade
from npas_bench.database.schema import REVISIONS
from npas_bench.leaderboard.paper_list import paper_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npas_bench.database.location import Location

console = Console()
DRIVER = "0123456789abcdef"
MOMENT = "2026-01-01 00:00:00"
# What the check says of the benchmark's cells, which are made up, and of runs that its driver left.
_EXPECTED = ("not what the identity says", "left behind by a driver")


@contextmanager
def _location(server: str | None) -> Iterator[Location]:
    if server is None:
        with tempfile.TemporaryDirectory() as folder:
            yield locate(str(Path(folder) / "old.db"))
        return
    name = f"upgrade_{secrets.token_hex(6)}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield locate(make_url(server).set(database=name).render_as_string(hide_password=False))
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def make_old(location: Location, revision: str, runs: int) -> None:
    """Make a database of an older schema with runs in it."""
    engine = create_engine(location.url)
    config = Config()
    config.set_main_option("script_location", "npas_bench.database:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if revision != "0001":
            connection.execute(
                text(
                    f"INSERT INTO drivers VALUES ('{DRIVER}', 'h', 1, '', '0', 'b', '{MOMENT}', '{MOMENT}', NULL)"  # noqa: S608
                )
            )
    random.seed(0)
    scale_database.make(Database(location, engine), runs, DRIVER)
    engine.dispose()


def main() -> None:
    """Make, upgrade and check a database of every older schema."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--server", help="PostgreSQL server, by the URL of a database on it")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds = {}
    for revision in REVISIONS[:-1]:
        with _location(arguments.server) as location:
            make_old(location, revision, arguments.runs)
            begun = time.perf_counter()
            upgrade(location, paper_list())
            seconds[revision] = time.perf_counter() - begun
            database = open_for_reading(location)
            assert database is not None  # noqa: S101 (it was made just now)
            faults = [fault.what for fault in find_faults(database)]
            database.close()
        strange = [what for what in faults if not any(known in what for known in _EXPECTED)]
        console.print(f"{arguments.runs:,} runs, schema {revision}: {seconds[revision]:.1f} s {' '.join(strange)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"runs": arguments.runs, "seconds": seconds}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
