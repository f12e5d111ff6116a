"""Results that travel: what an export holds, what an import takes, and what it leaves alone."""

import copy
import dataclasses
import hashlib
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.engine import Engine

from npas_bench import plugins
from npas_bench.budget import Ledger
from npas_bench.cells.cell import Cell
from npas_bench.database import opening
from npas_bench.database.drivers import CodeVersion, enter
from npas_bench.database.exchange import files as exchange
from npas_bench.database.exchange import importing
from npas_bench.database.exchange.files import check_files, export_records, write_records
from npas_bench.database.exchange.importing import add_records, import_files, origin_of
from npas_bench.database.exchange.parts import AttemptRecord, CostRecord, EpochRecord, LedgerRecord
from npas_bench.database.exchange.record import schema_text
from npas_bench.database.grids import GridRuns
from npas_bench.database.keys import RunKey
from npas_bench.database.opening import locate, open_beside, open_for_import, open_for_reading, open_for_writing
from npas_bench.database.queries.results import find_run, latest_runs, read_results
from npas_bench.database.runs import add_runs, claim_run, finish_run, newest_runs
from npas_bench.database.schema import DriverRow, RunRow
from npas_bench.errors import DatabaseError, UnknownName
from npas_bench.runner.executors import Ended
from npas_bench.runner.work import Cost
from npas_bench.training.loop import EpochReport
from tests.conftest import REPOSITORY

RESULTS = sorted((REPOSITORY / "results").glob("*.jsonl"))
# Files as past formats were written, of runs that ended in every way.
PAST = {number: Path(__file__).parent / f"records-{number}.jsonl" for number in (1, 2, 3, 4)}
EXAMPLE = json.loads(PAST[1].read_text(encoding="utf-8").splitlines()[1])
INSTALLED = plugins.tasks.load(EXAMPLE["cell"]["task"]).version


def record(seed=0, *, metrics=None, **run):
    """A record of format 5 and of the installed version of its task, of a cell of its own for every seed."""
    cell = EXAMPLE["cell"] | {"seed": seed, "task_version": INSTALLED}
    said = json.loads(cell["canonical"]) | {"seed": seed, "task_version": INSTALLED}
    cell["canonical"] = json.dumps(said, sort_keys=True, separators=(",", ":"))
    cell["identity"] = sha(cell["canonical"])
    made = {"uid": f"{seed:032x}", "created": "2026-01-01T00:00:00Z", "finished": "2026-01-01T01:00:00Z"} | run
    made = {"started": made["created"]} | made | ({"finished": run["created"]} | run if "created" in run else {})
    fields = EXAMPLE["run"] | {"train_seconds": 1.5, "attempts": None, "origin": None} | made
    if metrics is None:
        metrics = EXAMPLE["metrics"] if fields["state"] == "done" else []
    return copy.deepcopy({"format": 5, "cell": cell, "run": fields, "metrics": metrics})


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def file_of(*records, name="r.jsonl"):
    path = Path(name)
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records), encoding="utf-8")
    return path


def rows(database):
    return [find_run(database, number) for number in sorted(latest_runs(database, 1000))]


def own_run(database, seed=0, state="done", end=True):
    """A run made in this database, of the cell of a record."""
    made = record(seed)
    fields = ("data_name", "data_label", "data_digest", "data_official", "device_class", "device")
    run = {"identity": made["cell"]["identity"]} | {name: made["run"][name] for name in fields}
    (number,) = add_runs(database, [made["cell"]], [run])
    claim_run(database, number, enter(database, CodeVersion("1", "code")), "token", {})
    if end:
        keep = ("name", "value", "unit", "higher_is_better")
        metrics = [{name: metric[name] for name in keep} for metric in made["metrics"]] if state == "done" else []
        finish_run(database, number, "token", {"state": state, "parameters": 5, "structure": {}}, metrics)
    return number


