"""Methods that search before they train, and change while they do."""

import dataclasses

import pytest

from npas_bench.runner.execution import execute
from npas_bench.runner.work import Attempt, Work
from npas_bench.tasks.classification.digits import Digits
from npas_bench.training.checkpoint import hand_over
from tests.runner.test_execution import RECIPE, cell

# Budgets at which SuperWeights have templates to mix, and so something to refine.
CASES = {
    "ssn": ({"mapping": "auto", "groups": 3}, 20_000),
    "superweights": ({}, 60_000),
    "superweights by coefficients": ({"clustering": "coefficients", "clusters": 2}, 60_000),
}


class _Interrupted(Exception):
    pass


def chosen(name):
    options, budget = CASES[name]
    return dataclasses.replace(cell(name.split()[0], budget, recipe=RECIPE.derive(epochs=3)), options=options)


def work(tmp_path, name, token="t"):
    return Attempt(Work(chosen(name), Digits().source(), "cpu"), token, tmp_path)


def comparable(outcome):
    history = [{key: entry[key] for key in ("epoch", "loss", "learning_rate")} for entry in outcome.history]
    return outcome.state, outcome.metrics, outcome.ledger, outcome.sharing, outcome.structure, history


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_search_is_repeatable_timed_and_not_repeated_after_an_interruption(tmp_path, name, monkeypatch):
    whole = execute(work(tmp_path / "whole", name), lambda _: None)
    assert whole.state == "done", whole.detail
    assert whole.cost.search_seconds > 0
    assert whole.cost.train_seconds > whole.cost.search_seconds
    assert whole.ledger.reserved == 0
    assert "mapping" in whole.structure or "clusters" in whole.structure
    for stop in (1, 2):

        def interrupt(report, stop=stop):
            if report.epoch == stop:
                raise _Interrupted

        folder = tmp_path / f"stopped at {stop}"
        assert "_Interrupted" in execute(work(folder, name, "a"), interrupt).message
        with monkeypatch.context() as patched:
            patched.setattr("npas_bench.training.search.Search.__call__", None)  # a second search would fail
            hand_over(folder, "a", "b")
            resumed = execute(work(folder, name, "b"), lambda _: None)
        assert resumed.state == "done", resumed.detail
        assert comparable(resumed) == comparable(whole)
        assert resumed.cost.search_seconds > 0


@pytest.mark.slow
def test_superweights_are_refined_after_their_first_epochs_and_the_budget_holds(tmp_path):
    outcome = execute(work(tmp_path, "superweights"), lambda _: None)
    assert outcome.state == "done", outcome.detail
    rows = [max(users.values()) for users in outcome.structure["rows"].values()]
    assert max(rows) > 0, "nothing was refined"
    assert outcome.ledger.total <= 60_000


def test_a_run_tells_its_coefficients_and_when_its_sharing_was_refined(call):
    import torch

    from npas_bench.allocation import read_coefficients
    from npas_bench.database.opening import locate, open_for_reading
    from npas_bench.database.queries.results import find_run, latest_runs

    words = (
        "run",
        "--task",
        "digits",
        "--architecture",
        "wrn-22-1",
        "--budget",
        "65%",
        "--epochs",
        "2",
        "--seeds",
        "1",
    )
    assert call(*words, "--method", "superweights", "--method", "swrn", "--executor", "inline").returncode == 0
    database = open_for_reading(locate("runs.db"))
    rows = {row.cell.method: row for row in (find_run(database, run) for run in latest_runs(database, 9))}
    database.close()
    for row in rows.values():
        mixed = [reading for reading in row.sharing if reading[4] > 1]
        assert mixed
        assert all(len(reading[6]) == reading[4] and any(reading[6]) for reading in mixed)
        assert all(len(reading) == 6 for reading in row.sharing if reading[5] == "as is")
    refined = [entry["parameters"] for entry in rows["superweights"].history if "parameters" in entry]
    assert refined == [rows["superweights"].parameters]
    assert not any("parameters" in entry for entry in rows["swrn"].history)
    assert read_coefficients(torch.tensor([[0.123456, -2.0]])) == (0.1235, -2.0)
    assert read_coefficients(torch.empty(2, device="meta")) is None
