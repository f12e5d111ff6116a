"""Runs whose plugins had other code than they have now, of which `run` and `plan` tell."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

from npas_bench.database.queries.plugins import plugins_of_runs
from npas_bench.plugin_code import PluginCode, plugin_code
from npas_bench.plugins import third_party_distributions
from npas_bench.runner.recorder import run_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from npas_bench.database.keys import RunKey
    from npas_bench.database.opening import Database
    from npas_bench.database.runs import StoredRun
    from npas_bench.runner.planned import PlannedCell


class PluginChange(NamedTuple):
    """A plugin that runs were made with other code of.

    Attributes:
        then: its code in those runs.
        now: its code here.
        finished: number of finished runs, which are not run again.
        unfinished: number of runs that go on from what they had reached.
    """

    then: PluginCode
    now: PluginCode
    finished: int
    unfinished: int

    @override
    def __str__(self) -> str:
        said = []
        if self.finished:
            results = f"{self.finished:,} results were" if self.finished > 1 else "1 result was"
            remedy = "--again repeats such cells, and a new version in the plugin's class has them run anew"
            said.append(f"{results} made with other code, and not run again ({remedy})")
        if self.unfinished:
            runs = f"{self.unfinished:,} unfinished runs go" if self.unfinished > 1 else "1 unfinished run goes"
            said.append(f"{runs} on from what other code had reached")
        return f"{self.now} was {_provider(self.then)} before: {'; '.join(said)}"


def changed_plugins(
    then: Iterable[Mapping[str, Any]] | None, now: Iterable[PluginCode]
) -> list[tuple[PluginCode, PluginCode]]:
    """The plugins whose code differs from what a run recorded, each as it was and as it is."""
    here = {(code.kind, code.name): code for code in now}
    recorded = [
        PluginCode(**{field: str(entry.get(field, "")) for field in PluginCode._fields}) for entry in then or ()
    ]
    return [
        (code, here[code.kind, code.name])
        for code in recorded
        if (code.kind, code.name) in here and here[code.kind, code.name].digest != code.digest
    ]


def plugin_changes(
    planned: Sequence[PlannedCell], newest: Mapping[RunKey, StoredRun], database: Database, root: Path
) -> list[PluginChange]:
    """The plugins of planned cells whose newest runs were made with other code than is here.

    Args:
        planned: the cells.
        newest: the newest run of each cell that has one.
        database: the database that holds them, open.
        root: the folder that the folders of runs' checkpoints lie in.
    """
    if not third_party_distributions():
        return []
    there = [(one, newest[one.key]) for one in planned if one.key in newest and _code(one)]
    recorded = plugins_of_runs(database, [run.id for _, run in there])
    finished: Counter[tuple[PluginCode, PluginCode]] = Counter()
    unfinished: Counter[tuple[PluginCode, PluginCode]] = Counter()
    for one, run in there:
        changed = changed_plugins(recorded.get(run.id), _code(one))
        if changed and run.state.final:
            finished.update(changed)
        elif changed and run_folder(root, one.cell.identity, one.source, one.device, one.repeats).is_dir():
            unfinished.update(changed)
    return [PluginChange(*pair, finished[pair], unfinished[pair]) for pair in finished | unfinished]


def _code(one: PlannedCell) -> tuple[PluginCode, ...]:
    return plugin_code(one.cell.task, one.cell.architecture, one.cell.method)


def _provider(code: PluginCode) -> str:
    return f"{code.distribution} {code.version} (sources {code.digest[:8]})".lstrip()
