"""Forecasts against runs that were really made: five seeds of the grid `lowbudget`."""

import json
import math
import random
import statistics

import pytest

from npas_bench.cells.grid import Expander, read_grid
from npas_bench.cells.recipes import Change
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.queries.timings import read_timings
from npas_bench.forecast.demand import Demands
from npas_bench.forecast.forecast import WITHIN, Forecast
from npas_bench.forecast.profiles import grouped, profile_of
from npas_bench.recipe import ImageRecipe
from npas_bench.recipe.stored import differing
from npas_bench.runner.planned import PlannedCell
from npas_bench.runner.work import Engine
from tests.conftest import REPOSITORY


def stored(folder, file):
    database = open_for_writing(locate(str(folder / f"{file}.db")))
    add_records(database, [REPOSITORY / "results" / f"{file}.jsonl"])
    return database


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    made = stored(tmp_path_factory.mktemp("runs"), "lowbudget-cpu")
    yield made
    made.close()


@pytest.fixture(scope="module")
def timings(database):
    """In the order that they were run in."""
    return read_timings(database, "cpu")[::-1]


def items_of(change=Change()):  # noqa: B008 (immutable)
    expander = Expander(change)
    source = expander.task("digits").source()
    return [PlannedCell(cell, 0, source, "cpu") for cell in expander.cells(read_grid("lowbudget"))]


@pytest.fixture(scope="module")
def items():
    """A cell of each profile, by what timings have of it."""
    return {key(item.cell): item for item in items_of()}


DEMANDS = Demands()


def learned(timings, machine):
    return Forecast(timings, "cpu", machine, DEMANDS)


def key(one):
    return one.task, one.architecture, one.method, one.budget


def seconds(timing):
    return timing.train_seconds + timing.evaluate_seconds


def share_right(known, rest, items):
    estimates = learned(known, known[0].host).all([items[key(timing)] for timing in rest])
    errors = [abs(math.log(e.seconds / seconds(t))) for e, t in zip(estimates, rest, strict=True)]
    return sum(error <= math.log(WITHIN) for error in errors) / len(errors)


def test_after_a_quarter_of_a_grid_the_rest_is_forecast_within_half_for_four_of_five(timings, items):
    """In each of twenty draws of a quarter of the runs."""
    assert len(timings) == 140
    for seed in range(20):
        drawn = random.Random(seed).sample(timings, len(timings))  # noqa: S311
        assert share_right(drawn[:35], drawn[35:], items) >= 0.8, seed


