"""Cells whose recipe ends the training early, or reports the best epoch instead of the last one."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from npas_bench.runner.execution import execute
from npas_bench.runner.work import Attempt, Engine, Work
from npas_bench.tasks.classification.digits import Digits
from npas_bench.training.checkpoint import hand_over
from tests.runner.test_execution import cell

RULE = {"validation": 0.3, "stop_metric": "nll", "patience": 2, "reported": "best"}
RECIPE = Digits().recipes("wrn-10-1")["default"].derive(epochs=6, **RULE)
HELD_OUT, STEPS = 360, 27
# SuperWeights change their structure after the third epoch, and SSN searches before the first.
CASES = {
    "full": ({}, 1, 77_562),
    "superweights": ({"clustering": "single", "refine_after": 0.5}, 2, 60_000),
    "ssn": ({"mapping": "auto", "groups": 3}, 1, 20_000),
}


class Interrupted(Exception):
    pass


def attempted(tmp_path, method, recipe=RECIPE, attempt="a", **fields):
    options, version, budget = CASES[method]
    chosen = dataclasses.replace(cell(method, budget, recipe=recipe), options=options, method_version=version)
    return Attempt(Work(chosen, Digits().source(), "cpu", **fields), attempt, tmp_path)


def run(tmp_path, method, on_epoch=lambda _: None, **fields):
    outcome = execute(attempted(tmp_path, method, **fields), on_epoch)
    assert outcome.state == "done", outcome.detail or outcome.message
    return outcome


@pytest.fixture
def scripted(monkeypatch):
    """Sets what is measured on the validation split after each epoch, which is told by the steps that norms count."""
    evaluate = Digits.evaluate

    def script(values):
        def evaluating(self, network, examples):
            measured = evaluate(self, network, examples)
            if len(examples) == HELD_OUT:
                steps = next(int(b) for name, b in network.named_buffers() if name.endswith("num_batches_tracked"))
                measured["nll"] = values[steps // STEPS - 1]
            return measured

        monkeypatch.setattr(Digits, "evaluate", evaluating)

    return script


def validation(outcome):
    return [entry["validation"] for entry in outcome.history]


def comparable(outcome):
    history = [(entry["epoch"], entry["loss"], entry["validation"]) for entry in outcome.history]
    return outcome.metrics, outcome.ledger, outcome.reported_epoch, outcome.structure, outcome.sharing, history


@pytest.mark.parametrize("method", CASES)
def test_a_cell_killed_at_any_epoch_chooses_the_same_epoch_and_gets_the_same_metrics_bit_for_bit(
    tmp_path, method, scripted
):
    scripted([3.0, 1.0, 2.0, 4.0])
    whole = run(tmp_path / "whole", method)
    assert (whole.reported_epoch, len(whole.history)) == (2, 4)
    for stop in range(1, len(whole.history) + 1):

        def interrupt(report, stop=stop):
            if report.epoch == stop:
                raise Interrupted

        folder = tmp_path / f"killed at {stop}"
        assert "Interrupted" in execute(attempted(folder, method), interrupt).message
        hand_over(folder, "a", "b")
        trained = []
        resumed = run(folder, method, trained.append, attempt="b")
        assert len(trained) == len(whole.history) - stop
        assert comparable(resumed) == comparable(whole)


def test_the_best_epoch_is_reported_with_the_structure_and_the_parameters_that_it_had(tmp_path, scripted, monkeypatch):
    scripted([1.0, 2.0, 3.0])
    states, evaluate = [], Digits.evaluate

    def watching(self, network, examples):
        states.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return evaluate(self, network, examples)

    monkeypatch.setattr(Digits, "evaluate", watching)
    outcome = run(tmp_path, "superweights")
    assert (outcome.reported_epoch, validation(outcome)) == (1, [1.0, 2.0, 3.0])
    first, _, third, tested = states
    assert tested.keys() == first.keys()
    assert all(torch.equal(tested[name], tensor) for name, tensor in first.items())
    # The third epoch ends with a refinement, after which layers share fewer coefficients.
    assert any(tensor.shape != tested[name].shape for name, tensor in third.items())
    assert outcome.history[2]["parameters"] > outcome.ledger.total
    assert (outcome.structure, outcome.ledger.reserved) == ({}, 0)


def test_where_the_last_epoch_is_reported_the_training_stops_with_its_network(tmp_path, scripted):
    scripted([1.0, 2.0, 3.0])
    outcome = run(tmp_path, "superweights", recipe=RECIPE.changed({"reported": "last"}))
    assert (outcome.reported_epoch, len(outcome.history)) == (None, 3)
    assert outcome.history[2]["parameters"] == outcome.ledger.total
    assert "rows" in outcome.structure


def test_the_test_split_is_read_once_at_the_very_end(tmp_path, monkeypatch):
    told = []
    data, evaluate = Digits.data, Digits.evaluate

    def reading(self, split):
        told.append(split)
        return data(self, split)

    def evaluating(self, network, examples):
        told.append(f"{len(examples)} evaluated")
        return evaluate(self, network, examples)

    monkeypatch.setattr(Digits, "data", reading)
    monkeypatch.setattr(Digits, "evaluate", evaluating)
    outcome = run(tmp_path, "full", lambda report: told.append(report.epoch))
    epochs = [entry for epoch in range(1, 1 + len(outcome.history)) for entry in (f"{HELD_OUT} evaluated", epoch)]
    assert told == ["train", *epochs, "test", "596 evaluated"]


def test_without_a_rule_nothing_is_held_out_or_validated(tmp_path):
    outcome = run(tmp_path, "full", recipe=Digits().recipes("wrn-10-1")["short"].derive(epochs=1))
    assert outcome.reported_epoch is None
    assert "validation" not in outcome.history[0]
    assert "deployed" not in outcome.model_dump(mode="json")["ledger"]


def test_a_cell_over_its_deadline_goes_on_and_is_done_with_the_epoch_that_its_rule_ends_with(tmp_path, scripted):
    scripted([3.0, 1.0, 2.0, 4.0])
    whole = run(tmp_path / "whole", "superweights")
    overdue = attempted(tmp_path / "late", "superweights", deadline=0)
    for epoch in (1, 2, 3):
        late = execute(overdue, lambda _: None)
        assert (late.state, late.cause, len(late.history)) == ("failed", "time", 1)
        assert f"after epoch {epoch} of 6" in late.message
    assert comparable(execute(overdue, lambda _: None)) == comparable(whole)


def test_a_rule_that_cannot_be_followed_fails_the_cell_before_anything_is_searched(tmp_path, monkeypatch):
    monkeypatch.setattr("npas_bench.training.search.Search.__call__", None)
    outcome = execute(attempted(tmp_path, "ssn", recipe=RECIPE.derive(validation=0.0)), lambda _: None)
    assert "set the recipe's field validation" in outcome.message


def test_the_reported_epoch_travels_with_the_run_and_is_shown(call):
    fields = ("validation=0.3", "stop_metric=nll", "min_delta=1000", "patience=1", "reported=best", "learning_rate=0.5")
    options = [word for field in fields for word in ("--recipe", field)]
    words = ("--task", "digits", "--method", "full", "--seeds", "1", "--epochs", "9", "--executor", "inline")
    assert call("run", *words, *options).returncode == 0
    assert call("export", "--out", "runs.jsonl").returncode == 0
    run = json.loads(Path("runs.jsonl").read_text(encoding="utf-8"))["run"]
    values = [entry["validation"] for entry in run["history"]]
    assert len(values) == 2
    best = None if values[1] < values[0] else 1
    assert run.get("reported_epoch") == best
    assert "deployed" not in run["ledger"]
    assert call("import", "runs.jsonl", "--db", "other.db").returncode == 0
    shown = call("show", "1", "--db", "other.db").stdout
    assert "error@1" in shown
    assert ("reported epoch" in shown) == (best is not None)


@pytest.mark.slow
@pytest.mark.parametrize(("reported", "stops"), [("best", (2,)), ("last", ())])
def test_several_processes_stop_at_the_epoch_that_one_of_them_measures(tmp_path, reported, stops):
    # No gain is large enough, so that the training ends two epochs after the first.
    recipe = RECIPE.derive(parts=2, reported=reported, min_delta=100.0)
    engine = Engine(processes=2)
    reports = []
    two = run(tmp_path / "two", "superweights", reports.append, recipe=recipe, engine=engine)
    assert len(reports) == len(two.history) == 3
    for stop in stops:
        folder = tmp_path / f"killed at {stop}"

        def interrupt(report, stop=stop):
            if report.epoch == stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            execute(attempted(folder, "superweights", recipe=recipe, engine=engine), interrupt)
        hand_over(folder, "a", "b")
        resumed = run(folder, "superweights", recipe=recipe, engine=engine, attempt="b")
        assert resumed.reported_epoch == two.reported_epoch
        assert resumed.metrics == two.metrics


@pytest.mark.slow
def test_several_processes_that_diverge_under_a_rule_end_with_their_history(tmp_path):
    recipe = RECIPE.derive(parts=2, learning_rate=1e20)
    outcome = execute(attempted(tmp_path, "full", recipe=recipe, engine=Engine(processes=2)), lambda _: None)
    assert outcome.state == "failed"
    assert outcome.message.startswith("diverged ")