def test_what_is_exported_and_imported_is_exported_alike(database):
    own_run(database)
    own_run(database, 1, "unsupported")
    own_run(database, 2, end=False)
    with database.session.begin() as session:
        session.execute(update(RunRow).where(RunRow.id == 1).values(attempts=[Ended("memory", 2.5).as_json()]))
    write_records(export_records(database), Path("mine.jsonl"))
    other = open_for_writing(locate("other.db"))
    assert add_records(other, [Path("mine.jsonl")]) == (2, 0, 0, 0)
    lines = [json.loads(line) for line in export_records(database)]
    again = [json.loads(line) for line in export_records(other)]
    assert {line["run"].pop("origin") for line in again} == {"mine.jsonl"}
    assert {line["run"].pop("origin") for line in lines} == {None}
    assert again == lines
    assert [(r.state, r.value is None) for r in read_results(other)] == [("done", False), ("unsupported", True)]
    # Further on they keep the name of the file they first came from; where they are from they are known.
    write_records(export_records(other), Path("theirs.jsonl"))
    third = open_for_writing(locate("third.db"))
    add_records(third, [Path("theirs.jsonl")])
    assert {row.origin for row in rows(third)} == {"mine.jsonl"}
    assert add_records(database, [Path("theirs.jsonl")]) == (0, 0, 2, 0)
    assert {row.origin for row in rows(database)} == {None}
    other.close()
    third.close()


def test_an_export_names_no_host_token_or_driver(database):
    own_run(database)
    (line,) = export_records(database)
    assert json.loads(line)["run"].keys().isdisjoint({"id", "token", "driver", "board", "current"})
    with database.session() as session:
        (driver,) = session.scalars(select(DriverRow))
    assert driver.id not in line
    assert driver.host not in line
    assert "token" not in line


def test_an_export_takes_the_runs_of_a_grid_or_task(database):
    add_records(database, [file_of(record(0, grid="one"), record(1, grid="two"))])
    assert [json.loads(line)["cell"]["seed"] for line in export_records(database, grid=GridRuns("two", ("two",)))] == [
        1
    ]
    assert len(list(export_records(database, task="digits"))) == 2
    with pytest.raises(UnknownName, match="did you mean two"):
        list(export_records(database, grid=GridRuns("twoo", ("twoo",))))


def test_an_export_is_a_whole_file_or_none():
    def broken():
        yield "{}"
        raise DatabaseError("in the middle")

    with pytest.raises(DatabaseError, match="in the middle"):
        write_records(broken(), Path("out.jsonl"))
    assert list(Path().iterdir()) == []
    Path("out.jsonl").write_text("before", encoding="utf-8")
    with pytest.raises(DatabaseError, match=r"out.jsonl is there already: add --force"):
        write_records(["{}"], Path("out.jsonl"))
    with pytest.raises(DatabaseError, match="nothing to export"):
        write_records([], Path("out.jsonl"), overwrite=True)
    assert Path("out.jsonl").read_text(encoding="utf-8") == "before"
    assert write_records(["{}"], Path("out.jsonl"), overwrite=True) == 1
    assert [path.name for path in Path().iterdir()] == ["out.jsonl"]
    for bad in ("no/where.jsonl", "."):
        with pytest.raises(DatabaseError, match=r"make it first|is there already"):
            write_records(["{}"], Path(bad))


@pytest.mark.parametrize("path", [*PAST.values(), *RESULTS], ids=lambda path: path.name)
def test_files_of_past_formats_and_the_projects_results_are_loadable(database, path):
    lines = path.read_text(encoding="utf-8").splitlines()
    formats = {json.loads(line)["format"] for line in lines}
    assert all(formats == {number} for number, past in PAST.items() if past == path)
    assert add_records(database, [path]) == (len(lines), 0, 0, 0)
    assert add_records(database, [path]) == (0, 0, len(lines), 0)
    assert all(row.origin and len(row.uid) == 32 for row in rows(database)[:5])
    assert len(list(export_records(database))) == len(lines)


def test_the_schema_in_the_docs_is_the_models():
    assert (REPOSITORY / "docs" / "record.schema.json").read_text(encoding="utf-8") == schema_text()


def test_what_is_exported_is_what_the_schema_says():
    validator = pytest.importorskip("jsonschema").Draft202012Validator(json.loads(schema_text()))
    database = open_for_writing(locate("runs.db"))
    add_records(database, RESULTS)
    for line in list(export_records(database))[::20]:
        validator.validate(json.loads(line))
    database.close()


