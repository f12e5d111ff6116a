"""A run beside its repetition on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from npas_bench.database.labels import printable
from npas_bench.runner.plugin_changes import changed_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from npas_bench.plugin_code import PluginCode
    from npas_bench.runner.provenance import Commit
    from npas_bench.verify.reproduce import Compared, Reproduction
    from npas_bench.verify.tolerances import Tolerance


def print_reproduction(console: Console, found: Reproduction) -> None:
    """Print every metric as it was and as it is now, and what follows."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Metric")
    for heading in ("Then", "Now", "Difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in found.metrics:
        table.add_row(*(Text(printable(text)) for text in _row(metric)), style="" if metric.holds else "red")
    console.print(table)
    if found.parted is not None:
        console.print(Text(f"The mean training losses differ from epoch {found.parted} on.", style="dim"))
    console.print(Text(printable(verdict(found)), style="green" if found.reproduced else "red"), soft_wrap=True)


def describe_tolerance(tolerance: Tolerance) -> str:
    """A tolerance with its reason, as a sentence."""
    what = "bit for bit" if tolerance.relative == 0 else f"within {100 * tolerance.relative:g} %"
    return f"Metrics are to agree {what}: {tolerance.reason}."


def describe_code(then: Commit, now: Commit) -> str:
    """Say whether the code is that of the run, as a sentence: it may explain a difference, and refuses nothing."""
    if None in (then.commit, now.commit):
        unknown = "the run was made by" if then.commit is None else "is installed here"
        return f"It is not known which commit {unknown}, so a change of the code would not be noticed."
    if then == now and not now.dirty:
        return f"The code is that of the run, commit {_short(now)}."
    return f"The run was made by commit {_short(then)}, and this is commit {_short(now)}."


def describe_plugins(then: Sequence[Mapping[str, Any]] | None, now: Sequence[PluginCode]) -> list[str]:
    """Say of each plugin whether its code is that of the run, as sentences; no sentence where no plugin is used."""
    changed = dict((new, old) for old, new in changed_plugins(then, now))
    known = {(entry.get("kind"), entry.get("name")) for entry in then or ()}
    said = []
    for code in now:
        if code in changed:
            said.append(f"The run was made with {changed[code]}, and this is {code}.")
        elif (code.kind, code.name) in known:
            said.append(f"The code of {code} is that of the run.")
        else:
            said.append(f"It is not known which code of {code} made the run, so a change of it would not be noticed.")
    return said


def _short(code: Commit) -> str:
    return f"{(code.commit or '')[:12]}{' with local changes' if code.dirty else ''}"


def verdict(found: Reproduction) -> str:
    """What came of a reproduction: `reproduced, bit for bit`, or what differs by how much."""
    if found.exact:
        return "reproduced, bit for bit"
    if found.reproduced:
        return f"reproduced within {100 * found.tolerance.relative:g} %"
    wrong = ", ".join(_difference(metric) for metric in found.metrics if not metric.holds)
    return f"not reproduced: {wrong}"


def _row(metric: Compared) -> tuple[str, str, str, str]:
    unit = f" {metric.unit}" if metric.unit else ""
    now = "missing" if metric.now is None else repr(metric.now)
    difference = "" if metric.difference is None else f"{metric.difference:+.6g}" if metric.difference else "0"
    return f"{metric.name}{unit}", repr(metric.then), now, difference


def _difference(metric: Compared) -> str:
    if metric.now is None or metric.difference is None:
        return f"{metric.name} is missing"
    larger = max(abs(metric.then), abs(metric.now))
    return f"{metric.name} differs by {metric.difference:+.6g} ({100 * abs(metric.difference) / larger:.3g} %)"
