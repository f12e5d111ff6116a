"""How long `npas-bench leaderboard` and `status` take on a database of many runs, as whole processes.

python benchmarks/scale_database.py [--runs 100000] [--db FILE|URL] [--repeat 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table
from sqlalchemy import inspect

from npas_bench.database.drivers import CodeVersion, enter
from npas_bench.database.keys import board_key
from npas_bench.database.opening import Database, locate, open_for_writing
from npas_bench.database.schema import CellRow, MetricRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterator

console = Console()
TASKS = ("digits", "cifar10", "cifar100", "imagenet", "scenes-retrieval", "image-folder:tiny-imagenet")
ARCHITECTURES = ("wrn-10-1", "wrn-16-2", "wrn-28-10", "resnet-20", "resnet-50", "densenet-bc-100-12")
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("full", {}),
    ("reduced", {}),
    ("ssn", {}),
    ("ssn", {"groups": 2, "mapping": "auto"}),
    ("ssn", {"upsample": "inter"}),
    ("superweights", {}),
    ("hypernetwork", {}),
    ("hashednets", {}),
    ("swrn", {}),
    ("albert", {}),
)
SHARES = (1, 2, 5, 10, 25, 50)
SEEDS = 5
FULL = 1_000_000
EPOCHS = 30
# About what a run of so many epochs keeps.
HISTORY = json.dumps([{"epoch": epoch, "loss": 1 / epoch, "seconds": 1.25, "lr": 0.1} for epoch in range(1, EPOCHS)])
LEDGER = json.dumps({"total": 99_000, "entries": [{"name": f"layer{i}.weight", "count": 3456} for i in range(12)]})
VERSIONS = json.dumps({"python": "3.11.2", "torch": "2.12.1", "npas-bench": "0.1.0"})
COMMANDS = {
    "leaderboard": ("leaderboard", "--source", "mine"),
    "leaderboard --task": ("leaderboard", "--source", "mine", "--task", "digits"),
    "status": ("status",),
}
_BATCH = 20_000


class Rows(NamedTuple):
    """What is to be stored, table by table."""

    cells: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    metrics: list[dict[str, Any]]


def make(database: Database, count: int, driver: str) -> None:
    """Fill an empty database with runs: most are done, some ended otherwise, the newest wait or are running."""
    rows = Rows([], [], [])
    for number, (cell, run) in enumerate(itertools.islice(_cells(), count), start=1):
        _add(rows, number, count, cell, run, driver)
        if len(rows.runs) >= _BATCH:
            _write(database, rows)
    _write(database, rows)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # A server does this by itself, some time.
        connection.exec_driver_sql(
            "VACUUM ANALYZE" if database.location.path is None else "PRAGMA wal_checkpoint(FULL)"
        )


def _cells() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Cells without end, table by table: what is stored of each, and of its run."""
    for recipe in itertools.count(1):
        content = {"epochs": EPOCHS, "lr": 0.1, "number": recipe}
        for task, architecture, device in itertools.product(TASKS, ARCHITECTURES, ("cpu", "cuda")):
            first = {"task": task, "architecture": architecture, "recipe": content}
            digest = hashlib.sha256(task.encode()).hexdigest()
            board = board_key(json.dumps(first), digest, device)
            for (method, options), share, seed in itertools.product(METHODS, SHARES, range(SEEDS)):
                if method == "full" and share != SHARES[0]:
                    continue
                percent = 100 if method == "full" else share
                canonical = json.dumps(
                    first | {"method": method, "options": options, "budget": percent, "seed": seed, "device": device}
                )
                cell = {
                    "identity": hashlib.sha256(canonical.encode()).hexdigest(),
                    "identity_version": 1,
                    "canonical": canonical,
                    "task": task,
                    "architecture": architecture,
                    "method": method,
                    "task_version": 1,
                    "method_version": 1,
                    "options": json.dumps(options),
                    "budget": FULL * percent // 100,
                    "budget_text": f"{percent}%",
                    "full": FULL,
                    "recipe": json.dumps(content),
                    "recipe_name": f"default+number={recipe}",
                    "seed": seed,
                }
                run = {"board": board, "data_digest": digest, "device_class": device, "grid": f"grid-{recipe % 20}"}
                yield cell, run