def test_records_hold_what_runs_are_stored_with():
    assert set(LedgerRecord.model_fields) >= set(Ledger.model_fields)
    assert set(CostRecord.model_fields) == set(Cost.model_fields)
    assert set(EpochRecord.model_fields) >= set(EpochReport._fields)
    assert set(AttemptRecord.model_fields) == set(Ended._fields)
    fields = {field.name for field in dataclasses.fields(Cell) if field.init}
    assert fields - {"budget_text"} <= set(record()["cell"])


def test_a_record_is_taken_once_and_a_later_attempt_takes_its_place(database):
    add_records(database, [file_of(record(0, attempt=2))])
    assert add_records(database, [file_of(record(0, attempt=2), record(0, attempt=1))]) == (0, 0, 2, 0)
    worse = [EXAMPLE["metrics"][0] | {"value": 50.0}]
    later = record(0, attempt=3, metrics=worse, finished="2026-01-01T02:00:00Z")
    assert add_records(database, [file_of(later, name="later.jsonl")]) == (0, 1, 0, 0)
    (row,) = rows(database)
    assert (row.id, row.attempt, row.current, row.origin) == (1, 3, True, "r.jsonl")
    assert [metric.value for metric in row.metrics] == [50.0]


def test_repeats_within_a_file_are_taken_once(database):
    assert add_records(database, [file_of(record(0), record(1), record(0), record(0, attempt=2))]) == (2, 1, 1, 0)
    assert [row.attempt for row in rows(database)] == [2, 1]


def test_a_uid_of_another_run_is_refused(database):
    add_records(database, [file_of(record(0))])
    for forged in (record(1, uid=f"{0:032x}", attempt=9), record(0, created="2026-01-02T00:00:00Z", attempt=9)):
        with pytest.raises(DatabaseError, match=r"line 2.*uid of another run: run 1 of this"):
            add_records(database, [file_of(record(2), forged)])
    assert [row.attempt for row in rows(database)] == [1]


def test_of_a_cells_runs_the_board_shows_the_one_that_finished_last_and_a_failed_one_only_for_want_of_others(database):
    def shown():
        (one,) = [row.uid[-1] for row in rows(database) if row.current]
        return one

    def arrive(uid, hour, state="done"):
        parameters = 5 if state == "done" else None
        fields = {"uid": f"{uid:032x}", "finished": f"2026-01-01T{hour:02}:00:00Z", "state": state}
        add_records(database, [file_of(record(0, parameters=parameters, ledger=None, **fields))])
        return shown()

    assert arrive(1, 5, "failed") == "1"
    assert arrive(2, 3) == "2"
    assert arrive(3, 2) == "2"
    assert arrive(4, 4) == "4"
    assert arrive(5, 9, "failed") == "4"


def test_many_runs_of_a_cell_in_one_file_leave_one_shown(database):
    many = [record(i % 3, uid=f"{i:032x}", finished=f"2026-01-01T{i % 24:02}:00:00Z") for i in range(30)]
    add_records(database, [file_of(*many)])
    assert sorted(int(row.uid, 16) for row in rows(database) if row.current) == [21, 22, 23]


def test_finished_runs_of_ones_own_stay_and_the_newest_is_shown(database):
    own = own_run(database)
    mine = find_run(database, own)
    line = json.loads(next(export_records(database)))
    line["run"]["attempt"] += 5
    line["metrics"][0]["value"] = 0.0
    before = [(metric.name, metric.value) for metric in mine.metrics]
    assert add_records(database, [file_of(line, record(0))]) == (1, 0, 0, 1)
    after = find_run(database, own)
    assert (after.attempt, after.current, after.origin) == (1, True, None)
    assert [(metric.name, metric.value) for metric in after.metrics] == before
    key = RunKey(mine.identity, mine.data_digest, mine.device_class)
    assert newest_runs(database, [key])[key].id == own


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_run_under_way_is_left_alone_and_goes_on(database, state):
    number = own_run(database, end=False)
    row = find_run(database, number)
    key = RunKey(row.identity, row.data_digest, row.device_class)
    imported = record(0, state=state)
    assert add_records(database, [file_of(imported)]).added == 1
    assert newest_runs(database, [key])[key] == (number, "running")
    after = find_run(database, number)
    assert (after.state, after.token, after.attempt, after.current) == ("running", "token", 1, False)
    assert finish_run(database, number, "token", {"state": "done"}, [])
    assert [run.id for run in rows(database) if run.current] == [number]
    # The same run from elsewhere, where it has come to an end.
    open_one = own_run(database, 1, end=False)
    uid = find_run(database, open_one)
    ended = record(1, uid=uid.uid, created=uid.created.isoformat(), attempt=9)
    assert add_records(database, [file_of(ended)]) == (0, 0, 0, 1)
    assert find_run(database, open_one).state == "running"


