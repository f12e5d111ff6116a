from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from npas_bench.database.drivers import CodeVersion, beat, dead_drivers, enter, leave, reap
from npas_bench.database.grids import GridRuns
from npas_bench.database.keys import RunKey
from npas_bench.database.queries.counts import count_states
from npas_bench.database.queries.results import count_unfinished, find_run, latest_runs, read_results
from npas_bench.database.queries.timings import read_timings
from npas_bench.database.runs import (
    add_runs,
    cancel_runs,
    claim_run,
    finish_run,
    newest_runs,
    note_attempt,
    release_runs,
    reopen_runs,
    still_running,
)
from npas_bench.database.schema import DriverRow
from npas_bench.errors import DatabaseError


def cell(identity, **fields):
    return {
        "identity": identity,
        "identity_version": 1,
        "canonical": '{"recipe":{"epochs":3}}',
        "task": "digits",
        "architecture": "wrn-10-1",
        "method": "full",
        "task_version": 1,
        "method_version": 1,
        "options": {},
        "budget": 77_562,
        "budget_text": "100%",
        "full": 77_562,
        "recipe": {"name": "default", "epochs": 3},
        "recipe_name": "default",
        "seed": 0,
    } | fields


def run(identity, **fields):
    return {
        "identity": identity,
        "data_name": "digits",
        "data_label": "digits",
        "data_digest": "d",
        "data_official": True,
        "device_class": "cpu",
        "device": "x86_64",
    } | fields


def metric(value, name="error@1", position_unit="%"):
    return {"name": name, "value": value, "unit": position_unit, "higher_is_better": False}


CODE = CodeVersion("1", "code")


@pytest.fixture
def driver(database):
    return enter(database, CODE)


def finished(database, identity, value=1.0, state="done", **fields):
    (number,) = add_runs(database, [cell(identity, **fields)], [run(identity)])
    assert claim_run(database, number, enter(database, CODE), "token", {})
    assert finish_run(database, number, "token", {"state": state, "parameters": 5}, [metric(value)])
    return number


