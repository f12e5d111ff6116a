import json

import pytest

from npas_bench.database.keys import board_key
from npas_bench.database.queries.results import Result
from npas_bench.leaderboard.standings import Marks, leading_methods, only_methods, tabulate


def result(method="ssn", seed=0, value=1.0, **fields):
    cell = {"recipe": fields.pop("content", {"epochs": 3}), "task": fields.get("task", "digits")}
    cell["architecture"] = fields.get("architecture", "wrn-10-1")
    base = {
        "run": 1,
        "identity": f"{method}{seed}",
        "board": board_key(json.dumps(cell), fields.get("data_digest", "d"), fields.get("device_class", "cpu")),
        "task": "digits",
        "architecture": "wrn-10-1",
        "recipe": "default",
        "data_label": "digits",
        "data_digest": "d",
        "data_official": True,
        "device_class": "cpu",
        "method": method,
        "task_version": 1,
        "method_version": 1,
        "options": {},
        "budget": 100,
        "budget_text": "10%",
        "full": 1000,
        "seed": seed,
        "state": "done",
        "parameters": 99,
        "seconds_per_step": 2.0,
        "peak_memory": 10**9,
        "forward_flops": 5e9,
        "generation_flops": 1e6,
        "message": None,
        "metric": "error@1",
        "value": value,
        "unit": "%",
        "higher_is_better": False,
    }
    if fields.get("state", "done") != "done":
        fields |= {"metric": None, "value": None, "unit": None, "higher_is_better": None, "seconds_per_step": None}
    return Result(**base | fields)


def test_no_results_make_no_table():
    assert tabulate([]) == []


def test_methods_are_aggregated_over_seeds_and_ranked_within_their_budget():
    results = [result("a", s, 5 + 0.1 * s) for s in range(3)] + [result("b", s, 3 + 0.1 * s) for s in range(3)]
    (table,) = tabulate(results)
    (band,) = table.bands
    assert [(s.method, s.rank, round(s.mean, 6), s.seeds) for s in band.standings] == [
        ("b", 1, 3.1, 3),
        ("a", 2, 5.1, 3),
    ]
    assert band.standings[0].half_width == pytest.approx(0.2484, abs=1e-4)


def test_higher_is_better_turns_the_order_round():
    results = [result("a", s, 5 + 0.1 * s, higher_is_better=True) for s in range(3)]
    results += [result("b", s, 3 + 0.1 * s, higher_is_better=True) for s in range(3)]
    assert [s.method for s in tabulate(results)[0].bands[0].standings] == ["a", "b"]


def test_recipes_data_and_devices_are_never_pooled():
    results = [
        result(),
        result(content={"epochs": 4}),
        result(data_digest="e", data_label="digits (unofficial data e)", data_official=False),
        result(device_class="cuda"),
        result(architecture="wrn-10-2"),
    ]
    assert len(tabulate(results)) == 5


def test_older_versions_of_a_task_or_method_give_way_to_the_newest():
    results = [result("a", s, 30.0) for s in range(3)] + [result("a", 0, 1.0, method_version=2), result("b", 0, 5.0)]
    (table,) = tabulate(results)
    assert [(s.label, s.seeds, s.mean) for s in table.bands[0].standings] == [("a", 1, 1.0), ("b", 1, 5.0)]
    (table,) = tabulate([*results, result("b", 0, 6.0, task_version=2)])
    assert [(s.label, s.mean) for s in table.bands[0].standings] == [("b", 6.0)]


def test_one_recipe_under_two_names_is_one():
    results = [result(seed=0), result(seed=1, recipe="other")]
    (table,) = tabulate(results)
    assert table.bands[0].standings[0].seeds == 2


def test_unsupported_and_failed_cells_keep_a_row_at_the_end_and_say_why():
    results = [
        result("never", state="unsupported", message="too small"),
        result("partly", 0, 4.0),
        result("partly", 1, state="failed", message="diverged at epoch 2, step 1"),
        result("good", 0, 9.0),
    ]
    partly, good, never = tabulate(results)[0].bands[0].standings
    assert (partly.seeds, partly.failed, partly.note) == (1, 1, "diverged at epoch 2, step 1")
    assert (never.mean, never.unsupported, never.note) == (None, 1, "too small")
    assert (good.failed, good.unsupported, good.rank) == (0, 0, None)


