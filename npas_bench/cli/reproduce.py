"""The command `npas-bench reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.cli.stopping import stoppable
from npas_bench.cli.streams import unheard
from npas_bench.database.labels import printable
from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from npas_bench.database.opening import Location
    from npas_bench.database.schema import RunRow
    from npas_bench.verify.reproduce import Repeat


@unheard()
def reproduce(
    run: choose.RunNumber,
    published: Annotated[
        bool, typer.Option("--published", help="RUN is a run of the published board; its repetition goes to --db.")
    ] = False,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Keep the repetition's weights; see npas-bench weights.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Largest relative difference of a metric; 0 means bit for bit."),
    ] = None,
    workdir: Annotated[Path | None, typer.Option(help="Folder for checkpoints [default: beside the database].")] = None,
    db: choose.Database = None,
) -> None:
    """Run the cell of a finished run again and compare every metric with what it was.

    The repetition is a run of its own, which no board counts. Without --tolerance, metrics must agree bit for bit
    on a CPU of the same instruction set with the same packages, and within 10 % elsewhere. The exit code is 0 if the
    run is reproduced, 1 if it is not, 2 if it cannot be repeated here.
    """
    from npas_bench.cli.terminal.reproductions import (
        describe_code,
        describe_plugins,
        describe_tolerance,
        print_reproduction,
    )
    from npas_bench.database.opening import locate
    from npas_bench.database.states import RunState
    from npas_bench.leaderboard.published import refuse_published
    from npas_bench.plugin_code import plugin_code
    from npas_bench.runner.machine import host_class, versions
    from npas_bench.runner.provenance import Commit, code
    from npas_bench.verify.reproduce import circumstances_of, compare_runs, plan_repeat
    from npas_bench.verify.tolerances import Circumstances, chosen_tolerance, usual_tolerance

    asked = None if tolerance is None else chosen_tolerance(tolerance)
    location = locate(db)
    refuse_published(location)
    then = _read(location, run, published)
    repeat = plan_repeat(then)
    here = Circumstances(then.device_class, host_class(), versions())
    allowed = asked or usual_tolerance(circumstances_of(then), here)
    output.print(f"run {run}: {repeat.planned.cell}", highlight=False, soft_wrap=True)
    output.print(describe_tolerance(allowed), highlight=False, soft_wrap=True)
    said = describe_code(Commit(then.commit, then.dirty), code())
    cell = repeat.planned.cell
    plugins = describe_plugins(then.plugins, plugin_code(cell.task, cell.architecture, cell.method))
    for sentence in (said, *plugins):
        output.print(printable(sentence), highlight=False, soft_wrap=True)
    now = _repeat(repeat, location, workdir, keep_weights)
    if now.state != RunState.DONE:
        said = f"not reproduced: the repetition, run {now.id} of {location}, is {now.state}: {now.message}"
        output.print(printable(said), style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    found = compare_runs(then, now, allowed)
    print_reproduction(output, found)
    output.print(f"The repetition is run {now.id} of {location}.", highlight=False, soft_wrap=True)
    if not found.reproduced:
        raise typer.Exit(1)


def _read(location: Location, run: int, published: bool) -> RunRow:
    from npas_bench.cli.show import published_board, read_run

    return read_run(published_board() if published else location, run).row


def _repeat(repeat: Repeat, location: Location, workdir: Path | None, keep: bool) -> RunRow:
    """Run a cell again, and read what came of it."""
    from npas_bench.cli.show import read_run
    from npas_bench.cli.terminal.progress import reporter_for
    from npas_bench.runner.launch import Launch, launch

    how = Launch(keep_weights=keep, executor="inline", engine=repeat.engine, workdir=workdir)
    with stoppable():
        launch([repeat.planned], location, reporter_for(output), how)
    return read_run(location, _repetition(location, repeat.planned.repeats)).row


def _repetition(location: Location, repeated: str | None) -> int:
    """Number of the newest repetition of the run that has a uid."""
    from npas_bench.database.access import opened
    from npas_bench.database.runs import newest_repetitions

    with opened(location) as database:
        found = {} if repeated is None else newest_repetitions(database, [repeated])
    if repeated not in found:
        raise NpasBenchError(f"the repetition is gone from database {location}: somebody deleted it")
    return found[repeated].id
