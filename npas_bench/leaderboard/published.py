"""The published board: where the shipped `leaderboard.db` lies, and how it is made from `results/*.jsonl`.

python -m npas_bench.leaderboard.published export runs.db results/NAME.jsonl
python -m npas_bench.leaderboard.published build results leaderboard.db
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from npas_bench.database.companions import logs_beside
from npas_bench.database.exchange.files import export_records, write_records
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.opening import (
    Database,
    Location,
    check_results,
    locate,
    open_for_reading,
    open_for_writing,
)
from npas_bench.errors import DatabaseError, NpasBenchError
from npas_bench.leaderboard.paper_list import paper_list

log = logging.getLogger(__name__)
NAME = "leaderboard.db"


def published_location() -> Location | None:
    """The place of the shipped board: beside this module in an installed package, at the root of a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent, here.parent.parent.parent):
        if (folder / NAME).is_file():
            return locate(str(folder / NAME))
    return None


def is_published(location: Location) -> bool:
    """Tell whether a database is the shipped board."""
    shipped = published_location()
    return bool(shipped and location.path and shipped.path and location.path.resolve() == shipped.path.resolve())


def refuse_published(location: Location) -> None:
    """Keep runs out of the shipped board, which is made from results alone.

    Raises:
        DatabaseError: if `location` is the shipped board.
    """
    if is_published(location):
        raise DatabaseError(
            f"database {location} is the published board, which is made from results/ alone: name another with --db"
        )


def open_published() -> Database | None:
    """Open the shipped board for reading; None if there is none."""
    location = published_location()
    return open_for_reading(location, immutable=True) if location else None


def export_file(path: Path, out: Path) -> int:
    """Write every run of a database that has ended to a file of JSON lines, and return how many there are."""
    database = open_for_reading(locate(str(path)))
    if database is None:
        raise DatabaseError(f"database {path} does not exist")
    try:
        return write_records(export_records(database), out, overwrite=True)
    finally:
        database.close()


def build_board(results: Path, out: Path) -> int:
    """Make the published board anew from every `*.jsonl` in a folder, and return how many runs it holds.

    Raises:
        DatabaseError: if the folder holds no such file or a wrong one, or if `out` is neither free nor a board that was
            made so.
    """
    files = sorted(results.glob("*.jsonl"))
    if not files:
        raise DatabaseError(f"{results} holds no *.jsonl file to make a board from")
    place = _place_of_board(out)
    fresh = place.with_name(f"{place.name[:200]}.{secrets.token_hex(4)}.building")
    database = open_for_writing(locate(str(fresh)), paper_list())
    try:
        count = add_records(database, files).added
        database.close()
        fresh.replace(place)
    finally:
        database.close()
        for left in (fresh, fresh.with_name(f"{fresh.name}.lock")):
            left.unlink(missing_ok=True)
    return count


def _place_of_board(out: Path) -> Path:
    """The real path of a board to be made, where nothing lies but a board that was made before, or nothing at all."""
    location = locate(str(out))
    place = location.path
    if place is None:
        raise DatabaseError(f"{out} is no file, as the published board is")
    for log_file in logs_beside(place):
        raise DatabaseError(f"{log_file} would be taken for the log of the new board: remove it")
    if location.there():
        check_results(location)
        with closing(sqlite3.connect(f"{place.as_uri()}?mode=ro", uri=True)) as connection, suppress(sqlite3.Error):
            # Only the first schema has no such column, and no imports.
            own = connection.execute("SELECT count(*) FROM runs WHERE origin IS NULL").fetchone()[0]
            if own:
                raise DatabaseError(
                    f"database {out} holds {own:,} runs that were made with it, which are nowhere else: name another"
                )
    return place


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("export", "build"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    act = export_file if arguments.command == "export" else build_board
    try:
        log.info("%s: %d runs", arguments.out, act(arguments.source, arguments.out))
    except (NpasBenchError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    _main()
