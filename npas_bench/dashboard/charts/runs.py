"""Charts of a single run: its training, its parameters, and the layers that share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go

from npas_bench.dashboard.charts.boards import COLOURS, REFERENCE_COLOUR, layout
from npas_bench.dashboard.words import drawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FEW_EPOCHS = 20
_FEW_GROUPS = 8


def curve_chart(history: Sequence[Mapping[str, Any]], field: str, title: str, marks: Mapping[int, str]) -> go.Figure:
    """Draw a quantity of a training, epoch by epoch, with marks at certain epochs.

    Args:
        history: the run's history, an entry for each epoch.
        field: the field of the entries to draw.
        title: the title of its axis.
        marks: what happened at certain epochs.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[entry["epoch"] for entry in history],
        y=[entry.get(field) for entry in history],
        mode="lines+markers",
        line={"color": COLOURS[0]},
        marker={"size": 6},
        hovertemplate="epoch %{x}<br>%{y:.4g}<extra></extra>",
    )
    for epoch, what in marks.items():
        figure.add_vline(x=epoch, line={"color": COLOURS[1], "dash": "dot"}, annotation_text=drawn(what))
    if len(history) <= _FEW_EPOCHS:
        figure.update_xaxes(dtick=1)
    return layout(figure, "epoch", title, height=300)


def ledger_chart(parts: Mapping[str, int], budget: int) -> go.Figure:
    """Draw the parts that the trainable scalars belong to, as one stacked bar beside the budget.

    Args:
        parts: how many scalars each part has.
        budget: how many scalars are allowed.
    """
    figure = go.Figure()
    for place, (name, count) in enumerate(parts.items()):
        figure.add_bar(
            x=[count],
            y=["parameters"],
            orientation="h",
            name=f"{name} {count:,}",
            marker={"color": COLOURS[place % len(COLOURS)]},
            hovertemplate=f"{name} {count:,} ({100 * count / budget:.2f} % of the budget)<extra></extra>",
        )
    figure.add_vline(x=budget, line={"color": REFERENCE_COLOUR, "dash": "dash"})
    figure.update_layout(barmode="stack")
    figure.update_yaxes(showticklabels=False)
    figure = layout(figure, "trainable scalars; the dashed line is the budget", "", height=190)
    figure.update_layout(legend={"y": -0.75, "traceorder": "normal"})
    return figure


class Segment(NamedTuple):
    """The part of a group's store that one template of a layer reads.

    Attributes:
        layer: the name of the layer.
        group: the number of the parameter group.
        first: the first scalar of the group's store that is read.
        length: how many scalars are read.
        coefficient: the coefficient of the template; None if it has none.
        rule: the rule that makes the weight from what is read.
    """

    layer: str
    group: int
    first: int
    length: int
    coefficient: float | None
    rule: str


# More segments would be too small to see and slow to draw.
MOST_SEGMENTS = 4000


def sharing_chart(segments: Sequence[Segment]) -> go.Figure:
    """Draw which part of which group's store each layer reads, with templates coloured by their coefficients."""
    layers = list(dict.fromkeys(segment.layer for segment in segments))
    ends: dict[int, int] = {}
    for segment in segments:
        ends[segment.group] = max(ends.get(segment.group, 0), segment.first + segment.length)
    offsets, place = {}, 0.0
    gap = 0.02 * sum(ends.values())
    for group in sorted(ends):
        offsets[group] = place
        place += ends[group] + gap
    figure = go.Figure()
    mixed = [segment for segment in segments if segment.coefficient is not None]
    whole = [segment for segment in segments if segment.coefficient is None]
    if mixed:
        most = max(abs(segment.coefficient or 0.0) for segment in mixed) or 1.0
        _add_segments(
            figure,
            mixed,
            offsets,
            "template, coloured by its coefficient",
            {
                "color": [segment.coefficient for segment in mixed],
                "colorscale": "RdBu",
                "cmin": -most,
                "cmax": most,
                "colorbar": {"title": "coefficient", "thickness": 12, "len": 0.6},
                "line": {"width": 0.5, "color": "#ffffff"},
            },
        )
    if whole:
        colours = [COLOURS[segment.group % len(COLOURS)] for segment in whole]
        marker = {"color": colours, "line": {"width": 0.5, "color": "#ffffff"}}
        _add_segments(figure, whole, offsets, "read without a coefficient, coloured by group", marker)
    figure.update_layout(barmode="overlay", showlegend=False)
    figure.update_yaxes(
        categoryorder="array", categoryarray=[drawn(name) for name in reversed(layers)], tickfont={"size": 10}
    )
    figure.update_xaxes(
        tickvals=[offsets[group] + ends[group] / 2 for group in offsets],
        ticktext=[f"{'group ' if len(ends) <= _FEW_GROUPS else ''}{group}<br>{ends[group]:,}" for group in offsets],
        tickangle=0,
    )
    height = max(260, 90 + 20 * len(layers))
    return layout(figure, "parameter group, and how many scalars of its store are read", "", height=height)


def _add_segments(
    figure: go.Figure, segments: Sequence[Segment], offsets: Mapping[int, float], name: str, marker: dict[str, Any]
) -> None:
    figure.add_bar(
        x=[segment.length for segment in segments],
        base=[offsets[segment.group] + segment.first for segment in segments],
        y=[drawn(segment.layer) for segment in segments],
        orientation="h",
        name=name,
        marker=marker,
        customdata=[
            [
                segment.group,
                f"{segment.first:,}",
                f"{segment.length:,}",
                drawn(segment.rule),
                "" if segment.coefficient is None else f", coefficient {segment.coefficient:.3g}",
            ]
            for segment in segments
        ],
        hovertemplate=(
            "<b>%{y}</b><br>group %{customdata[0]}, %{customdata[2]} scalars from %{customdata[1]} on"
            "<br>%{customdata[3]}%{customdata[4]}<extra></extra>"
        ),
    )