def test_an_import_goes_beside_a_driver_unless_it_would_hold_it_up(location, monkeypatch):
    driver = open_for_writing(location)
    number = own_run(driver, 7, end=False)
    beside = open_for_import(location)
    assert import_files(beside, check_files([file_of(record(0))])).added == 1
    assert finish_run(driver, number, "token", {"state": "done"}, [])
    monkeypatch.setattr(importing, "MOST_BESIDE", 2)
    more = check_files([file_of(*(record(seed) for seed in range(3)))])
    if location.path:
        with pytest.raises(DatabaseError, match="at work on it, which 3 records would hold up"):
            import_files(beside, more)
    else:
        assert import_files(beside, more).added == 2
    beside.close()
    driver.close()


def test_imports_and_finishing_runs_at_once_leave_one_shown(location):
    driver = open_for_writing(location)
    numbers = [own_run(driver, seed, end=False) for seed in range(6)]
    path = file_of(*(record(seed) for seed in range(6)))
    other = open_beside(location)

    def finish():
        return [finish_run(driver, number, "token", {"state": "done"}, []) for number in numbers]

    with ThreadPoolExecutor(2) as pool:
        ended, added = pool.submit(finish), pool.submit(add_records, other, [path])
        assert all(ended.result())
        assert added.result().added == 6
    assert sum(row.current for row in rows(driver)) == 6
    other.close()
    driver.close()


def test_two_imports_of_a_file_at_once_add_it_once(location):
    databases = [open_for_import(location), open_for_import(location)]
    checked = check_files([file_of(*(record(seed) for seed in range(40)))])
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda database: import_files(database, checked), databases))
    assert sorted(one.added for one in done) == [0, 40]
    assert sum(row.current for row in rows(databases[0])) == 40
    for opened in reversed(databases):
        opened.close()


def test_large_files_go_in_and_out_in_parts(database, monkeypatch):
    monkeypatch.setattr(importing, "_BATCH", 7)
    monkeypatch.setattr(exchange, "_PAGE", 7)
    many = [record(seed % 14, uid=f"{seed:032x}") for seed in range(28)]
    assert add_records(database, [file_of(*many)]).added == 28
    assert [json.loads(line)["run"]["uid"] for line in export_records(database)] == [one["run"]["uid"] for one in many]
    assert sum(row.current for row in rows(database)) == 14


def test_texts_too_long_for_a_record_are_cut(database):
    own_run(database)
    with database.session.begin() as session:
        session.execute(update(RunRow).values(message="x" * 30_000, grid="g" * 2000))
    other = open_for_writing(locate("other.db"))
    write_records(export_records(database), Path("r.jsonl"))
    add_records(other, [Path("r.jsonl")])
    assert [(len(row.message), len(row.grid)) for row in rows(other)] == [(20_000, 1000)]
    other.close()


def test_a_stored_number_that_json_cannot_say_is_named(database):
    own_run(database)
    with database.session.begin() as session:
        session.execute(update(RunRow).values(seconds_per_step=float("inf")))
    with pytest.raises(DatabaseError, match="run 1 cannot be exported"):
        list(export_records(database))


def damaged(where, value):
    made = record()
    part = made
    *path, last = where.split(".")
    for step in path:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    return made


