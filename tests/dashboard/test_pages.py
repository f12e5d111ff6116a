"""Every number of a page is that of the command line for the same choice."""

import json

import pandas as pd
import pytest

from npas_bench.leaderboard.cost import COSTS
from tests.dashboard.conftest import MARKUP


@pytest.fixture
def board(call, mine):
    """What `npas-bench leaderboard` says as JSON, by the name of the source."""

    def read(*arguments):
        shown = call("leaderboard", "--format", "json", *arguments)
        assert shown.returncode == 0, shown.stderr
        return {board["source"]: board["tables"] for board in json.loads(shown.stdout)["boards"]}

    return read


def standings(tables):
    return [(table, band, one) for table in tables for band in table["budgets"] for one in band["standings"]]


def plain(values):
    """A column of a data frame with None where nothing is."""
    return [None if pd.isna(value) else value for value in values]


def no_trouble(page):
    assert [error.value for error in page.exception] == []
    assert [error.value for error in page.error] == []
    return page


# As addresses and the command line name sources and costs.
WHOSE = {"all": "all", "mine": "your runs", "published": "published"}
KINDS = {"time": "step time", "memory": "peak memory", "flops": "FLOPs", "parameters": "parameters"}
CHOICES = {
    "everything": ({}, ()),
    "a task": ({"task": "cifar100"}, ("--task", "cifar100")),
    "an architecture": ({"architecture": "wrn-10-1"}, ("--architecture", "wrn-10-1")),
    "a metric": ({"metric": "nll"}, ("--metric", "nll")),
    "a band of budgets": ({"budget": ["2%", "10%"]}, ("--from-budget", "2%", "--to-budget", "10%")),
    "a method": ({"method": "ssn"}, ("--method", "ssn")),
    "all at once": (
        {"task": "digits", "architecture": "wrn-10-1", "budget": ["10%", "any"], "method": "R"},
        ("--task", "digits", "--architecture", "wrn-10-1", "--from-budget", "10%", "--method", "R"),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("source", WHOSE)
def test_the_board_shows_what_the_command_prints(board, show, call, name, source):
    chosen, arguments = CHOICES[name]
    if (name, source) == ("a task", "published"):
        # Which the published board has no results of.
        assert call("leaderboard", *arguments, "--source", source).returncode == 2
        assert "No result matches" in show("board", source=source, **chosen).info[0].value
        return
    wanted = board(*arguments, "--source", source)
    page = no_trouble(show("board", source=WHOSE[source], **chosen))
    shown = [frame.value for frame in page.dataframe]
    expected = [standings(tables) for tables in wanted.values() if tables]
    assert [len(frame) for frame in shown] == [len(rows) for rows in expected]
    for frame, rows in zip(shown, expected, strict=True):
        for column, field in {
            "Rank": "rank",
            "Method": "label",
            "Mean": "mean",
            "±": "half_width",
            "Parameters": "parameters",
            "Step": "relative_time",
        }.items():
            assert plain(frame[column]) == [one[field] for *_, one in rows], column
        assert plain(frame["Seeds"]) == [one["seeds"] or None for *_, one in rows]
        assert plain(frame["Budget"]) == [band["text"] for _, band, _ in rows]
        assert plain(frame["Memory"]) == [one["peak_memory"] and one["peak_memory"] / 2**20 for *_, one in rows]
        if "Notes" in frame:
            notes = [
                [note for note in cell if not note[0].isdigit() and note != "unsupported"] for cell in frame["Notes"]
            ]
            assert notes == [one["badges"] for *_, one in rows]


def test_choices_that_match_nothing_say_so(show, mine):
    page = no_trouble(show("board", method="no such method"))
    assert not page.dataframe
    assert "No result matches" in page.info[0].value


def table_of(board, **wanted):
    return next(t for tables in board.values() for t in tables if all(t[k] == v for k, v in wanted.items()))


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({"source": "mine", "task": "digits"}, {"task": "digits", "data_official": True}),
        ({"source": "mine", "task": "cifar100"}, {"task": "cifar100"}),
        ({"source": "published", "architecture": "wrn-22-1"}, {"architecture": "wrn-22-1"}),
    ],
)
def test_the_frontier_draws_what_the_command_prints(board, show, chosen, wanted):
    table = table_of(board("--source", chosen["source"]), **wanted)
    page = no_trouble(show("frontier", **chosen | {"source": WHOSE[chosen["source"]]}))
    traces = json.loads(page.get("plotly_chart")[0].proto.spec)["data"]
    means = {
        (label, round(x, 9)): y
        for trace in traces
        if trace.get("customdata")
        for (label, *_), x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
    }
    assert means == {
        (one["label"], round(band["percent"], 9)): one["mean"]
        for _, band, one in standings([table])
        if one["mean"] is not None
    }
    bands = [trace for trace in traces if trace.get("fill") == "toself"]
    edges = {round(y, 9) for trace in bands for y in trace["y"]}
    assert edges <= {
        round(one["mean"] + sign * one["half_width"], 9)
        for *_, one in standings([table])
        for sign in (-1, 1)
        if one["half_width"] is not None
    }
    hollow = [trace for trace in traces if str(trace.get("marker", {}).get("symbol")).endswith("-open")]
    assert sorted(y for trace in hollow for y in trace["y"]) == sorted(
        point["value"] for point in table["papers"] if point["percent"]
    )
    if table["frontier"]["scores"]:
        scores = page.dataframe[0].value
        for column, field in {"Rank": "rank", "Method": "label", "Score": "score", "±": "half_width"}.items():
            assert plain(scores[column]) == [score[field] for score in table["frontier"]["scores"]]


