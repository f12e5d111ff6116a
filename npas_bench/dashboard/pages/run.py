"""The page on one run: its result, curves, parameters, sharing map and provenance, and the command that repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from npas_bench.cells.labels import method_label
from npas_bench.dashboard.charts.runs import MOST_SEGMENTS, Segment, curve_chart, ledger_chart, sharing_chart
from npas_bench.dashboard.filters import choose_name
from npas_bench.dashboard.guard import nothing_yet, page
from npas_bench.dashboard.looking import ask
from npas_bench.dashboard.pages.links import run_page_link
from npas_bench.dashboard.words import plain
from npas_bench.database.labels import cell_label, data_text, printable, short
from npas_bench.database.queries.listing import recent_runs
from npas_bench.database.queries.reproductions import read_finished_runs
from npas_bench.database.queries.results import find_run
from npas_bench.database.states import RunState
from npas_bench.leaderboard.files import no_formula
from npas_bench.leaderboard.texts import (
    cost_lines,
    direction,
    ledger_parts,
    number_text,
    provenance_texts,
    reproducing_command,
)
from npas_bench.recipe.stored import differing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from npas_bench.dashboard.looking import Look
    from npas_bench.database.schema import RunRow

_LISTED = 200
# Longer numbers may not fit the integers of a database server.
_LONGEST_NUMBER = 10
_ICONS = {
    RunState.DONE: ":material/check_circle:",
    RunState.FAILED: ":material/error:",
    RunState.UNSUPPORTED: ":material/block:",
}


@page("Run", "One run in full, and the command that repeats it.")
def run_page(looks: list[Look]) -> None:
    """Draw the page."""
    if not looks:
        nothing_yet()
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = choose_name("Of", "of", [look.short for look in looks])
        written = st.text_input("Run", key="run", placeholder="its number", width=140, bind="query-params").strip()
    look = next((look for look in looks if look.short == name), looks[0])
    if not written:
        _list(look)
        return
    number = int(written) if written.isascii() and written.isdigit() and len(written) < _LONGEST_NUMBER else None
    row = None if number is None else ask(look, lambda database: find_run(database, number))
    if row is None:
        st.warning(plain(f"{look.title} has no run {short(written)}."), icon=":material/search_off:")
        _list(look)
        return
    _draw(look, row)


def _list(look: Look) -> None:
    """Draw the newest runs, one of which can be chosen."""
    lines = ask(look, lambda database: recent_runs(database, limit=_LISTED))
    if not lines:
        nothing_yet("No runs yet.")
        return
    st.caption(f"The newest {len(lines)} runs: choose one.")
    event = st.dataframe(
        pd.DataFrame(
            [
                {
                    "Run": line.run,
                    "Cell": no_formula(short(line.cell, 120)),
                    "State": line.state,
                    "Grid": no_formula(line.grid or ""),
                    "Finished": line.finished,
                }
                for line in lines
            ]
        ),
        hide_index=True,
        placeholder="—",
        on_select="rerun",
        selection_mode="single-row",
        key=f"runs-{look.name}",
        column_config={"Finished": st.column_config.DatetimeColumn("Finished (UTC)", format="YYYY-MM-DD HH:mm")},
        alt="The newest runs",
    )
    rows = event["selection"]["rows"]
    if rows:
        st.switch_page(run_page_link(), query_params={"of": look.short, "run": str(lines[rows[0]].run)})


def _draw(look: Look, row: RunRow) -> None:
    cell = row.cell
    st.subheader(plain(short(cell_label(cell), 160)))
    claimed = row.origin is not None and look.name == "mine"
    data = data_text(row.data_label, row.data_official, claimed=claimed)
    facts = f"{row.state} · recipe {cell.recipe_name} · data {data} · {row.device} ({row.device_class})"
    st.markdown(f"{_ICONS.get(row.state, '')} {plain(facts)}")
    if row.message:
        (st.error if row.state is RunState.FAILED else st.warning)(plain(short(row.message, 2000)))
    _metrics(row)
    curves, parameters, sharing, origin = st.tabs(["Training", "Parameters", "Sharing map", "Provenance"])
    with curves:
        _curves(row)
    with parameters:
        _ledger(row)
    with sharing:
        _sharing(row)
    with origin:
        _provenance(row)
        _repetitions(look, row)
    st.subheader("This cell again")
    st.code(reproducing_command(row), language="bash", wrap_lines=True)


def _metrics(row: RunRow) -> None:
    with st.container(horizontal=True):
        for metric in sorted(row.metrics, key=lambda one: one.position)[:6]:
            unit = f" {plain(metric.unit)}" if metric.unit else ""
            st.metric(
                plain(metric.name),
                f"{plain(number_text(metric.value, metric.unit))}{unit}",
                help=f"{metric.value!r}; {direction(metric.higher_is_better)}",
                border=True,
                width=170,
            )
        if row.parameters is not None:
            share = 100 * row.parameters / row.cell.full
            st.metric(
                "parameters", f"{row.parameters:,}", help=f"{share:.3g} % of the full network", border=True, width=170
            )


def _curves(row: RunRow) -> None:
    history = row.history or []
    if not history:
        st.caption("No epoch was finished.")
        return
    marks = {int(entry["epoch"]): _event(entry) for entry in history if entry.get("parameters") is not None}
    st.plotly_chart(curve_chart(history, "loss", "mean training loss", marks), key="loss", alt="Training loss by epoch")
    st.plotly_chart(
        curve_chart(history, "learning_rate", "learning rate", {}), key="rate", alt="Learning rate by epoch"
    )
    events = [f"epoch {epoch}: {what}" for epoch, what in marks.items()]
    searched = (row.cost or {}).get("search_seconds")
    if searched:
        events.insert(0, f"before training: a search of {searched:.3g} s")
    if events:
        st.markdown("\n".join(f"- {plain(event)}" for event in events))
    if row.cost:
        st.caption(plain(", ".join(cost_lines(row.cost))))


def _event(entry: Mapping[str, Any]) -> str:
    return f"sharing refined, {int(entry['parameters']):,} parameters from here on"


def _ledger(row: RunRow) -> None:
    if not row.ledger:
        st.caption("No network was built.")
        return
    st.plotly_chart(
        ledger_chart(ledger_parts(row.ledger), row.cell.budget), key="ledger", alt="What the trainable scalars are"
    )
    said = [f"{row.parameters or 0:,} of a budget of {row.cell.budget:,}"]
    if row.ledger.get("reach") is not None:
        said.append(f"{100 * row.ledger['reach']:.4g} % in use")
    if row.ledger.get("remark"):
        said.append(str(row.ledger["remark"]))
    st.caption(plain(" · ".join(said)))


def _sharing(row: RunRow) -> None:
    segments = _segments(row.sharing or [])
    if not segments:
        st.caption("Every layer has parameters of its own, so nothing is shared.")
        return
    if len(segments) > MOST_SEGMENTS:
        st.caption(f"Of {len(segments):,} templates that layers read, the first {MOST_SEGMENTS:,} are shown.")
    st.plotly_chart(sharing_chart(segments[:MOST_SEGMENTS]), key="sharing", alt="Which layers read which parameters")
    st.caption(
        "Layers with bars in the same column read the same parameters. Red and blue bars are templates, coloured by "
        "their coefficients; other colours stand for parameter groups."
    )
    if row.structure:
        with st.expander("What the search or refinement decided"):
            st.json(row.structure, expanded=1)


def _segments(readings: Sequence[Sequence[Any]]) -> list[Segment]:
    found = []
    for layer, group, start, size, templates, rule, *rest in readings:
        coefficients = rest[0] if rest and rest[0] else None
        if coefficients is None:
            found.append(Segment(_layer(layer), group, start, size * templates, None, rule))
            continue
        found += [
            Segment(_layer(layer), group, start + place * size, size, coefficient, rule)
            for place, coefficient in enumerate(coefficients)
        ]
    return found


def _layer(name: str) -> str:
    return name.removesuffix(".weight")


def _provenance(row: RunRow) -> None:
    cell = row.cell
    facts: dict[str, Any] = {
        "method": f"{method_label(cell.method, cell.options)}, version {cell.method_version}",
        "task": f"{cell.task}, version {cell.task_version}",
        "recipe": ", ".join(f"{key} {value}" for key, value in differing(cell.recipe).items()),
        "identity": cell.identity,
        "data digest": row.data_digest,
        "grid": row.grid,
        "attempt": row.attempt,
        "repetition of": f"the run {row.repeats}; no board counts it as a seed" if row.repeats else None,
        "weights kept": ", ".join(f"{file.file} ({file.bytes:,} bytes, sha256 {file.sha256})" for file in row.weights),
        "origin": row.origin or "run with this database",
        "host": row.host,
        **provenance_texts(row),
    }
    rows = [{"": name, "what": printable(str(value))} for name, value in facts.items() if value not in (None, "")]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, hide_header=True, alt="Provenance")


def _repetitions(look: Look, row: RunRow) -> None:
    found = ask(look, lambda database: read_finished_runs(database, row.identity, row.data_digest))
    others = [one for one in found if one.run != row.id]
    if not others:
        return
    st.markdown(f"**Run again** {len(others)} times on the same data:")
    mine = {metric.name: metric.value for metric in row.metrics}
    frame = pd.DataFrame(
        [
            {
                "Run": one.run,
                "Device": one.device_class,
                "Counts": one.counts,
                "Origin": no_formula(one.origin or ""),
                **{no_formula(name): value for name, value in one.metrics.items()},
                "Same to the bit": one.metrics == mine,
            }
            for one in others
        ]
    )
    st.dataframe(frame, hide_index=True, key="repetitions", alt="Further runs of the cell")
