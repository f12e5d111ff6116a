import pytest

from npas_bench.errors import StoreError
from npas_bench.store.database import locate, open_for_writing
from npas_bench.store.exchange import add_records, export_runs
from npas_bench.store.results import count_unfinished, find_run, latest_runs, read_results
from npas_bench.store.runs import RunKey, add_runs, finish_run, newest_runs, release_runs, start_run


def cell(identity, **fields):
    return {
        "identity": identity,
        "identity_version": 1,
        "canonical": "{}",
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


def finished(store, identity, value=1.0, **fields):
    (number,) = add_runs(store, [cell(identity, **fields)], [run(identity)])
    start_run(store, number, "token", {})
    assert finish_run(store, number, "token", {"state": "done", "parameters": 5}, [metric(value)])
    return number


def test_a_run_goes_from_pending_through_running_to_done(store):
    (number,) = add_runs(store, [cell("a")], [run("a")])
    key = RunKey("a", "d", "cpu")
    assert newest_runs(store, [key]) == {key: (number, "pending")}
    start_run(store, number, "one", {"commit": "abc"})
    assert newest_runs(store, [key])[key].state == "running"
    assert finish_run(store, number, "one", {"state": "done", "message": None}, [metric(1.5), metric(2, "nll", "")])
    row = find_run(store, number)
    assert (row.state, row.attempt, row.commit, row.cell.task) == ("done", 1, "abc", "digits")
    assert {m.name: (m.position, m.value) for m in row.metrics} == {"error@1": (0, 1.5), "nll": (1, 2.0)}


def test_a_superseded_attempt_stores_nothing(store):
    (number,) = add_runs(store, [cell("a")], [run("a")])
    start_run(store, number, "old", {})
    start_run(store, number, "new", {})
    assert not finish_run(store, number, "old", {"state": "done"}, [metric(9)])
    assert find_run(store, number).state == "running"
    assert finish_run(store, number, "new", {"state": "done"}, [metric(1)])
    assert not finish_run(store, number, "new", {"state": "failed"}, [])
    assert find_run(store, number).attempt == 2


def test_runs_are_told_apart_by_data_and_device_and_the_newest_counts(store):
    add_runs(
        store,
        [cell("a")],
        [run("a"), run("a", data_digest="e"), run("a", device_class="cuda"), run("a")],
    )
    keys = [RunKey("a", "d", "cpu"), RunKey("a", "e", "cpu"), RunKey("a", "d", "cuda"), RunKey("b", "d", "cpu")]
    assert {key: state.id for key, state in newest_runs(store, keys).items()} == dict(
        zip(keys, (4, 2, 3), strict=False)
    )


def test_released_runs_are_pending_again_and_ended_ones_stay(store):
    done = finished(store, "a")
    (number,) = add_runs(store, [cell("b")], [run("b")])
    start_run(store, number, "t", {})
    release_runs(store, [number, done])
    assert (find_run(store, number).state, find_run(store, done).state) == ("pending", "done")
    assert count_unfinished(store) == 1


def test_a_cell_is_stored_once(store):
    add_runs(store, [cell("a")], [run("a")])
    add_runs(store, [cell("a"), cell("b")], [run("a"), run("b")])
    assert latest_runs(store, 9) == [3, 2, 1]


def test_many_cells_are_looked_up_at_once(store):
    names = [f"{i:04}" for i in range(1200)]
    add_runs(store, [cell(name) for name in names], [run(name) for name in names])
    assert len(newest_runs(store, [RunKey(name, "d", "cpu") for name in names])) == 1200


def test_results_are_the_newest_ended_runs_with_the_metric_asked_for(store):
    finished(store, "a", 5.0)
    newest = finished(store, "a", 4.0)
    finished(store, "b", 7.0, task="other")
    (number,) = add_runs(store, [cell("c")], [run("c")])
    start_run(store, number, "t", {})
    finish_run(store, number, "t", {"state": "unsupported", "message": "too small"}, [])
    add_runs(store, [cell("d")], [run("d")])
    results = read_results(store)
    assert [(r.run, r.task, r.state, r.value) for r in results] == [
        (newest, "digits", "done", 4.0),
        (number, "digits", "unsupported", None),
        (3, "other", "done", 7.0),
    ]
    assert [r.value for r in read_results(store, task="other")] == [7.0]
    assert read_results(store, architecture="none") == []
    assert {r.value for r in read_results(store, metric="nll")} == {None}


def test_what_is_exported_can_be_added_elsewhere(store, tmp_path):
    finished(store, "a", 5.0)
    finished(store, "b", 6.0)
    add_runs(store, [cell("c")], [run("c")])
    lines = list(export_runs(store))
    (tmp_path / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    other = open_for_writing(locate("other.db"))
    assert add_records(other, [tmp_path / "r.jsonl"]) == 2
    assert list(export_runs(other)) == lines
    assert [(r.state, r.value) for r in read_results(other)] == [("done", 5.0), ("done", 6.0)]
    other.close()


@pytest.mark.parametrize("line", ["not json", "{}", '{"format": 2, "cell": {}, "run": {}, "metrics": []}'])
def test_a_line_that_is_no_record_is_refused_with_its_place_and_nothing_is_added(store, tmp_path, line):
    finished(store, "a")
    (good,) = export_runs(store)
    (tmp_path / "r.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    other = open_for_writing(locate("other.db"))
    with pytest.raises(StoreError, match=r"r.jsonl, line 2, is no record"):
        add_records(other, [tmp_path / "r.jsonl"])
    assert latest_runs(other, 1) == []
    other.close()
