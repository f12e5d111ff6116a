import re

import pytest
from sqlalchemy import delete

from npas_bench.database import states
from npas_bench.database.drivers import CodeVersion, beat, enter, leave, reap
from npas_bench.database.queries.results import find_run
from npas_bench.database.runs import (
    add_runs,
    cancel_runs,
    claim_run,
    finish_run,
    now,
    release_runs,
    reopen_runs,
)
from npas_bench.database.schema import DriverRow, MetricRow, RunRow
from npas_bench.database.states import RunState
from npas_bench.errors import DatabaseError
from tests.database.test_runs import cell, metric, run

CODE = CodeVersion("0", "0")
ENDS = (RunState.DONE, RunState.FAILED, RunState.UNSUPPORTED)


def documented():
    """The rows of the docstring's table: which function moves a run from which states to which."""
    table = {}
    for line in RunState.__doc__.splitlines():
        cells = [part.strip() for part in line.strip().strip("|").split("|")]
        if len(cells) == 3 and re.fullmatch(r"[a-z_]+", cells[0]) and cells[0] != "function":
            before, after = (re.sub(r" \(.*?\)", "", part).split(", ") for part in cells[1:])
            table[cells[0]] = {(RunState(old), RunState(new)) for old in before for new in after if old != "(new)"}
    return table


def act(database, function, number, mine, new):
    """Call a function for a run as its driver, or whoever else may call it, would."""
    match function:
        case "claim_run":
            claim_run(database, number, mine, "later", {})
        case "finish_run":
            finish_run(database, number, "token", {"state": new}, [metric(1.0)])
        case "release_runs":
            release_runs(database, [number])
        case "leave":
            leave(database, mine)
        case "reap":
            reap(database, besides=mine)
        case "beat":
            beat(database, mine, {})
        case "cancel_runs":
            cancel_runs(database, runs=[number])
        case "reopen_runs":
            reopen_runs(database, [number])


def moved(database, function, state, new):
    """What a function makes of a run in a state; None where it leaves the run alone."""
    mine, gone = enter(database, CODE), enter(database, CODE)
    [number] = add_runs(database, [cell("a")], [run("a")])
    with database.session.begin() as session:
        row = session.get_one(RunRow, number)
        row.state, row.token = state, "token"
        row.driver = mine if function in ("claim_run", "beat", "leave") else gone
        session.get_one(DriverRow, gone).ended = now()
    act(database, function, number, mine, new)
    after = find_run(database, number)
    touched = after.state is not state or after.attempt > 0
    with database.session.begin() as session:
        session.execute(delete(MetricRow))
        session.execute(delete(RunRow))
        session.execute(delete(DriverRow))
    return after.state if touched else None


def moves(database, function):
    found = set()
    for state in RunState:
        for new in ENDS if function == "finish_run" else (None,):
            after = moved(database, function, state, new)
            if after is not None:
                found.add((state, after))
    return found


@pytest.mark.parametrize("function", sorted(documented().keys() - {"add_runs"}))
def test_every_function_moves_runs_as_the_table_of_states_says(database, function):
    assert moves(database, function) == documented()[function]


def test_a_new_run_is_pending(database):
    [number] = add_runs(database, [cell("a")], [run("a")])
    assert find_run(database, number).state is RunState.PENDING


def test_the_table_leaves_no_way_out_of_a_state_that_has_ended():
    changes = set().union(*documented().values())
    assert {state for state in RunState if not state.ended} == {old for old, _ in changes}
    assert {new for _, new in changes} == set(RunState)


def test_the_sets_of_states_follow_from_their_properties():
    assert set(states.ENDED) == {"done", "failed", "unsupported"}
    assert states.UNDER_WAY == ("running", "stale")
    assert states.CANCELLABLE == ("pending", "running", "stale")
    assert {state for state in RunState if state.open} == set(RunState) - set(states.ENDED)
    assert {state for state in RunState if state.final} == {"done", "unsupported"}
    assert {state for state in RunState if state.claimable} == {"pending", "stale"}
    assert {state for state in RunState if state.lively} == {"pending", "running"}


def test_a_state_that_does_not_exist_is_refused_when_it_is_read(database):
    [number] = add_runs(database, [cell("a")], [run("a")])
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'asleep'")
    with pytest.raises(DatabaseError, match="'asleep', which does not exist"):
        find_run(database, number)