def test_a_run_goes_from_pending_through_running_to_done(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    key = RunKey("a", "d", "cpu")
    assert newest_runs(database, [key]) == {key: (number, "pending")}
    assert claim_run(database, number, driver, "one", {"commit": "abc"}) == (1, None)
    assert newest_runs(database, [key])[key].state == "running"
    assert finish_run(database, number, "one", {"state": "done", "message": None}, [metric(1.5), metric(2, "nll", "")])
    row = find_run(database, number)
    assert (row.state, row.attempt, row.commit, row.cell.task) == ("done", 1, "abc", "digits")
    assert {m.name: (m.position, m.value) for m in row.metrics} == {"error@1": (0, 1.5), "nll": (1, 2.0)}


def test_a_superseded_attempt_stores_nothing(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    claim_run(database, number, driver, "old", {})
    assert claim_run(database, number, driver, "new", {}) == (2, "old")
    assert not finish_run(database, number, "old", {"state": "done"}, [metric(9)])
    assert find_run(database, number).state == "running"
    assert finish_run(database, number, "new", {"state": "done"}, [metric(1)])
    assert not finish_run(database, number, "old", {"state": "failed"}, [])
    assert (find_run(database, number).attempt, find_run(database, number).state) == (2, "done")


def test_a_result_whose_answer_got_lost_is_stored_once(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    claim_run(database, number, driver, "t", {})
    assert finish_run(database, number, "t", {"state": "done"}, [metric(1)])
    assert finish_run(database, number, "t", {"state": "done"}, [metric(1)])
    assert [m.value for m in find_run(database, number).metrics] == [1.0]


def test_a_run_that_another_driver_has_is_not_to_be_had(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    assert claim_run(database, number, driver, "t", {})
    with database.session.begin() as session:
        moment = find_run(database, number).started
        session.add(DriverRow(id="b", host="h", pid=1, born="", version="1", code="code", started=moment,
                              heartbeat=moment))  # fmt: skip
    assert claim_run(database, number, "b", "u", {}) is None
    assert finish_run(database, number, "t", {"state": "done"}, [metric(1)])
    assert claim_run(database, number, "b", "u", {}) is None


def test_a_claim_whose_answer_got_lost_is_one_attempt(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    claim_run(database, number, driver, "s", {})
    release_runs(database, [number])
    assert claim_run(database, number, driver, "t", {}) == (2, "s")
    assert claim_run(database, number, driver, "t", {}) == (2, "s")


def test_a_new_run_goes_on_from_what_a_failed_one_left(database, driver):
    failed = finished(database, "a", state="failed")
    (number,) = add_runs(database, [cell("a")], [run("a")])
    assert number != failed
    assert claim_run(database, number, driver, "t", {}) == (1, "token")


def test_a_cell_that_another_driver_finished_meanwhile_is_not_run_again(database, driver):
    done = finished(database, "a")
    (number,) = add_runs(database, [cell("a")], [run("a")])
    assert claim_run(database, number, driver, "t", {}) is None
    key = RunKey("a", "d", "cpu")
    assert newest_runs(database, [key]) == {key: (done, "done")}


def test_of_many_that_claim_a_run_at_once_one_gets_it(database, driver):
    numbers = add_runs(database, [cell(f"{i}") for i in range(20)], [run(f"{i}") for i in range(20)])
    with database.session.begin() as session:
        moment = find_run(database, numbers[0]).created
        for other in "wxyz":
            session.add(DriverRow(id=other, host="h", pid=1, born="", version="1", code="code", started=moment,
                                  heartbeat=moment))  # fmt: skip

    def claim(other):
        return [number for number in numbers if claim_run(database, number, other, other, {})]

    with ThreadPoolExecutor(4) as pool:
        got = [number for numbers in pool.map(claim, "wxyz") for number in numbers]
    assert sorted(got) == numbers


def test_runs_are_told_apart_by_data_and_device_and_there_is_one_to_go_on_with(database):
    runs = [run("a"), run("a", data_digest="e"), run("a", device_class="cuda"), run("a")]
    one, two, three, again = add_runs(database, [cell("a")], runs)
    assert again == one
    keys = [RunKey("a", "d", "cpu"), RunKey("a", "e", "cpu"), RunKey("a", "d", "cuda"), RunKey("b", "d", "cpu")]
    assert {key: state.id for key, state in newest_runs(database, keys).items()} == dict(
        zip(keys, (one, two, three), strict=False)
    )


def test_released_runs_are_pending_again_and_ended_ones_stay(database, driver):
    done = finished(database, "a")
    (number,) = add_runs(database, [cell("b")], [run("b")])
    claim_run(database, number, driver, "t", {})
    release_runs(database, [number, done])
    assert (find_run(database, number).state, find_run(database, done).state) == ("pending", "done")
    assert count_unfinished(database) == 1


def test_what_a_dead_driver_left_is_stale_and_can_be_claimed(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    claim_run(database, number, driver, "t", {})
    assert dead_drivers(database) == ({driver} if database.alone else set())
    assert reap(database, besides=driver) == 0
    with database.session.begin() as session:
        # A process of this machine that is there no more.
        session.get_one(DriverRow, driver).pid = 2**22 + 1
    assert dead_drivers(database) == {driver}
    assert reap(database) == 1
    assert find_run(database, number).state == "stale"
    assert claim_run(database, number, enter(database, CODE), "u", {}) == (2, "t")


def test_a_driver_on_another_machine_is_dead_when_its_lease_is_over(database, driver):
    with database.session.begin() as session:
        row = session.get_one(DriverRow, driver)
        row.born = "elsewhere 1"
    if not database.alone:
        assert dead_drivers(database) == set()
    with database.session.begin() as session:
        session.get_one(DriverRow, driver).heartbeat -= timedelta(seconds=61)
    assert dead_drivers(database) == {driver}
    beat(database, driver, {})
    if not database.alone:
        assert dead_drivers(database) == set()


def test_a_driver_taken_for_dead_comes_back_with_what_nobody_has_taken(database, driver):
    one, two = add_runs(database, [cell("a"), cell("b")], [run("a"), run("b")])
    claim_run(database, one, driver, "t", {})
    claim_run(database, two, driver, "u", {})
    with database.session.begin() as session:
        session.get_one(DriverRow, driver).pid = 2**22 + 1
    other = enter(database, CODE)
    assert claim_run(database, two, other, "v", {})
    beat(database, driver, {one: 3})
    assert still_running(database, {one: "t", two: "u"}) == {one}
    assert (find_run(database, one).epoch, find_run(database, two).token) == (3, "v")


def test_a_driver_that_leaves_puts_its_runs_back(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    claim_run(database, number, driver, "t", {})
    leave(database, driver)
    assert find_run(database, number).state == "pending"
    assert dead_drivers(database) == set()


def test_a_driver_with_other_code_is_refused_beside_one_that_lives(database, driver):
    if database.alone:
        pytest.skip("a file has one driver")
    with pytest.raises(DatabaseError, match=r"a driver at work on .* with other code: npas-bench 1 \(code\)"):
        enter(database, CodeVersion("2", "other"))
    leave(database, driver)
    enter(database, CodeVersion("2", "other"))


def test_cancelled_runs_store_nothing_and_can_be_wanted_again(database, driver):
    one, two = add_runs(database, [cell("a"), cell("b")], [run("a", grid="g"), run("b", grid="h")])
    claim_run(database, one, driver, "t", {})
    assert cancel_runs(database, grid=GridRuns("g", ("g",))) == 1
    assert still_running(database, {one: "t"}) == set()
    assert not finish_run(database, one, "t", {"state": "done"}, [metric(1)])
    assert claim_run(database, one, driver, "u", {}) is None
    assert count_states(database) == {"g": {"cancelled": 1}, "h": {"pending": 1}}
    assert cancel_runs(database, runs=[one, two]) == 1
    reopen_runs(database, [one])
    assert claim_run(database, one, driver, "u", {}) == (2, "t")


def test_how_attempts_ended_is_kept(database, driver):
    (number,) = add_runs(database, [cell("a")], [run("a")])
    note_attempt(database, number, {"attempt": 1, "ended": "out of memory", "share": 0.25})
    note_attempt(database, number, {"attempt": 2, "ended": "its worker died"})
    assert [entry["attempt"] for entry in find_run(database, number).attempts] == [1, 2]


def test_a_cell_is_stored_once(database):
    (one,) = add_runs(database, [cell("a")], [run("a")])
    again, two = add_runs(database, [cell("a"), cell("b")], [run("a"), run("b")])
    assert again == one
    assert latest_runs(database, 9) == [two, one]


def test_many_cells_are_looked_up_at_once(database):
    names = [f"{i:04}" for i in range(1200)]
    add_runs(database, [cell(name) for name in names], [run(name) for name in names])
    assert len(newest_runs(database, [RunKey(name, "d", "cpu") for name in names])) == 1200


def test_results_are_the_newest_ended_runs_with_the_metric_asked_for(database, driver):
    finished(database, "a", 5.0, state="failed")
    newest = finished(database, "a", 4.0)
    finished(database, "b", 7.0, task="other")
    (number,) = add_runs(database, [cell("c")], [run("c")])
    claim_run(database, number, driver, "t", {})
    finish_run(database, number, "t", {"state": "unsupported", "message": "too small"}, [])
    add_runs(database, [cell("d")], [run("d")])
    results = read_results(database)
    assert [(r.run, r.task, r.state, r.value) for r in results] == [
        (newest, "digits", "done", 4.0),
        (number, "digits", "unsupported", None),
        (3, "other", "done", 7.0),
    ]
    assert [r.value for r in read_results(database, task="other")] == [7.0]
    assert read_results(database, architecture="none") == []
    assert {r.value for r in read_results(database, metric="nll")} == {None}


def test_timings_tell_how_many_epochs_a_run_with_a_stop_rule_trained(database, driver):
    rule = {"name": "default", "epochs": 9, "stop_metric": "error@1"}
    history = [{"epoch": 1.0}, {"epoch": 2.0}]
    for identity, fields in (("a", {"recipe": rule}), ("b", {}), ("c", {"recipe": rule | {"stop_metric": None}})):
        (number,) = add_runs(database, [cell(identity, **fields)], [run(identity)])
        claim_run(database, number, driver, "token", {})
        ended = {"state": "done", "parameters": 5, "train_seconds": 1.0, "history": history}
        assert finish_run(database, number, "token", ended, [metric(1)])
    assert [timing.trained_epochs for timing in read_timings(database, "cpu")] == [None, None, 2]
