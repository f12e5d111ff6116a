"""The command `npas-bench run`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.cli.stopping import stoppable
from npas_bench.cli.streams import unheard
from npas_bench.errors import NpasBenchError


class ExecutorName(StrEnum):
    """The executors that cells can run on."""

    inline = "inline"
    ray = "ray"


class OnlyName(StrEnum):
    """The unfinished cells that a run can be limited to."""

    failed = "failed"
    missing = "missing"
    stale = "stale"


@unheard()
def run(
    grid: choose.GridName = None,
    task: choose.Tasks = None,
    architecture: choose.Architectures = None,
    method: choose.Methods = None,
    option: choose.MethodOptions = None,
    budget: choose.Budgets = None,
    seeds: choose.Seeds = None,
    seed: choose.SeedList = None,
    recipe: choose.Recipes = None,
    epochs: choose.Epochs = None,
    parts: choose.Parts = None,
    precision: choose.Precision = None,
    short: choose.Short = False,
    executor: Annotated[
        ExecutorName | None,
        typer.Option(
            help="Run one cell after the other in this process (inline), or as many at a time as fit (ray) "
            "[default: ray for several cells]."
        ),
    ] = None,
    device: choose.Device = "auto",
    regenerate: Annotated[
        bool,
        typer.Option(
            "--regenerate", help="Make weights again in the backward pass, which takes less memory and more time."
        ),
    ] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Let PyTorch compile networks.")] = False,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            metavar="N",
            min=1,
            help="Train each cell in N processes, each on a GPU of its own if there are any.",
        ),
    ] = 1,
    only: Annotated[
        OnlyName | None,
        typer.Option(
            help="Run only cells that failed, cells that a dead run left behind (stale), or all others (missing)."
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Run finished cells again, as repetitions that no board counts as seeds.")
    ] = False,
    keep_weights: Annotated[
        bool,
        typer.Option("--keep-weights", help="Keep the weights of cells that get done; see npas-bench weights."),
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="ADDRESS",
            help="Run on the Ray cluster at HOST:PORT, or on the one that auto finds.",
        ),
    ] = None,
    workdir: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints, which every node sees [default: beside the database]."),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Longest time that an attempt at a cell may take, as 90s, 30m or 2h."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for the log [default: a new one in the folder for checkpoints]."),
    ] = None,
    db: choose.Database = None,
) -> None:
    """Run a grid, or the cells that the options name.

    The same command goes on where it was stopped; finished cells are not run again unless --again asks for it.
    The exit code is 0 if every cell is done or unsupported, 1 if one is not, 2 for a mistake in the command.
    """
    from npas_bench.cli.terminal.progress import reporter_for
    from npas_bench.database.opening import locate
    from npas_bench.runner.launch import Launch, launch
    from npas_bench.runner.work import Engine

    planned = choose.planned_cells(
        choose.Selection(
            grid=grid,
            tasks=task,
            architectures=architecture,
            methods=method,
            options=option,
            budgets=budget,
            seeds=seeds,
            seed_list=seed,
            recipes=recipe,
            epochs=epochs,
            parts=parts,
            precision=precision,
            short=short,
            device=device,
            elsewhere=ray_address is not None,
        )
    )
    for one in planned:
        if one.cell.recipe.parts % processes:
            raise NpasBenchError(
                f"--processes {processes}: {one.cell} computes batches in {one.cell.recipe.parts} part(s), which "
                f"they cannot share; add --parts {processes}"
            )
    if processes > 1 and ":" in planned[0].device:
        raise NpasBenchError(f"--processes {processes}: each takes a GPU of its own; use --device cuda")
    if again and only is not None:
        raise NpasBenchError(f"--again runs finished cells and --only {only.value} leaves them out: leave one out")
    location = locate(db)
    how = Launch(
        grid=grid,
        only=only.value if only else None,
        again=again,
        keep_weights=keep_weights,
        executor=executor.value if executor else None,
        ray_address=ray_address,
        engine=Engine(regenerate, compiled, processes),
        deadline=_deadline(deadline),
        workdir=workdir,
        log=log,
    )
    with stoppable():
        summary = launch(planned, location, reporter_for(output), how)
    ended = [f"{count} {state}" for state, count in summary._asdict().items() if count]
    unrun = len(planned) - sum(summary)
    ended += [f"{unrun} not run"] if unrun else []
    output.print(f"{len(planned)} cells: {', '.join(ended)}. Results in {location}", soft_wrap=True)
    if summary.failed:
        output.print("npas-bench runs --state failed lists what failed, npas-bench show RUN says why", soft_wrap=True)
    if summary.failed or unrun:
        raise typer.Exit(1)


def _deadline(written: str | None) -> float | None:
    """The seconds that a user wrote as `90`, `90s`, `30m` or `2h`."""
    import math

    if written is None:
        return None
    number, unit = (written[:-1], written[-1]) if written[-1:] in ("s", "m", "h") else (written, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise NpasBenchError(f"--deadline '{written}': seconds, or a number with s, m or h is wanted, as 90, 30m or 2h")
    return seconds
