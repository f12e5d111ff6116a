"""Several drivers on one server, a server that goes away for a while, and a file that is written and read at once."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.results import find_run, latest_runs
from tests import processes

GRID = """
tasks: [digits]
methods: [full, ssn, reduced]
budgets: [10%]
seeds: 10
"""
CELLS = 30


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    return tmp_path


def driver(folder, url, epochs=1):
    command = ["run", "--grid", "grid.yaml", "--epochs", epochs, "--executor", "inline", "--device", "cpu"]
    command += ["--db", url, "--workdir", folder / "work"]
    return processes.start(command, folder, folder / f"log-{secrets.token_hex(4)}")


def results(url):
    database = open_for_reading(locate(url))
    rows = [find_run(database, run) for run in sorted(latest_runs(database, 999))] if database else []
    if database:
        database.close()
    return rows


def numbers(rows):
    return {row.identity: {m.name: m.value for m in row.metrics} for row in rows}


def logs(folder):
    return "\n".join(path.read_text() for path in folder.glob("log-*"))


@pytest.fixture
def database():
    """An empty database on the server that NPAS_BENCH_TEST_POSTGRES names."""
    server = os.environ.get("NPAS_BENCH_TEST_POSTGRES")
    if not server:
        pytest.skip("needs a PostgreSQL server, named by NPAS_BENCH_TEST_POSTGRES")
    admin, name = create_engine(server, isolation_level="AUTOCOMMIT"), f"test_{secrets.token_hex(6)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.mark.slow
def test_two_drivers_share_a_grid_and_run_no_cell_twice(grid, database):
    drivers = [driver(grid, database) for _ in range(2)]
    assert [process.wait(200) for process in drivers] == [0, 0], logs(grid)
    rows = results(database)
    assert [(row.state, row.attempt) for row in rows] == [("done", 1)] * CELLS
    assert len({row.identity for row in rows}) == CELLS
    assert len({row.driver for row in rows}) == 2


@pytest.mark.slow
def test_what_a_killed_driver_had_is_taken_over_by_the_other(grid, database):
    first = driver(grid, database)
    wait_until(lambda: sum(row.state == "done" for row in results_or_none(database)) >= 2, first)
    second = driver(grid, database)
    wait_until(lambda: len({row.driver for row in results(database) if row.driver}) == 2, second)
    first.kill()
    first.wait()
    assert second.wait(200) == 0, logs(grid)
    rows = results(database)
    assert [row.state for row in rows] == ["done"] * CELLS
    assert max(row.attempt for row in rows) <= 2


class Server:
    """A PostgreSQL server of the test's own."""

    def __init__(self, folder):
        self.folder = folder
        self.binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
        if self.binaries is None or (os.getuid() == 0 and not shutil.which("runuser")):
            pytest.skip("needs PostgreSQL's server programs")
        folder.mkdir()
        if os.getuid() == 0:
            # PostgreSQL refuses to run as root, and its user must reach the folder.
            shutil.chown(folder, "postgres")
            for parent in folder.parents:
                if parent.stat().st_uid == os.getuid() and str(parent) != "/":
                    parent.chmod(parent.stat().st_mode | 0o111)
        self.call("initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres")
        self.url = f"postgresql+psycopg://postgres@/postgres?host={folder}"

    def call(self, program, *arguments):
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        command = [*user, str(self.binaries / program), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder}"
        self.call("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-o", options, "start")

    def stop(self, mode):
        self.call("pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")


@pytest.fixture
def own_folder():
    # Not pytest's: whenever another session of it begins, that is closed to the server's user.
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_server_that_is_restarted_in_the_middle_loses_nothing(grid, own_folder):
    server = Server(own_folder / "server")
    server.start()
    try:
        process = driver(grid, server.url)
        for mode, at in (("fast", 3), ("immediate", 12)):
            wait_until(lambda at=at: sum(row.state == "done" for row in results_or_none(server.url)) >= at, process)
            missed = logs(grid).count("the database does not answer")
            server.stop(mode)
            wait_until(lambda missed=missed: logs(grid).count("the database does not answer") > missed, process)
            server.start()
        assert process.wait(250) == 0, logs(grid)
        rows = results(server.url)
        assert [(row.state, row.attempt) for row in rows] == [("done", 1)] * CELLS
        undisturbed = driver(grid, "undisturbed.db")
        assert undisturbed.wait(250) == 0
        assert numbers(rows) == numbers(results("undisturbed.db"))
        assert "the database does not answer" in logs(grid)
    finally:
        server.stop("immediate")


def results_or_none(url):
    from npas_bench.errors import DatabaseError

    try:
        return results(url)
    except DatabaseError:  # its tables are being made
        return []


def wait_until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end
        time.sleep(0.1)


WRITER = """
import sys, time
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.drivers import CodeVersion, beat, enter
from npas_bench.database.runs import add_runs, claim_run, finish_run
from tests.database.test_runs import cell, metric, run
database = open_for_writing(locate("runs.db"))
me, end, number = enter(database, CodeVersion("1", "c")), time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    name = f"{number:08}"
    (row,) = add_runs(database, [cell(name)], [run(name)])
    assert claim_run(database, row, me, "t", {})
    beat(database, me, {row: 1})
    assert finish_run(database, row, "t", {"state": "done"}, [metric(number)])
    number += 1
database.close()
print(number)
"""
READER = """
import sys, time
from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.results import read_results
from npas_bench.database.queries.counts import count_states
end, seen, times = time.monotonic() + float(sys.argv[1]), 0, 0
while time.monotonic() < end:
    database = open_for_reading(locate("runs.db"))
    if database is not None:
        counts = count_states(database)
        done = len([r for r in read_results(database) if r.state == "done"])
        assert done >= seen
        seen, times = done, times + 1
        database.close()
print(times)
"""


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(8, marks=pytest.mark.slow), pytest.param(60, marks=pytest.mark.exhaustive)],
)
def test_a_file_is_written_and_read_by_eight_at_once_without_a_lost_write(seconds, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])}

    def start(program):
        command = [sys.executable, "-c", program, str(seconds)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)

    writer, readers = start(WRITER), [start(READER) for _ in range(8)]
    ended = [(process.communicate(timeout=seconds + 100), process.returncode) for process in (writer, *readers)]
    for (_, errors), code in ended:
        assert code == 0, errors
    written, *read = (int(output) for (output, _), _ in ended)
    assert written > 10
    assert min(read) > 0
    database = open_for_reading(locate(str(tmp_path / "runs.db")))
    values = [row.metrics[0].value for row in (find_run(database, run) for run in latest_runs(database, 10**6))]
    database.close()
    assert sorted(values) == list(range(written))
