"""Results in words, the same on a terminal, in files and on pages."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from npas_bench.recipe.naming import value_text
from npas_bench.recipe.stored import named_changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.database.schema import RunRow

# Fields of a recipe that have an option of their own.
_FIELD_OPTIONS = ("epochs", "parts", "precision")


def cost_lines(cost: Mapping[str, Any]) -> list[str]:
    """What a run cost, in units that can be read."""
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
    """Whose result something is, by the name of its source."""
    return "your run" if source == "mine" else "published board"
