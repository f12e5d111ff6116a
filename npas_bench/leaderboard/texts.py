"""Results in words and digits, which read the same on a terminal, in files and on pages."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from npas_bench.database.queries.status import STATES
from npas_bench.recipe.naming import value_text
from npas_bench.recipe.stored import named_changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.database.schema import RunRow
    from npas_bench.database.states import RunState
    from npas_bench.leaderboard.standings import BoardTable, Standing

# What is shown where there is no number.
NOTHING = "—"
# The entries of a ledger that are not numbers of trainable scalars in a part of it.
_NO_PARTS = ("budget", "reach", "remark")


def decimals(unit: str) -> int:
    """The number of decimals that a metric in a unit is shown with."""
    return 2 if unit == "%" else 4


def direction(higher_is_better: bool) -> str:
    """The words that say which values of a metric are better."""
    return f"{'higher' if higher_is_better else 'lower'} is better"


def metric_text(table: BoardTable) -> str:
    """A table's metric with its unit and direction, or that no run has finished."""
    if not table.metric:
        return "no finished run"
    return f"{table.metric}{f' {table.unit}' if table.unit else ''}, {direction(table.higher_is_better)}"


def number_text(value: float | None, unit: str) -> str:
    """A metric's value without its unit, or a dash if there is none."""
    return NOTHING if value is None else f"{value:.{decimals(unit)}f}"


def interval_text(mean: float, half_width: float | None, unit: str, *, signed: bool = False) -> str:
    """A mean with its interval, as in `8.21 ± 0.30`.

    Args:
        mean: the mean.
        half_width: half the width of its interval; None if there is no interval.
        unit: the unit that both are in, which decides the number of decimals; it is not part of the text.
        signed: whether a positive mean has a plus sign, as a difference does.
    """
    places = decimals(unit)
    spread = "" if half_width is None else f" ± {half_width:.{places}f}"
    return f"{mean:{'+' if signed else ''}.{places}f}{spread}"


def standing_text(standing: Standing, unit: str) -> str:
    """A standing's mean with its interval, or the word for why there is none."""
    if standing.mean is not None:
        return interval_text(standing.mean, standing.half_width, unit)
    return "failed" if standing.failed else "unsupported" if standing.unsupported else NOTHING


def trouble_texts(standing: Standing) -> list[str]:
    """How many of a standing's seeds failed or are unsupported, a text for each of the two that occurs."""
    texts = []
    if standing.failed:
        texts.append(f"{standing.failed} failed")
    if standing.unsupported:
        texts.append("unsupported" if standing.mean is None else f"{standing.unsupported} unsupported")
    return texts


def conditions_text(table: BoardTable) -> str:
    """The recipe, the data and the device that a table's results were made with."""
    return f"recipe {table.recipe}, {table.data}, {table.device_class}"


# Fields of a recipe that have an option of their own.
_FIELD_OPTIONS = ("epochs", "parts", "precision")


def ledger_parts(ledger: Mapping[str, Any]) -> dict[str, int]:
    """The number of trainable scalars in each part of a run's ledger that has any."""
    return {name: count for name, count in ledger.items() if name not in _NO_PARTS and count}


def provenance_texts(row: RunRow) -> dict[str, str | None]:
    """The versions, the commit, the plugins and the time that a run was made with; None for what is not known."""
    return {
        "versions": ", ".join(f"{name} {version}" for name, version in (row.versions or {}).items()) or None,
        "commit": f"{row.commit}{' with local changes' if row.dirty else ''}" if row.commit else None,
        "plugins": "; ".join(map(_plugin_text, row.plugins or [])) or None,
        "finished": f"{row.finished:%Y-%m-%d %H:%M} UTC" if row.finished else None,
    }


def _plugin_text(code: Mapping[str, Any]) -> str:
    """The code of a plugin as a run recorded it."""
    provider = f"{code.get('distribution') or 'an unknown distribution'} {code.get('version') or ''}".strip()
    return f"{code.get('kind')} {code.get('name')} of {provider}, sources {code.get('digest')}"


def counts_text(counts: Mapping[RunState, int]) -> str:
    """How many of some runs are in each state that any of them is in."""
    return " · ".join(f"{counts[state]:,} {state}" for state in STATES if counts.get(state))


def cost_lines(cost: Mapping[str, Any]) -> list[str]:
    """What a run cost, one text for each quantity, in units that people read."""
    said = [f"{key.replace('_', ' ')} {cost[key]:.4g}" for key in cost if "seconds" in key and cost[key] is not None]
    if cost.get("peak_memory"):
        said.append(f"peak memory {cost['peak_memory'] / 2**20:,.0f} MiB")
    for key, what in (("forward_flops", "forward pass of one example"), ("generation_flops", "generating all weights")):
        if cost.get(key) is not None:
            said.append(f"{what} {cost[key] / 1e6:,.1f} MFLOP")
    return said + list(cost.get("engine", []))


def reproducing_command(row: RunRow) -> str:
    """The command that runs the same cell again."""
    cell = row.cell
    name, changes = named_changes(cell.recipe_name, cell.recipe)
    words = ["npas-bench", "run", "--task", cell.task, "--architecture", cell.architecture]
    words += ["--method", cell.method, "--budget", str(cell.budget), "--seed", str(cell.seed)]
    words += [
        word for key, value in sorted(cell.options.items()) for word in ("--option", f"{key}={json.dumps(value)}")
    ]
    words += ["--recipe", name] if name != "default" else []
    for field, value in sorted(changes.items()):
        text = value_text(value)
        words += [f"--{field}", text] if field in _FIELD_OPTIONS else ["--recipe", f"{field}={text}"]
    return shlex.join([*words, "--device", row.device_class])


def whose(source: str | None) -> str:
    """The words for whose result it is.

    Args:
        source: the name of the result's source, `mine` or `published`.
    """
    return "your run" if source == "mine" else "published board"