@pytest.mark.parametrize("kind", COSTS)
def test_the_costs_are_what_the_command_prints(board, show, kind):
    table = table_of(board("--source", "mine"), task="digits", data_official=True)
    page = no_trouble(show("cost", source="your runs", task="digits", cost=KINDS[kind]))
    frame = page.dataframe[0].value
    factor = {
        "time": lambda one: 1000 * one["seconds_per_step"],
        "memory": lambda one: one["peak_memory"] / 2**20,
        "flops": lambda one: (one["forward_flops"] + one["generation_flops"]) / 1e6,
        "parameters": lambda one: one["parameters"],
    }[kind]
    rows = {(one["label"], band["text"]): one for _, band, one in standings([table]) if one["mean"] is not None}
    assert len(frame) == len(rows)
    for row in frame.to_dict("records"):
        one = rows[row["Method"], row["Budget"]]
        assert (row["Mean"], row["Cost"], row["Parameters"]) == (one["mean"], factor(one), one["parameters"])
        assert (None if pd.isna(row["±"]) else row["±"]) == one["half_width"]


def test_a_comparison_is_what_the_command_prints_and_follows_from_the_board(board, show, call):
    page = no_trouble(show("compare", source="your runs", first="hashednets", second="reduced"))
    (found,) = json.loads(call("compare", "hashednets", "reduced", "--source", "mine", "--format", "json").stdout)[
        "boards"
    ]
    frame, overall = (one.value for one in page.dataframe)
    digits = table_of(board("--source", "mine"), task="digits", data_official=True)
    by_budget = {band["text"]: band for band in digits["budgets"]}
    assert len(frame) == len(found["comparisons"]) == 3
    for row, one in zip(frame.to_dict("records"), found["comparisons"], strict=True):
        assert (row["Budget"], row["First"], row["Second"]) == (one["text"], one["first"], one["second"])
        assert (row["Difference"], row["±"]) == (one["difference"]["mean"], one["difference"]["half_width"])
        assert row["Better"] == (one["winner"] or "cannot be told apart")
        seeds = [
            {run["seed"]: run["value"] for run in s["runs"]}
            for label in ("hashednets", "reduced")
            for s in by_budget[one["text"]]["standings"]
            if s["label"] == label
        ]
        differences = [seeds[0][seed] - seeds[1][seed] for seed in sorted(seeds[0])]
        assert row["Difference"] == pytest.approx(sum(differences) / 3)
    assert plain(overall["Difference"]) == [one["difference"]["mean"] for one in found["overall"]]
    # Streamlit's Markdown takes a backslash before what it would else obey.
    assert page.info[0].value.replace("\\", "") == found["verdict"]