def _add(rows: Rows, number: int, count: int, cell: dict[str, Any], run: dict[str, Any], driver: str) -> None:
    left = count - number
    state = "running" if left % 200 == 7 and left < count // 50 else "pending"
    if left >= count // 50:
        too_small = cell["budget"] < FULL // 50 and cell["method"] in ("ssn", "superweights", "swrn", "albert")
        state = random.choices(("unsupported" if too_small else "done", "failed", "cancelled"), (97, 1, 2))[0]  # noqa: S311
    ended = state in ("done", "unsupported", "failed")
    moment = str(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None) + timedelta(seconds=10 * number))
    rows.cells.append(cell)
    rows.runs.append(
        run
        | {
            "id": number,
            "uid": f"{number:032x}",
            "identity": cell["identity"],
            "state": state,
            "attempt": 0 if state == "pending" else 1,
            "driver": driver if state == "running" else None,
            "epoch": 3 if state == "running" else None,
            "current": int(ended),
            "created": moment,
            "started": None if state == "pending" else moment,
            "finished": moment if ended else None,
            "data_name": cell["task"],
            "data_label": cell["task"],
            "data_official": 1,
            "device": "x86_64",
            "versions": VERSIONS,
            "parameters": cell["budget"] - 7 if state == "done" else None,
            "ledger": LEDGER if state == "done" else None,
            "history": HISTORY if state == "done" else None,
            "seconds_per_step": random.uniform(0.01, 0.1) if state == "done" else None,  # noqa: S311
            "message": "the budget is too small (smallest possible: 1,637)" if state == "unsupported" else None,
        }
    )
    if state == "done":
        for position, (name, unit) in enumerate((("error@1", "%"), ("nll", ""))):
            value = random.uniform(1, 9)  # noqa: S311
            metric = {"run_id": number, "name": name, "value": value, "position": position, "unit": unit}
            rows.metrics.append(metric | {"higher_is_better": 0})


def _write(database: Database, rows: Rows) -> None:
    """Store rows past SQLAlchemy, which would take several times as long, and forget them."""
    with database.engine.begin() as connection:
        for table, part in ((CellRow, rows.cells), (RunRow, rows.runs), (MetricRow, rows.metrics)):
            if not part:
                continue
            # A database of an older schema lacks some of them.
            there = {column["name"] for column in inspect(connection).get_columns(table.__tablename__)}
            columns = [column for column in part[0] if column in there]
            values = [tuple(row[column] for column in columns) for row in part]
            names = ", ".join(f'"{column}"' for column in columns)
            if connection.dialect.name == "postgresql":
                driver: Any = connection.connection.driver_connection
                with driver.cursor() as cursor, cursor.copy(f"COPY {table.__tablename__} ({names}) FROM STDIN") as copy:
                    for value in values:
                        copy.write_row(value)
            else:
                marks = ", ".join("?" for _ in columns)
                statement = f"INSERT INTO {table.__tablename__} ({names}) VALUES ({marks})"  # noqa: S608
                connection.exec_driver_sql(statement, values)
            part.clear()


class Timed(NamedTuple):
    """One command, run several times."""

    command: str
    seconds: list[float]
    computing: list[float]
    peak: int
    lines: int


# What wait4 tells of a process includes what this one held when it was forked.
_CHILD = """
import sys
from npas_bench.cli.main import main
try:
    main(sys.argv[1:])
finally:
    with open("/proc/self/status") as status:
        print(*(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""


def measure(command: str, database: str, repeat: int) -> Timed:
    """Run a command in processes of its own; seconds of each, by the clock and computing, and the most memory."""
    words = [sys.executable, "-c", _CHILD, *COMMANDS[command], "--db", database]
    seconds, computing, peak, lines = [], [], 0, 0
    for _ in range(repeat):
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(  # noqa: S603
            words, check=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}
        )
        seconds.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        computing.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        peak = max(peak, int(done.stderr.split()[-1]) * 1024)
        lines = len(done.stdout.splitlines())
    return Timed(command, seconds, computing, peak, lines)


def main() -> None:
    """Make the database, if it is not there, and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--db", help="where to make it, and leave it; one that holds runs is measured as it is")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.db or str(Path(folder) / "scale.db")
        database = open_for_writing(locate(place))
        begun = time.perf_counter()
        with database.engine.connect() as connection:
            runs = connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one()
        if not runs:
            random.seed(0)
            make(database, arguments.runs, enter(database, CodeVersion("0", "benchmark")))
            runs = arguments.runs
            console.print(f"{runs:,} runs made in {time.perf_counter() - begun:.1f} s")
        database.close()
        timed = [measure(command, place, arguments.repeat) for command in COMMANDS]
    table = Table(
        title=f"{runs:,} runs, {database.engine.dialect.name}", title_justify="left", box=None, pad_edge=False
    )
    for name in ("command", "median", "least", "most", "computing", "peak memory", "lines"):
        table.add_column(name, justify="left" if name == "command" else "right")
    for one in timed:
        figures = (statistics.median(one.seconds), min(one.seconds), max(one.seconds), statistics.median(one.computing))
        table.add_row(one.command, *(f"{s:.2f} s" for s in figures), f"{one.peak / 2**20:.0f} MiB", str(one.lines))
    console.print(table)
    if arguments.json:
        record = {"runs": runs, "database": database.engine.dialect.name, "commands": [one._asdict() for one in timed]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
