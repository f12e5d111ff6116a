"""Charts of boards: Plotly figures of numbers that `leaderboard` computed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go

from npas_bench.dashboard.words import drawn, share_text, with_unit
from npas_bench.leaderboard.papers import citation, method_there
from npas_bench.leaderboard.standings import leading_methods
from npas_bench.leaderboard.texts import decimals, direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from npas_bench.leaderboard.comparison import Encounter, HeadToHead
    from npas_bench.leaderboard.cost import CostAxis, Spent
    from npas_bench.leaderboard.papers import Point
    from npas_bench.leaderboard.standings import BoardTable, Standing

# Paul Tol's "bright" scheme, distinct with any colour vision, on white and on black. Shapes repeat what colours say.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#999999")
_SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon", "star", "hexagon")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
REFERENCE_COLOUR = "#888888"
# More lines would be hard to distinguish and slow to draw.
MOST_METHODS = 40
# More would fill several screens; the tables below the chart show all.
MOST_DIFFERENCES = 60


class Style(NamedTuple):
    """How a method is drawn in every chart."""

    colour: str
    shape: str
    dash: str


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each method, by its place among all methods of a table."""
    return {
        label: Style(
            COLOURS[place % len(COLOURS)],
            _SHAPES[place % len(_SHAPES)],
            _DASHES[place // len(COLOURS) % len(_DASHES)],
        )
        for place, label in enumerate(sorted(set(labels)))
    }


def _styles_of(table: BoardTable) -> dict[str, Style]:
    return styles(standing.label for band in table.all_bands for standing in band.standings)


def layout(figure: go.Figure, x: str, y: str, height: int = 460) -> go.Figure:
    """Give a figure the titles of its axes, its height and its margins."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0, "xanchor": "left"},
        hovermode="closest",
        dragmode=False,
    )
    figure.update_xaxes(title_text=drawn(x, 120), automargin=True)
    figure.update_yaxes(title_text=drawn(y, 120), automargin=True)
    return figure


def frontier_chart(
    table: BoardTable, points: Sequence[Point], *, logarithmic: bool = False, whole: str = "full"
) -> go.Figure:
    """Draw the metric against the budget.

    Each method is a line with a band for its intervals, papers' numbers are hollow marks, and the dense network is a
    dashed line.


    Args:
        table: the table with the results.
        points: the papers' numbers beside it.
        logarithmic: whether the metric's axis is logarithmic.
        whole: the method that trains the dense network itself.
    """
    figure = go.Figure()
    curves: dict[str, list[tuple[float, int, str, Standing]]] = {}
    shown = leading_methods(table, MOST_METHODS)
    for band in table.bands:
        for standing in band.standings:
            if standing.mean is not None and standing.label in shown:
                percent = 100 * band.budget / table.full
                curves.setdefault(standing.label, []).append((percent, band.budget, band.text, standing))
    look = _styles_of(table)
    for point in points:
        # A method without results here has no colour of its own.
        look.setdefault(point.row.method_here or point.row.method, Style(REFERENCE_COLOUR, "circle", "solid"))
    dense = curves.pop(whole, [])
    for label, curve in curves.items():
        _add_band(figure, [(x, s) for x, _, _, s in curve], look[label].colour)
    for label, curve in curves.items():
        style = look[label]
        figure.add_scatter(
            x=[x for x, *_ in curve],
            y=[standing.mean for *_, standing in curve],
            customdata=[[label, budget, drawn(text), standing.seeds] for _, budget, text, standing in curve],
            name=drawn(label),
            mode="lines+markers",
            line={"color": style.colour, "dash": style.dash, "width": 2},
            marker={"symbol": style.shape, "size": 10, "color": style.colour},
            unselected={"marker": {"opacity": 0.7}},
            hovertemplate=_hover(label, table, "budget %{customdata[2]}", "%{customdata[3]} seeds"),
        )
    for _, _, _, standing in dense[-1:]:
        _add_dense(figure, standing, table)
    _add_papers(figure, points, table, look)
    shares = sorted({100 * band.budget / table.full for band in table.bands})
    figure.update_xaxes(type="log", **_ticks([*shares, *(p.share for p in points if p.share)]))
    if logarithmic:
        figure.update_yaxes(type="log", dtick="D2")
    return layout(figure, "budget, % of the full architecture's parameters", metric_axis(table))


def _add_band(figure: go.Figure, curve: Sequence[tuple[float, Standing]], colour: str) -> None:
    there = [(x, s.mean, s.half_width) for x, s in curve if s.mean is not None and s.half_width is not None]
    if len(there) > 1:
        figure.add_scatter(
            x=[x for x, *_ in there] + [x for x, *_ in reversed(there)],
            y=[m + h for _, m, h in there] + [m - h for _, m, h in reversed(there)],
            fill="toself",
            fillcolor=_see_through(colour),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
        )


def _see_through(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.14)"


def _add_dense(figure: go.Figure, standing: Standing, table: BoardTable) -> None:
    figure.add_hline(y=standing.mean, line={"color": REFERENCE_COLOUR, "dash": "dash", "width": 1.5})
    # The line above has no entry in the legend, so this point makes one.
    figure.add_scatter(
        x=[100.0],
        y=[standing.mean],
        customdata=[[standing.label, table.full, "100%", standing.seeds]],
        name=f"{drawn(standing.label)} (dense network)",
        mode="lines+markers",
        line={"color": REFERENCE_COLOUR, "dash": "dash"},
        marker={"symbol": "star", "size": 12, "color": REFERENCE_COLOUR},
        unselected={"marker": {"opacity": 0.7}},
        hovertemplate=_hover(standing.label, table, "dense network", "%{customdata[3]} seeds"),
    )


def _add_papers(figure: go.Figure, points: Sequence[Point], table: BoardTable, look: Mapping[str, Style]) -> None:
    series: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.share:
            series.setdefault((point.row.source, point.row.method_here or point.row.method), []).append(point)
    for (source, method), some in series.items():
        style = look[method]
        figure.add_scatter(
            x=[point.share for point in some],
            y=[point.value for point in some],
            text=[drawn(f"{method_there(p.row)}, {p.row.table}") for p in some],
            error_y={"array": [point.spread or 0 for point in some], "thickness": 1, "color": style.colour},
            name=drawn(f"{method} in {citation(source)}"),
            mode="markers",
            marker={"symbol": f"{style.shape}-open", "size": 10, "color": style.colour, "line": {"width": 2}},
            hovertemplate="<br>".join(["%{text}", drawn(citation(source)), f"{drawn(table.metric or '')} %{{y}}"])
            + "<extra></extra>",
        )


def _hover(label: str, table: BoardTable, *more: str) -> str:
    lines = [
        f"<b>{drawn(label)}</b>",
        f"{drawn(with_unit(table.metric or '', table.unit))} %{{y:.{decimals(table.unit)}f}}",
        *more,
    ]
    return "<br>".join(lines) + "<extra></extra>"


def _ticks(shares: Sequence[float | None]) -> dict[str, Any]:
    """The range of a logarithmic axis, with marks at round percentages."""
    there = [share for share in shares if share]
    if not there:
        return {}
    marks = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)]
    low, high = min(there) / 1.15, max(there) * 1.15
    inside = [mark for mark in marks if low <= mark <= high]
    return {
        "range": [math.log10(low), math.log10(high)],
        "tickvals": inside,
        "ticktext": [share_text(mark) for mark in inside],
    }


def metric_axis(table: BoardTable) -> str:
    """The title of a metric's axis: the metric with its unit and direction."""
    return f"{with_unit(table.metric or 'result', table.unit)}, {direction(table.higher_is_better)}"


def cost_chart(table: BoardTable, results: Sequence[Spent], cost: CostAxis) -> go.Figure:
    """Draw the metric against a cost. Results of the Pareto set are ringed and joined by a line."""
    figure = go.Figure()
    best = [one for one in results if one.best]
    figure.add_scatter(
        x=[one.cost for one in best],
        y=[one.standing.mean for one in best],
        name="best at its cost (Pareto set)",
        mode="lines+markers",
        line={"color": REFERENCE_COLOUR, "width": 1.5, "shape": "hv"},
        marker={"symbol": "circle-open", "size": 20, "color": REFERENCE_COLOUR, "line": {"width": 2}},
        hoverinfo="skip",
    )
    series: dict[str, list[Spent]] = {}
    shown = leading_methods(table, MOST_METHODS) | {one.standing.label for one in best[:MOST_METHODS]}
    for one in results:
        if one.standing.label not in shown:
            continue
        series.setdefault(one.standing.label, []).append(one)
    unit = f" {cost.unit}" if cost.unit else ""
    look = _styles_of(table)
    for label, some in series.items():
        style = look[label]
        figure.add_scatter(
            x=[one.cost for one in some],
            y=[one.standing.mean for one in some],
            customdata=[[drawn(one.band.text)] for one in some],
            name=drawn(label),
            mode="markers",
            marker={"symbol": style.shape, "size": 10, "color": style.colour},
            error_y={"array": [one.standing.half_width or 0 for one in some], "thickness": 1, "color": style.colour},
            hovertemplate=_hover(label, table, "budget %{customdata[0]}", f"{cost.name} %{{x:.4g}}{unit}"),
        )
    return layout(figure, with_unit(cost.name, cost.unit), metric_axis(table))


def difference_chart(found: HeadToHead, encounters: Sequence[Encounter]) -> go.Figure:
    """Draw differences with their intervals, one below the other. Significant ones are filled.

    Args:
        found: the comparison of two methods.
        encounters: the encounters to draw, which have the same metric.
    """
    shown = [one for one in encounters if one.difference is not None][:MOST_DIFFERENCES]
    names = [drawn(f"{one.table.task} · {one.table.architecture} · {one.text}", 80) for one in shown]
    figure = go.Figure()
    for certain in (True, False):
        some = [place for place, one in enumerate(shown) if (one.winner is not None) is certain]
        differences = [shown[place].difference for place in some]
        if some:
            figure.add_scatter(
                x=[difference.mean for difference in differences if difference],
                y=some,
                text=[names[place] for place in some],
                error_x={"array": [d.half_width or 0 for d in differences if d], "thickness": 1.5},
                mode="markers",
                name="significant" if certain else "cannot be told apart",
                marker={"symbol": "circle" if certain else "circle-open", "size": 11, "color": COLOURS[0]},
                hovertemplate="%{text}<br>%{x:.4g}<extra></extra>",
            )
    figure.add_vline(x=0, line={"color": REFERENCE_COLOUR, "dash": "dash", "width": 1.5})
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed")
    table = encounters[0].table
    title = with_unit(f"{table.metric}: {found.first} − {found.second}", table.unit)
    figure = layout(figure, title, "", height=140 + 34 * len(names))
    # The legend is above because below it would overlap the axis of a small figure.
    figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"})
    return figure