def test_a_run_shows_the_values_of_the_board(board, show):
    for _, _, one in standings([table_of(board("--source", "mine"), task="cifar100")]):
        for run in one["runs"]:
            page = no_trouble(show("run", of="your runs", run=str(run["run"])))
            assert page.metric[0].value == f"{run['value']:.2f} %"
            assert repr(run["value"]) in page.metric[0].help
            assert f"seed {run['seed']}" in page.subheader[0].value


def test_a_run_has_its_curves_its_ledger_its_map_and_the_command_that_repeats_it(show, mine, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DB", "nothing.db")
    lines = no_trouble(show("run")).dataframe[0].value
    number = lines[lines["Cell"].str.contains("superweights 65% seed 0")]["Run"].iloc[0]
    page = no_trouble(show("run", run=str(number)))
    charts = [json.loads(chart.proto.spec) for chart in page.get("plotly_chart")]
    assert [len(chart["data"][0]["x"]) for chart in charts[:2]] == [15, 15]
    assert "npas-bench run --task digits --architecture wrn-22-1 --method superweights" in page.code[0].value
    assert any("sharing refined" in one.value for one in page.markdown)
    bars = charts[3]["data"]
    assert {tuple(bar["y"][:1]) for bar in bars} <= {(layer,) for bar in bars for layer in bar["y"]}
    assert any(extra[4].startswith(", coefficient") for bar in bars for extra in bar["customdata"])


def test_a_run_that_is_not_there_is_no_trouble(show, mine):
    page = no_trouble(show("run", of="your runs", run="99999"))
    assert "has no run 99999" in page.warning[0].value
    assert len(page.dataframe[0].value) > 10


def test_a_run_that_was_run_again_says_so(show, mine, board):
    one = next(one for *_, one in standings(board("--source", "mine")["mine"]) if "reproduced" in one["badges"])
    page = no_trouble(show("run", of="your runs", run=str(one["runs"][0]["run"])))
    repeated = next(frame.value for frame in page.dataframe if "Same to the bit" in frame.value)
    assert repeated["Same to the bit"].tolist() == [True]


def test_grids_are_what_status_prints(show, call, mine):
    page = no_trouble(show("grids"))
    status = json.loads(call("status", "--json").stdout)
    assert len(page.get("progress")) == len(status["grids"])
    # What somebody is at comes first.
    assert page.get("progress")[0].proto.text.startswith("**under way**")
    for bar in page.get("progress"):
        name = bar.proto.text.split("**")[1]
        grid = next(grid for grid in status["grids"] if (grid["grid"] or "without a grid") == name)
        for state, count in grid["counts"].items():
            assert (f"{count} {state}" in bar.proto.text) == bool(count)
    failed = next(frame.value for frame in page.dataframe if "Message" in frame.value)
    assert failed["Message"].tolist() == ["out of memory"]


@pytest.mark.parametrize("printed", ["teterwak2023superweights Table 1", "plummer2022npas Table 12"])
def test_a_papers_table_is_what_the_command_prints(show, call, mine, printed):
    from npas_bench.leaderboard.papers import citation

    source, _, table = printed.partition(" ")
    page = no_trouble(show("papers", printed=f"{citation(source)}, {table}"))
    lines = json.loads(call("compare", "--table", printed, "--format", "json").stdout)["lines"]
    frame = page.dataframe[0].value
    assert len(frame) == len(lines) >= 14
    assert plain(frame["Printed"]) == [line["value"] for line in lines]
    measured = [line["measured"] or {} for line in lines]
    assert plain(frame["Measured"]) == [one.get("mean") for one in measured]
    if any(measured):
        assert plain(frame["Difference"]) == [one.get("difference") for one in measured]
        assert plain(frame["Measured ±"]) == [one.get("half_width") for one in measured]
        assert sum(one.get("mean") is not None for one in measured) == 2


def test_names_with_markup_are_shown_as_they_are(show, mine):
    page = no_trouble(show("board", source="your runs"))
    assert MARKUP in page.dataframe[0].value["Method"].str.removesuffix(" (<b>key</b>==1+1|x)").tolist()
    tables = show("frontier", source="your runs").selectbox(key="table").options
    hostile = next(title for title in tables if "onerror" in title)
    for name in ("frontier", "cost", "compare", "run", "papers"):
        first = f"{MARKUP} (<b>key</b>==1+1|x)"
        page = no_trouble(show(name, source="your runs", task="digits", table=hostile, first=first))
        written = [one.value for kind in (page.markdown, page.caption, page.subheader, page.info) for one in kind]
        assert not any(":red[" in text.replace("\\:", "") or "](http" in text for text in written)
        specs = [without_labels(json.loads(chart.proto.spec)) for chart in page.get("plotly_chart")]
        assert not any("<img" in spec or "<b>key" in spec for spec in specs)
        assert name not in ("frontier", "cost") or any("&lt;img" in spec for spec in specs)


@pytest.mark.parametrize(
    ("page", "parameters"),
    [
        ("board", {"task": "nonsense"}),
        ("frontier", {"table": "nonsense"}),
        ("cost", {"architecture": "nonsense"}),
        ("compare", {"first": "nonsense", "second": "nonsense"}),
        ("run", {"of": "nonsense"}),
        ("papers", {"printed": "nonsense"}),
    ],
)
def test_a_link_to_what_is_not_there_says_so(show, mine, page, parameters):
    drawn = no_trouble(show(page, **parameters))
    assert [w.value for w in drawn.warning] == ["The link names nonsense, which is not among the results here."] * len(
        parameters
    )


@pytest.mark.parametrize("run", ["abc", "1e400", "-1", "9007199254740991", "٣", "1.5", "0"])
def test_a_run_that_is_no_number_is_no_trouble(show, mine, run):
    drawn = no_trouble(show("run", of="your runs", run=run))
    assert "has no run" in drawn.warning[0].value


@pytest.mark.parametrize("page", ["board", "frontier", "cost", "compare", "run"])
def test_data_that_is_not_the_official_says_so_on_every_page(show, mine, monkeypatch, page):
    monkeypatch.setenv("NPAS_BENCH_DB", "nothing.db")
    drawn = no_trouble(show(page, task="cifar10", run="20"))
    shown = [one.value.replace("\\", "") for kind in (drawn.caption, drawn.markdown) for one in kind]
    shown += [frame.value.to_csv() for frame in drawn.dataframe]
    assert any("CIFAR-10 (JPEG q75), unofficial data" in text for text in shown)


def test_all_results_of_a_method_are_drawn_alike_on_every_page(show, mine):
    colours = []
    for page in ("frontier", "cost"):
        spec = json.loads(show(page, source="your runs", task="digits").get("plotly_chart")[0].proto.spec)
        colours.append(
            {trace["name"]: trace["marker"]["color"] for trace in spec["data"] if trace.get("name") == "ssn"}
        )
    assert colours[0] == colours[1] != {}


def without_labels(spec):
    """A chart as text, without the labels by which a clicked point is found, which are not drawn."""
    for trace in spec["data"]:
        trace["customdata"] = [entry[1:] for entry in trace.get("customdata", []) if isinstance(entry, list)]
    return json.dumps(spec)