BAD = {
    "not json": ("not json", "is not JSON"),
    "a cut line": (json.dumps(record())[:500], "is not JSON"),
    "a list": ("[]", "is not a JSON object"),
    "nothing in it": ("{}", "format is missing; cell is missing"),
    "a newer format": (json.dumps(record() | {"format": 6}), "format 6: made by a newer npas-bench; update"),
    "a format that is text": (json.dumps(record() | {"format": "2"}), 'format should be 5, not "2"'),
    "an old format of nothing": ('{"format": 1, "cell": {}, "run": {}, "metrics": []}', "cell.identity is missing"),
    "a repeated key": ('{"format": 5, ' + json.dumps(record())[1:], "names 'format' twice"),
    "NaN": (json.dumps(damaged("metrics.0.value", float("nan"))), "holds NaN"),
    "infinity": (json.dumps(damaged("metrics.0.value", float("inf"))), "holds Infinity"),
    "infinity by size": (json.dumps(damaged("run.train_seconds", 8.25)).replace("8.25", "1e999"), "finite number"),
    "infinity deep inside": (
        json.dumps(damaged("run.structure", {"a": [8.25]})).replace("8.25", "1e999"),
        "run.structure holds a number that is not finite",
    ),
    "deep lists": ("[" * 100_000, "is nested more"),
    "deep tables": (damaged("run.structure", json.loads('{"a":' * 90 + "1" + "}" * 90)), "nested|recursion"),
    "a huge number": ('{"format": ' + "9" * 5000 + "}", "is not JSON"),
    "a huge count": (damaged("run.parameters", 2**70), "run.parameters"),
    "NUL": (damaged("run.message", "a\0b"), "holds a character that is none"),
    "half a pair": (json.dumps(record()).replace("digits", "\\ud800", 1), "holds a character that is none"),
    "text for a number": (damaged("run.attempt", "x" * 10_000), r"run.attempt should be a valid integer, not \"x+…$"),
    "truth for a number": (damaged("cell.seed", True), "cell.seed should be a valid integer"),
    "a number for text": (damaged("cell.task", 3), "cell.task should be a valid string"),
    "a long name": (damaged("run.device", "x" * 201), "run.device .*at most 200"),
    "a field of its own": (damaged("run.colour", "red"), "run.colour is no field of a record"),
    "a token": (damaged("run.token", "abc"), "run.token is no field of a record"),
    "a run under way": (damaged("run.state", "running"), "run.state should be 'done', 'failed' or 'unsupported'"),
    "negative parameters": (damaged("run.parameters", -1), "run.parameters .*greater than or equal to 0"),
    "negative seconds": (damaged("run.seconds_per_step", -0.5), "run.seconds_per_step"),
    "no time zone": (damaged("run.created", "2026-01-01T00:00:00"), "run.created .*timezone"),
    "a time that is a number": (damaged("run.created", 5), "run.created should be a valid datetime"),
    "the year 1": (damaged("run.created", "0001-01-01T00:00:00+14:00"), "run.created is no time"),
    "the future": (damaged("run.finished", "2222-01-01T00:00:00Z"), "is in the future"),
    "another seed": (damaged("cell.seed", 1), "does not agree with its canonical form: seed"),
    "another recipe": (
        damaged("cell.recipe", EXAMPLE["cell"]["recipe"] | {"clip": 2.0}),
        "does not agree with its canonical form: recipe",
    ),
    "other options": (damaged("cell.options", {"a": 1}), "canonical form: options"),
    "another identity": (damaged("cell.identity", "0" * 64), "identity that is not the sha256"),
    "another canonical form": (damaged("cell.canonical", "{}"), "identity that is not the sha256"),
    "a newer identity": (damaged("cell.identity_version", 2), "newer npas-bench"),
    "over the budget": (record(ledger=None, parameters=1552), "1,552 parameters are more than the budget of 1,551"),
    "not what the ledger says": (damaged("run.parameters", 7), "what the ledger says"),
    "done without a metric": (damaged("metrics", []), "if and only if it is done"),
    "two metrics of a name": (damaged("metrics.1.name", "error@1"), "names of their own"),
    "metrics out of order": (damaged("metrics.0.position", 5), "positions 0 to 3"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_is_named_in_one_short_line_and_nothing_is_added(tmp_path, what):
    line, message = BAD[what]
    database = open_for_writing(locate("runs.db"))
    path = file_of(record(3), line)
    with pytest.raises(DatabaseError, match=f"r.jsonl, line 2, is no record of a run: .*{message}") as caught:
        add_records(database, [path])
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
    assert latest_runs(database, 1) == []
    database.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no records"),
        (b"\n  \n", "holds no records"),
        (b"\x1f\x8b\x08\x00", "is compressed: unpack it first, with gunzip"),
        (bytes(range(256)), "line 1, is no record of a run: is not"),
        (b"SQLite format 3\0" + b"\xff" * 100, "is not UTF-8 text"),
        (b"x" * (17 * 2**20), "line 1, .*is longer than 16 MiB"),
    ],
    ids=["empty", "blank", "gzip", "binary", "database", "one endless line"],
)
def test_a_file_of_something_else_is_refused(content, message):
    Path("f").write_bytes(content)
    with pytest.raises(DatabaseError, match=message) as caught:
        check_files([Path("f")])
    assert len(str(caught.value)) < 300


