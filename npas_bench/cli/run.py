"""`npas-bench run`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import errors, output
from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from npas_bench.database.opening import Database, Location
    from npas_bench.runner.driver import Expected
    from npas_bench.runner.executors import Executor
    from npas_bench.runner.item import Item
    from npas_bench.runner.work import Engine


class ExecutorName(StrEnum):
    """Where cells run."""

    inline = "inline"
    ray = "ray"


class OnlyName(StrEnum):
    """Which of the unfinished cells run."""

    failed = "failed"
    missing = "missing"
    stale = "stale"


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
        typer.Option(help="inline: here, one by one; ray: as many as fit [default: ray for several cells]."),
    ] = None,
    device: choose.Device = "auto",
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Make weights again in the backward pass: less memory, more time.")
    ] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Let PyTorch compile networks.")] = False,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, help="Train each cell in N processes, each on a GPU, if any."),
    ] = 1,
    only: Annotated[
        OnlyName | None, typer.Option(help="Run only cells that failed, that a dead run left, or all but these.")
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
        typer.Option("--ray-address", metavar="ADDRESS", help="Run on a Ray cluster: HOST:PORT or auto."),
    ] = None,
    workdir: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints, seen by every node [default: beside the database]."),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="The longest an attempt at a cell may take, as 90s, 30m or 2h.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the log goes [default: a new file in the workdir].")
    ] = None,
    db: choose.Database = None,
) -> None:
    """Run a grid, or the cells that the options name.

    The same command goes on where it was stopped; finished cells are not run again unless --again asks for it.
    The exit code is 0 if every cell is done or unsupported, 1 if one is not, 2 for a mistake in the command.
    """
    from npas_bench.cli.terminal.progress import reporter_for
    from npas_bench.database.opening import locate, open_for_writing, reaching
    from npas_bench.leaderboard.paper_list import paper_list
    from npas_bench.leaderboard.published import refuse_published
    from npas_bench.runner.driver import Terms, run_items, to_repeat
    from npas_bench.runner.executors import InlineExecutor
    from npas_bench.runner.journal import default_log, logged
    from npas_bench.runner.work import Engine

    items = choose.chosen_items(
        choose.Selection(
            grid,
            task,
            architecture,
            method,
            option,
            budget,
            seeds,
            seed,
            recipe,
            epochs,
            parts,
            precision,
            short,
            device,
            elsewhere=ray_address is not None,
        )
    )
    for item in items:
        if item.cell.recipe.parts % processes:
            raise NpasBenchError(
                f"--processes {processes}: {item.cell} computes batches in {item.cell.recipe.parts} part(s), which "
                f"they cannot share; add --parts {processes}"
            )
    if processes > 1 and ":" in items[0].device:
        raise NpasBenchError(f"--processes {processes}: each takes a GPU of its own; use --device cuda")
    if again and only is not None:
        raise NpasBenchError(f"--again runs finished cells and --only {only.value} leaves them out: leave one out")
    location = locate(db)
    refuse_published(location)
    seconds = _deadline(deadline)
    with reaching(location):
        database = open_for_writing(location, paper_list())
        try:
            folder = checkpoint_folder(workdir, location)
            items = to_repeat(items, database) if again else items
            chosen = _executor(executor, items, ray_address, folder)
            engine = Engine(regenerate, compiled, processes)
            with logged(log or default_log(folder)), chosen:
                terms = Terms(
                    grid=grid,
                    only=only.value if only else None,
                    engine=engine,
                    deadline=seconds,
                    folder=folder,
                    # One after the other, cells take as long in any order.
                    expected=None if isinstance(chosen, InlineExecutor) else _expected(items, database, engine),
                    keep=keep_weights,
                )
                summary = run_items(items, database, chosen, reporter_for(output), terms)
        except KeyboardInterrupt:
            errors.print("stopped; the same command goes on from here", style="yellow")
            raise typer.Exit(130) from None
        finally:
            database.close()
    ended = [f"{count} {state}" for state, count in summary._asdict().items() if count]
    unrun = len(items) - sum(summary)
    ended += [f"{unrun} not run"] if unrun else []
    output.print(f"{len(items)} cells: {', '.join(ended)}. Results in {location}", soft_wrap=True)
    if summary.failed or unrun:
        raise typer.Exit(1)


def _expected(items: list[Item], database: Database, engine: Engine) -> dict[str, Expected]:
    from npas_bench.cli.expectation import learned_forecast
    from npas_bench.runner.driver import Expected

    estimates = learned_forecast(database, items[0].device).all(items, engine)
    # Cells of a kind have one estimate between them. What others of the task took says nothing of this one's memory.
    expected = {
        id(estimate): Expected(
            estimate.seconds, estimate.memory if estimate.measured and estimate.basis == "runs" else None
        )
        for estimate in estimates
    }
    return {item.cell.identity: expected[id(estimate)] for item, estimate in zip(items, estimates, strict=True)}


def _executor(wanted: ExecutorName | None, items: list[Item], address: str | None, folder: Path) -> Executor:
    import os
    from importlib.util import find_spec

    from npas_bench.runner.executors import InlineExecutor

    one_gpu = ":" in items[0].device
    if wanted is None:
        several = len(items) > 1 and (os.cpu_count() or 1) > 1 and not one_gpu
        wanted = ExecutorName.ray if address or (several and find_spec("ray")) else ExecutorName.inline
    if wanted is ExecutorName.inline:
        if address:
            raise NpasBenchError("--ray-address goes with --executor ray: leave one of the two out")
        return InlineExecutor()
    if not find_spec("ray"):
        raise NpasBenchError("--executor ray: Ray is not installed; pip install ray, or use --executor inline")
    if one_gpu:
        raise NpasBenchError("--executor ray hands out GPUs itself: use --device cuda, or --executor inline")
    from npas_bench.runner.cluster import RayExecutor

    return RayExecutor(address, folder)


def _deadline(written: str | None) -> float | None:
    """Seconds, of `90`, `90s`, `30m` or `2h`."""
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


def checkpoint_path(written: Path | None, location: Location) -> Path:
    """Where the folder for checkpoints is: in the one that `--workdir` names, or beside the database."""
    # Of several databases that share a folder each has a part of its own.
    return (written / location.name if written else location.work_folder).expanduser()


def checkpoint_folder(written: Path | None, location: Location) -> Path:
    """The folder for checkpoints, which is made if it does not exist.

    Raises:
        NpasBenchError: if it cannot be made.
    """
    folder = checkpoint_path(written, location)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NpasBenchError(
            f"the folder for checkpoints, {folder}, cannot be made: {error}; name another with --workdir"
        ) from None
    return folder.resolve()
