"""What an import refuses: numbers that no run can have, times out of order, recipes of nothing, one id told twice."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from npas_bench.database.exchange.files import export_records, write_records
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.exchange.installed import contradiction
from npas_bench.database.exchange.reading import BadRecord, read_record
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.queries.results import latest_runs
from npas_bench.database.schema import RunRow
from npas_bench.errors import DatabaseError
from npas_bench.recipe.stored import differing
from npas_bench.tasks import Metric, Task
from npas_bench.tasks.classification.base import ClassificationTask
from tests.database.test_exchange import EXAMPLE, damaged, file_of, own_run, record, sha

COST = {"train_seconds": 1.0, "seconds_per_step": 0.1, "evaluate_seconds": 0.1, "peak_memory": 10**6}
VALIDATION = {
    **{"subject": "all", "split": "validation", "metric": "error@1"},
    **{"value": 5.0, "unit": "%", "higher_is_better": False},
}


def read(made):
    return read_record(json.dumps(made).encode(), datetime.now(UTC))


def refused(made):
    """Why a record is refused."""
    try:
        found = contradiction(read(made))
    except BadRecord as error:
        found = str(error)
    assert found is not None
    assert len(found) < 400
    return found


def with_cell(seed=0, **fields):
    """A record whose cell has other fields and an identity that fits them."""
    made = record(seed)
    cell = made["cell"] | fields
    said = json.loads(cell["canonical"])
    said |= {name: value for name, value in fields.items() if name in said} | {"recipe": differing(cell["recipe"])}
    cell["canonical"] = json.dumps(said, sort_keys=True, separators=(",", ":"))
    cell["identity"] = sha(cell["canonical"])
    return made | {"cell": cell}


def with_metric(**fields):
    return damaged("metrics", [EXAMPLE["metrics"][0] | fields])


NUMBERS = {
    "a time of 1e308 s": (damaged("run.train_seconds", 1e308), "run.train_seconds should be less than"),
    "a time of 5e-324 s": (damaged("run.train_seconds", 5e-324), "run.train_seconds should be 0, or at least 1e-09"),
    "a step of 1e308 s": (damaged("run.seconds_per_step", 1e308), "run.seconds_per_step should be less than"),
    "a step of 1e-300 s": (damaged("run.seconds_per_step", 1e-300), "run.seconds_per_step should be 0, or at least"),
    "a cost of 1e308 s": (damaged("run.cost", COST | {"evaluate_seconds": 1e308}), "run.cost.evaluate_seconds should"),
    "a cost of 5e-324 s": (
        damaged("run.cost", COST | {"evaluate_seconds": 5e-324}),
        "run.cost.evaluate_seconds should",
    ),
    "2^63 bytes": (damaged("run.peak_memory", 2**63), "run.peak_memory should be less than or equal to"),
    "2^62 bytes": (damaged("run.peak_memory", 2**62), "run.peak_memory should be less than or equal to"),
    "2^63 operations": (damaged("run.cost", COST | {"forward_flops": 2**63}), "run.cost.forward_flops should be less"),
    "2^63 parameters": (damaged("run.parameters", 2**63), "run.parameters should be less than or equal to"),
    "2^63 - 1 parameters": (damaged("run.parameters", 2**63 - 1), "run.parameters should be less than or equal to"),
    "a budget of 2^63 - 1": (with_cell(budget=2**63 - 1), "cell.budget should be less than or equal to"),
    "a full size of 2^63 - 1": (with_cell(full=2**63 - 1), "cell.full should be less than or equal to"),
    "a loss of 1e308": (
        damaged(
            "run.history", [{"epoch": 1, "loss": 1e308, "learning_rate": 0.1, "seconds": 1, "seconds_per_step": 1}]
        ),
        "run.history.0.loss should be less than",
    ),
    "a metric of 1e308": (with_metric(value=1e308), "metrics.0.value should be less than"),
    "a metric of -1e308": (with_metric(value=-1e308), "metrics.0.value should be greater than"),
}
METRICS = {
    "an error of -5 %": (with_metric(value=-5.0), "error@1 is -5, which is below every possible value"),
    "an error of 100.1 %": (with_metric(value=100.1), "error@1 is 100.1, which is above every possible value"),
    "an error of -0.01 %": (with_metric(value=-0.01), "error@1 is -0.01, which is below"),
    "a likelihood above one": (
        damaged("metrics.2.value", -0.5),
        "nll is -0.5, which is below",
    ),
    "another unit": (with_metric(unit=""), "'error@1' is measured in % by task digits, and lower is better"),
    "another direction": (with_metric(higher_is_better=True), "'error@1' is measured in % by task digits, and lower"),
    "an unknown metric": (
        with_metric(name="accuracy"),
        "'accuracy' is none of task digits, which has error@1, error@5",
    ),
    "another primary metric": (
        damaged("metrics", [EXAMPLE["metrics"][2] | {"position": 0}]),
        "first metric is 'nll', and task digits ranks runs by 'error@1'",
    ),
    "an evaluation of -5 %": (
        record() | {"evaluations": [VALIDATION | {"value": -5.0}]},
        "error@1 is -5, which is below",
    ),
    "an evaluation of -5 % that is no metric of the task": (
        record() | {"evaluations": [VALIDATION | {"metric": "error@99", "value": -5.0}]},
        "error@99 is -5, which is below every possible value",
    ),
    "an evaluation of far more than 100 %": (
        record() | {"evaluations": [VALIDATION | {"metric": "accuracy", "value": 1e99, "higher_is_better": True}]},
        "accuracy is 1e\\+99, which is above every possible value",
    ),
    "an evaluation of a likelihood above one": (
        record() | {"evaluations": [VALIDATION | {"metric": "nll", "unit": "", "value": -0.5}]},
        "nll is -0.5, which is below every possible value",
    ),
    "an evaluation in another unit": (
        record() | {"evaluations": [VALIDATION | {"unit": "dB"}]},
        "'error@1' is measured in % by task digits, and lower is better",
    ),
    "an evaluation in another direction": (
        record() | {"evaluations": [VALIDATION | {"higher_is_better": True}]},
        "'error@1' is measured in % by task digits, and lower is better",
    ),
    "an evaluation of -5 % of a task that is not installed": (
        with_cell(task="elsewhere") | {"evaluations": [VALIDATION | {"value": -5.0}]},
        "error@1 is -5, which is below every possible value",
    ),
    "a task of the future": (with_cell(task_version=999), "version 999 of task 'digits', and version .* is installed"),
    "a method of the future": (with_cell(method_version=99), "version 99 of method '.*', and version .* is installed"),
}
TIMES = {
    "finished before created": {"created": "2026-01-02T00:00:00Z", "finished": "2026-01-01T00:00:00Z"},
    "finished before started": {"started": "2026-01-01T02:00:00Z", "finished": "2026-01-01T01:00:00Z"},
    "started before created": {"created": "2026-01-01T00:30:00Z", "started": "2026-01-01T00:00:00Z"},
    "started in years": {"started": "2036-01-01T00:00:00Z"},
    "created in years": {"created": "2036-01-01T00:00:00Z", "finished": "2036-01-02T00:00:00Z"},
}
RECIPES = {
    "no epochs": ({"epochs": 0}, "epochs: 0 is refused"),
    "a negative rate": ({"learning_rate": -0.1}, "learning_rate: -0.1 is refused"),
    "an unknown optimiser": ({"optimiser": "magic"}, "optimiser: 'magic' is refused"),
    "milestones that fall": ({"milestones": [0.6, 0.3]}, "milestones are rising shares"),
    "more parts than examples": ({"parts": 10**6}, "cannot be cut into 1000000 parts"),
    "settings of another optimiser": ({"optimiser": "adam", "momentum": 0.5}, "momentum does not fit optimiser adam"),
    "a number as text": ({"epochs": "3"}, "epochs: '3' is not how 3 is stored"),
    "truth for a number": ({"epochs": True}, "epochs: True is not how 1 is stored"),
    "a table for a number": ({"batch_size": {}}, "batch_size: {} is refused"),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_that_no_run_can_have_are_refused(what):
    made, message = NUMBERS[what]
    made["run"] |= {"ledger": None}
    assert message in refused(made)


@pytest.mark.parametrize("what", METRICS)
def test_metrics_that_a_task_cannot_measure_are_refused(what):
    made, message = METRICS[what]
    assert re.search(message, refused(made))


@pytest.mark.parametrize("what", TIMES)
def test_times_out_of_order_are_refused(what):
    assert re.search("is created, then started, then finished|is in the future", refused(record(**TIMES[what])))


@pytest.mark.parametrize("what", RECIPES)
def test_recipes_that_nothing_can_be_trained_by_are_refused(what):
    fields, message = RECIPES[what]
    made = with_cell(recipe=EXAMPLE["cell"]["recipe"] | fields)
    assert "has a recipe that nothing can be trained by: " in (said := refused(made))
    assert message in said


def test_numbers_at_the_ends_of_what_runs_can_have_are_taken():
    cost = COST | {"train_seconds": 1e10, "evaluate_seconds": 1e-9, "peak_memory": 2**60, "forward_flops": 2**62}
    made = with_cell(budget=2**62, full=2**62)
    made["run"] |= {"ledger": None, "parameters": 2**62, "cost": cost, "seconds_per_step": 0.0, "train_seconds": 1e-9}
    for value in (0.0, 100.0, 100.00001):
        made["metrics"][0]["value"] = value
        assert contradiction(read(made)) is None


def test_evaluations_that_the_task_does_not_name_have_units_and_ranges_of_their_own():
    strange = {"metric": "psnr", "unit": "dB", "value": -300.0, "higher_is_better": True}
    made = record() | {"evaluations": [VALIDATION, VALIDATION | strange]}
    assert contradiction(read(made)) is None


def test_a_task_that_is_not_installed_is_judged_by_its_units():
    made = with_cell(task="elsewhere")
    made["metrics"] = [{"name": "mse", "value": -3.0, "unit": "dB", "higher_is_better": True, "position": 0}]
    assert contradiction(read(made)) is None
    made["metrics"][0]["unit"] = "%"
    assert "mse is -3, which is below every possible value" in refused(made)


def test_a_task_may_state_the_range_of_a_metric(monkeypatch):
    error = Metric("error@1", "%", higher_is_better=False, lowest=-10.0, highest=300.0)
    monkeypatch.setattr(ClassificationTask, "metrics", (error,))
    made = damaged("metrics", [EXAMPLE["metrics"][0] | {"value": -5.0}])
    assert contradiction(read(made)) is None
    made["metrics"][0]["value"] = 301.0
    assert "error@1 is 301, which is above" in refused(made)


def test_results_of_an_older_version_are_judged_by_their_units():
    # Its metrics may have been others then.
    made = with_cell(task_version=0)
    made["metrics"] = [{"name": "old", "value": 5.0, "unit": "%", "higher_is_better": True, "position": 0}]
    assert contradiction(read(made)) is None


def test_no_record_makes_anything_look_at_a_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "of", classmethod(lambda *_: pytest.fail("the task was made")))
    assert contradiction(read(with_cell(task=f"image-folder:{tmp_path}"))) is None


DIFFERENT = {
    "another result": lambda made: made["metrics"][0].update(value=99.0),
    "another metric": lambda made: made["metrics"].pop(),
    "another end": lambda made: made["run"].update(state="failed") or made.update(metrics=[]),
    "another time": lambda made: made["run"].update(finished="2026-01-01T05:00:00Z"),
    "other data": lambda made: made["run"].update(data_official=False),
    "another device": lambda made: made["run"].update(device="abacus"),
}
FIRST = EXAMPLE["metrics"][:2]


def twice(change):
    """A record, and another one with the same id that says otherwise."""
    first, second = record(metrics=FIRST), record(metrics=FIRST)
    change(second)
    return first, second


@pytest.mark.parametrize("what", DIFFERENT)
def test_one_id_with_two_contents_is_refused_within_a_file_between_files_and_against_the_database(database, what):
    first, second = twice(DIFFERENT[what])
    pattern = "it has the uid of an earlier record of this import, and says otherwise of (run|metrics)"
    with pytest.raises(DatabaseError, match=f"r.jsonl, line 2, .*{pattern}"):
        add_records(database, [file_of(first, second)])
    with pytest.raises(DatabaseError, match=f"b.jsonl, line 1, .*{pattern}"):
        add_records(database, [file_of(first, name="a.jsonl"), file_of(second, name="b.jsonl")])
    assert latest_runs(database, 9) == []
    add_records(database, [file_of(first)])
    (number,) = latest_runs(database, 9)
    with pytest.raises(DatabaseError, match=f"it has the uid of run {number} of this database, and says otherwise of"):
        add_records(database, [file_of(record(1), second)])
    assert latest_runs(database, 9) == [number]


def test_an_own_run_told_otherwise_is_refused_and_told_alike_is_known(database):
    own_run(database)
    write_records(export_records(database), Path("own.jsonl"))
    assert add_records(database, [Path("own.jsonl")]).known == 1
    told = json.loads(Path("own.jsonl").read_text(encoding="utf-8"))
    told["metrics"][0]["value"] = 0.0
    with pytest.raises(
        DatabaseError, match=r"the uid of run 1 of this database, and says otherwise of metrics.0.value"
    ):
        add_records(database, [file_of(told)])


def test_a_record_of_an_older_format_says_less_and_contradicts_nothing(database):
    full = record(
        history=[{"epoch": 1, "loss": 1, "learning_rate": 1, "seconds": 1, "seconds_per_step": 1, "stage": "a"}]
    )
    less = record(history=[{"epoch": 1, "loss": 1, "learning_rate": 1, "seconds": 1, "seconds_per_step": 1}])
    less["run"] |= {"cost": None, "host": None}
    assert add_records(database, [file_of(less, full)]) == (1, 0, 1, 0)
    assert add_records(database, [file_of(full | {"evaluations": [VALIDATION]})]).known == 1


def test_a_run_of_a_clock_that_was_set_back_is_exported_in_an_order_that_can_be_imported(database):
    own_run(database)
    with database.session.begin() as session:
        row = session.get_one(RunRow, 1)
        row.finished, row.started = row.created - timedelta(hours=2), row.created - timedelta(hours=1)
    other = open_for_writing(locate("other.db"))
    write_records(export_records(database), Path("mine.jsonl"))
    assert add_records(other, [Path("mine.jsonl")]).added == 1
    assert add_records(database, [Path("mine.jsonl")]).known == 1
    other.close()


LONG = {
    "names without number": "{" + ",".join(f'"k{i}":1' for i in range(300_000)) + ',"k0":2}',
    "fields without number": '{"format":4,' + ",".join(f'"k{i}":1' for i in range(90_000)) + "}",
    "metrics without number": '{"format":4,"metrics":[' + "{}," * 300_000 + "{}]}",
    "digits without number": '{"format":' + "9" * 4000 + "}",
}


@pytest.mark.parametrize("what", LONG)
def test_a_long_line_is_refused_soon_and_in_few_words(what):
    began = time.process_time()
    with pytest.raises(BadRecord) as caught:
        read_record(LONG[what].encode(), datetime.now(UTC))
    assert len(str(caught.value)) < 500
    # Any time that grows with the square of the length would be minutes.
    assert time.process_time() - began < 5