def test_a_file_that_is_none_is_refused():
    with pytest.raises(DatabaseError, match=r"nothing.jsonl does not exist"):
        check_files([Path("nothing.jsonl")])
    with pytest.raises(DatabaseError, match="is a folder"):
        check_files([Path()])
    with pytest.raises(DatabaseError, match="is no file"):
        check_files([Path("/dev/null")])


def test_files_may_come_from_other_systems(database):
    text = json.dumps(record(0)) + "\r\n\r\n" + json.dumps(record(1))
    Path("r.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert add_records(database, [Path("r.jsonl")]).added == 2


def test_of_several_files_all_are_added_or_none(database):
    good, bad = file_of(record(0), name="good.jsonl"), file_of(record(1), "{}", name="bad.jsonl")
    with pytest.raises(DatabaseError, match=r"bad.jsonl, line 2"):
        add_records(database, [good, bad])
    assert latest_runs(database, 1) == []
    assert add_records(database, [good, file_of(record(1), name="bad.jsonl")]).added == 2
    assert [row.origin for row in rows(database)] == ["good.jsonl", "bad.jsonl"]


def test_a_file_that_changes_while_it_is_read_adds_nothing(database):
    checked = check_files([file_of(record(0))])
    file_of(record(0), record(1))
    with pytest.raises(DatabaseError, match="was changed while it was read"):
        import_files(database, checked)
    assert latest_runs(database, 1) == []


def test_an_origin_is_a_files_name_alone():
    assert origin_of(Path("/home/me/secret/r.jsonl")) == "r.jsonl"
    assert origin_of(Path("a\x1b[31mb\n.jsonl")) == r"a\x1b[31mb\n.jsonl"
    assert len(origin_of(Path("x" * 250))) == 200


def test_hostile_text_is_kept_as_it_is(database):
    hostile = "[red]x[/] \x1b[31m \N{RIGHT-TO-LEFT OVERRIDE} '; DROP TABLE runs; --"
    add_records(database, [file_of(record(0, message=hostile, device=hostile))])
    (row,) = rows(database)
    assert (row.message, row.device) == (hostile, hostile)
    assert json.loads(next(export_records(database)))["run"]["message"] == hostile


def test_a_full_disk_leaves_the_database_as_it_was():
    database = open_for_writing(locate("runs.db"))
    add_records(database, [file_of(record(0))])
    database.close()

    def small(connection, _):
        connection.execute("PRAGMA max_page_count=60")

    event.listen(Engine, "connect", small)
    try:
        full = open_for_import(locate("runs.db"))
        with pytest.raises(DatabaseError, match=r"runs.db failed: database or disk is full. Nothing was imported"):
            add_records(full, [file_of(*(record(seed) for seed in range(1, 100)))])
        assert len(latest_runs(full, 9)) == 1
        full.close()
    finally:
        event.remove(Engine, "connect", small)
    with sqlite3.connect("runs.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    reader = open_for_reading(locate("runs.db"))
    assert len(list(export_records(reader))) == 1
    reader.close()


def test_a_database_that_cannot_be_written_is_said_so(monkeypatch):
    open_for_writing(locate("runs.db")).close()
    engine = opening.make_engine
    # As on a read-only medium; permissions do not bind the superuser.
    with monkeypatch.context() as patch:
        patch.setattr(opening, "make_engine", lambda location, *_, **__: engine(location, "ro"))
        for opener in (open_for_writing, open_for_import):
            with pytest.raises(DatabaseError, match=r"runs.db cannot be opened: attempt to write a readonly database"):
                opener(locate("runs.db"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opening.FileLock, "acquire", refuse)
    for opener in (open_for_writing, open_for_import, opening.upgrade):
        with pytest.raises(DatabaseError, match=r"runs.db cannot be written: .*Permission denied"):
            opener(locate("runs.db"))