def test_after_runs_of_a_quarter_of_the_kinds_the_other_kinds_are_forecast_as_well(timings, items):
    profiles = sorted({key(timing) for timing in timings})
    shares = []
    for seed in range(20):
        known = set(random.Random(seed).sample(profiles, len(profiles) // 4))  # noqa: S311
        ran = [timing for timing in timings if key(timing) in known]
        shares.append(share_right(ran, [timing for timing in timings if key(timing) not in known], items))
    assert statistics.mean(shares) >= 0.85
    assert min(shares) >= 0.75


def test_estimates_are_of_runs_of_the_kind_where_there_are_any(timings, items):
    some = [timing for timing in timings if timing.architecture == "wrn-10-1" and timing.method != "ssn"]
    forecast = learned(some, some[0].host)
    for asked, item in items.items():
        _, architecture, method, _ = asked
        ran = [seconds(timing) for timing in some if key(timing) == asked]
        estimate = forecast.of(item)
        if ran:
            assert estimate.basis == "runs"
            assert estimate.seconds == pytest.approx(statistics.median(ran), rel=0.2)
            assert estimate.memory == max(timing.peak_memory for timing in some if key(timing) == asked)
        else:
            near = architecture == "wrn-10-1" or method in ("full", "superweights")
            assert estimate.basis == ("neighbours" if near else "operations"), asked


def test_seconds_are_proportional_to_epochs_and_no_other_recipe_is_needed(timings):
    forecast = learned(timings, timings[0].host)
    longer = forecast.all(items_of(Change(epochs=60)))
    for estimate, once in zip(longer, forecast.all(items_of()), strict=True):
        assert estimate.basis == once.basis
        assert estimate.seconds == pytest.approx(4 * once.seconds, rel=0.05)


def test_runs_of_before_a_field_of_the_recipe_existed_are_of_the_same_kind(timings):
    some = timings[0]
    written = json.loads(some.recipe)
    now = ImageRecipe.model_validate(written).model_dump(mode="json")
    before, after = (some._replace(recipe=json.dumps(fields)) for fields in (differing(written), now))
    assert len({before.recipe, some.recipe, after.recipe}) == 3
    (group,) = grouped([some, before, after], "cpu")
    assert len(group.epochs) == 3
    cell = next(item.cell for item in items_of() if key(item.cell) == key(some))
    assert profile_of(cell, Engine()) == group.profile
    other = some._replace(recipe=json.dumps(json.loads(some.recipe) | {"optimiser": "adam"}))
    assert len(grouped([some, other], "cpu")) == 2


def test_a_run_that_stopped_early_tells_the_time_of_the_epochs_that_it_trained(timings):
    some = timings[0]
    recipe = json.loads(some.recipe) | {"stop_metric": "error@1", "validation": 0.1}
    whole = some._replace(recipe=json.dumps(recipe))
    stopped = whole._replace(train_seconds=some.train_seconds / 3, trained_epochs=recipe["epochs"] // 3)
    (group,) = grouped([whole, stopped], "cpu")
    assert group.epochs[1] == pytest.approx(group.epochs[0])


def test_a_slower_machine_is_told_by_one_run(timings, items):
    """What one run takes longer there, all others are taken to."""
    first = timings[0]
    # Three times what a run of its kind takes, not what this one took: one seed may have been disturbed.
    usual = statistics.median(timing.train_seconds for timing in timings if key(timing) == key(first))
    slow = first._replace(host="another", train_seconds=3 * usual)
    here, there = (learned([slow, *timings], host) for host in (first.host, "another"))
    for item in items.values():
        assert 1.5 < there.of(item).seconds / here.of(item).seconds < 3.2


def test_without_runs_operations_are_counted(items):
    forecast = learned([], "here")
    estimates = {asked: forecast.of(item) for asked, item in items.items()}
    assert {estimate.basis for estimate in estimates.values()} == {"operations"}
    assert all(0.2 < estimate.seconds < 20 and not estimate.measured for estimate in estimates.values())
    small, large = (
        estimates["digits", name, "full", size] for name, size in (("wrn-10-1", 77562), ("wrn-22-1", 271994))
    )
    assert 2 < large.seconds / small.seconds < 4
    assert small.memory < large.memory < 2**30
    assert forecast.hindcast().new.of == 0


def test_the_error_on_past_runs_is_what_forecasts_without_their_kind_would_have_shown(timings, items):
    """It is read off one matrix; here, every profile is left out in turn."""
    some = timings[:70]
    told = learned(some, some[0].host).hindcast()
    right = 0
    for asked in {key(timing) for timing in some}:
        forecast = learned([timing for timing in some if key(timing) != asked], some[0].host)
        left_out = [timing for timing in some if key(timing) == asked]
        estimate = forecast.of(items[asked]).seconds
        right += sum(abs(math.log(estimate / seconds(timing))) <= math.log(WITHIN) for timing in left_out)
    assert told.new.of == 70
    assert abs(told.new.right - right) <= 3  # the share of evaluation, and the noise, are learned without it as well
    assert told.known.right <= told.known.of <= 70


def test_runs_of_the_kind_on_another_machine_are_left_out_as_well(timings):
    """Of which the twins would tell all."""
    asked = key(timings[0])
    some = timings[:40]
    twins = [timing._replace(host="another") for timing in some]
    alone, both = (learned(known, some[0].host).hindcast() for known in (some, some + twins))
    assert both.new.of == alone.new.of == 40
    strange = [t._replace(train_seconds=t.train_seconds * 9) if key(t) == asked else t for t in some]
    strange += [timing._replace(host="another") for timing in strange]
    told = learned(strange, some[0].host).hindcast()
    assert told.new.right <= 40 - sum(key(timing) == asked for timing in some)


def test_a_run_that_is_in_two_databases_counts_once(database):
    assert Forecast.learn([database, database], "cpu").runs == Forecast.learn([database], "cpu").runs == 140


def test_what_is_not_installed_does_no_harm(timings, items):
    """Its runs still tell the ratios of methods."""
    small = [timing for timing in timings if timing.architecture == "wrn-10-1"]
    far = [t._replace(task="gone", architecture="lost-1", train_seconds=100 * t.train_seconds) for t in small]
    known = [timing for timing in timings if key(timing) == ("digits", "wrn-10-1", "full", 77562)]
    forecast = learned([*far, *known], known[0].host)
    ssn, full = items["digits", "wrn-10-1", "ssn", 3878], items["digits", "wrn-10-1", "full", 77562]
    assert forecast.of(full).seconds == pytest.approx(statistics.median(map(seconds, known)), rel=0.2)
    assert 1.1 < forecast.of(ssn).seconds / forecast.of(full).seconds < 2


def test_switches_of_the_engine_are_kinds_of_their_own(timings, items):
    slow = [
        timing._replace(engine=json.dumps(["regenerate"]), train_seconds=2 * timing.train_seconds) for timing in timings
    ]
    forecast = learned([*timings, *slow], timings[0].host)
    item = items["digits", "wrn-10-1", "ssn", 3878]
    plain, regenerating = forecast.of(item), forecast.of(item, Engine(regenerate=True))
    assert plain.basis == regenerating.basis == "runs"
    assert 1.6 < regenerating.seconds / plain.seconds < 2.4


def test_timings_are_newest_first_and_picked_evenly_where_there_are_too_many(database, timings):
    newest = read_timings(database, "cpu", most=20)
    assert newest[:10] == timings[::-1][:10]
    assert 5 <= len(newest[10:]) <= 10
    assert newest[-1] in timings[:40]
    assert read_timings(database, "cpu", most=1) == newest[:1]
    assert read_timings(database, "cuda") == []