def test_a_table_of_unsupported_cells_only_has_no_metric():
    (table,) = tabulate([result(state="unsupported")])
    assert table.metric is None
    assert table.bands[0].standings[0].mean is None


def test_options_make_rows_of_their_own():
    results = [result(), result(options={"upsample": "inter"})]
    assert {s.label for s in tabulate(results)[0].bands[0].standings} == {"ssn", "ssn (upsample=inter)"}


def test_step_times_are_relative_to_full_of_the_same_table():
    results = [result(), result("full", budget=1000, seconds_per_step=1.6), result(architecture="wrn-10-2")]
    with_full, without = tabulate(results)
    assert [b.standings[0].relative_time for b in with_full.bands] == [1.25, 1.0]
    assert without.bands[0].standings[0].relative_time is None


def test_bands_rise_and_parameters_are_those_really_used():
    results = [result(budget=300, parameters=290), result(budget=100, parameters=98), result(budget=100, seed=1)]
    (table,) = tabulate(results)
    assert [(b.budget, b.standings[0].parameters) for b in table.bands] == [(100, 99), (300, 290)]


def test_badges_tell_what_a_reader_must_know():
    results = [result("a", seed) for seed in range(3)] + [result("b", 0, run=7)]
    (table,) = tabulate(results, Marks(reproduced={7}))
    assert {s.label: s.badges for s in table.bands[0].standings} == {"a": (), "b": ("not all seeds", "reproduced")}
    (table,) = tabulate([result(data_official=False)])
    assert table.bands[0].standings[0].badges == ("unofficial data",)


def test_a_metric_that_is_no_number_counts_as_failed():
    for value in (float("nan"), float("inf"), float("-inf")):
        (table,) = tabulate([result("a", 0, value), result("a", 1, 2.0)])
        (standing,) = table.bands[0].standings
        assert (standing.mean, standing.seeds, standing.failed) == (2.0, 1, 1)
        assert "no finite number" in standing.note


def test_ties_gaps_and_single_seeds_are_shown_as_they_are():
    results = [
        *(result("tied", seed, 5.0) for seed in range(3)),
        *(result("equal", seed, 5.0) for seed in range(3)),
        *(result("gap", seed, 4.0) for seed in (0, 2)),
        result("single", 0, 1.0),
    ]
    (table,) = tabulate(results)
    assert {s.label: (s.rank, s.seeds, s.half_width) for s in table.bands[0].standings} == {
        "gap": (1, 2, None),
        "equal": (2, 3, 0.0),
        "tied": (2, 3, 0.0),
        "single": (None, 1, None),
    }


def test_methods_are_searched_by_part_of_their_label_and_keep_their_ranks():
    results = [result("a", seed, 1.0 + seed / 100) for seed in range(3)]
    results += [result("b", seed, 9.0 + seed / 100, options={"mapping": "auto"}) for seed in range(3)]
    tables = tabulate([*results, result("a", budget=500)])
    (found,) = only_methods(tables, "B (MAPP")
    assert [(s.label, s.rank) for band in found.bands for s in band.standings] == [("b (mapping=auto)", 2)]
    assert only_methods(tables, "nothing") == []
    assert only_methods(tables, "") == tables


def test_what_cannot_be_ranked_stands_behind_what_can_and_leads_no_chart():
    results = [result("good", seed, 5 + seed / 100) for seed in range(3)]
    results += [result("also", seed, 6 + seed / 100) for seed in range(3)]
    results += [result(f"single-{n}", 0, 90.0 - n) for n in range(60)]
    (table,) = tabulate(results)
    assert [s.label for s in table.bands[0].standings[:3]] == ["good", "also", "single-59"]
    assert {"good", "also"} <= leading_methods(table, 10)


def test_absurd_metrics_count_as_failed():
    (table,) = tabulate([result("a", seed, 1e308) for seed in range(3)] + [result("b", 0, 1e99)])
    first, second = table.bands[0].standings
    assert (first.mean, second.mean, second.failed) == (1e99, None, 3)
