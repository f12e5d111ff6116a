"""From a grid to finished runs: what `npas-bench run` and `npas_bench.run_cells` have in common."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

from npas_bench.cells.grid import Expander
from npas_bench.database.access import Access, opened
from npas_bench.database.grids import noted_name
from npas_bench.errors import NpasBenchError
from npas_bench.forecast.learned import learned_forecast
from npas_bench.leaderboard.paper_list import paper_list
from npas_bench.leaderboard.published import refuse_published
from npas_bench.runner.containment import contained_planning
from npas_bench.runner.device import resolve_device
from npas_bench.runner.driver import Expected, Terms, run_planned, to_repeat
from npas_bench.runner.executors import InlineExecutor
from npas_bench.runner.journal import default_log, logged
from npas_bench.runner.planned import PlannedCell
from npas_bench.runner.trainable import refuse_untrainable
from npas_bench.runner.work import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from npas_bench.cells.grid import Grid
    from npas_bench.cells.recipes import Change
    from npas_bench.database.opening import Database, Location
    from npas_bench.runner.driver import Summary
    from npas_bench.runner.executors import Executor
    from npas_bench.runner.planned import Only
    from npas_bench.runner.progress import Reporter

ExecutorChoice = Literal["inline", "ray"]


class Launch(NamedTuple):
    """How planned cells are run.

    Attributes:
        grid: name of the grid, which is noted on new runs.
        only: which of the unfinished cells run; see `left_over`.
        again: whether cells that are done run once more, as repetitions that no board counts.
        keep_weights: whether the weights of cells that get done are kept; see `weights_folder`.
        executor: where the cells run; None chooses Ray for several cells, where it is of use.
        ray_address: address of a running Ray cluster; None starts one on this machine.
        engine: switches that change what a run costs, and not its result.
        deadline: seconds that an attempt at a cell may take; None for no limit.
        workdir: folder for checkpoints; None takes one beside the database.
        log: the file that the log goes to; None makes a new one in the folder for checkpoints.
    """

    grid: str | None = None
    only: Only | None = None
    again: bool = False
    keep_weights: bool = False
    executor: ExecutorChoice | None = None
    ray_address: str | None = None
    engine: Engine = Engine()
    deadline: float | None = None
    workdir: Path | None = None
    log: Path | None = None


def plan_cells(grid: Grid, change: Change, device: str, *, elsewhere: bool = False) -> list[PlannedCell]:
    """Every cell of a grid once, with the data and the device that it would run on.

    Args:
        grid: the grid.
        change: what is changed about every recipe.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        elsewhere: whether the cells run on other machines too, whose devices are not known here.

    Raises:
        NpasBenchError: if a name, a budget or an option is wrong, data is missing, or there is no such device.
        RecipeError: if a task or a network cannot be trained by the recipe; see `refuse_untrainable`.
    """
    with contained_planning():
        return _planned(grid, change, device, elsewhere)


def _planned(grid: Grid, change: Change, device: str, elsewhere: bool) -> list[PlannedCell]:
    expander = Expander(change)
    cells = expander.cells(grid)
    resolved = resolve_device(device, elsewhere=elsewhere)
    sources = {name: expander.source(name) for name in {cell.task for cell in cells}}
    refuse_untrainable(cells, expander.task)
    return [
        PlannedCell(
            cell,
            expander.full_size(expander.task(cell.task), expander.architecture(cell.architecture)),
            sources[cell.task],
            resolved,
        )
        for cell in cells
    ]


def launch(planned: Sequence[PlannedCell], location: Location, reporter: Reporter, how: Launch) -> Summary:
    """Run what is left of planned cells, and keep their results in a database.

    Args:
        planned: the cells; there is at least one.
        location: the database, which is made if it does not exist.
        reporter: what shows the progress.
        how: the remaining choices.

    Returns:
        How many cells ended in which state, those that were finished before included.

    Raises:
        NpasBenchError: if the database, the folder for checkpoints, the log or the executor cannot be had.
    """
    refuse_published(location)
    with opened(location, Access.WRITING, papers=paper_list()) as database:
        folder = checkpoint_folder(how.workdir, location)
        planned = to_repeat(planned, database) if how.again else planned
        executor = choose_executor(how.executor, planned, how.ray_address, folder)
        with logged(how.log or default_log(folder)), executor:
            terms = Terms(
                grid=None if how.grid is None else noted_name(how.grid, location),
                only=how.only,
                engine=how.engine,
                deadline=how.deadline,
                folder=folder,
                # One after the other, cells take as long in any order.
                expected=None if isinstance(executor, InlineExecutor) else _expected(planned, database, how.engine),
                keep=how.keep_weights,
            )
            return run_planned(planned, database, executor, reporter, terms)


def _expected(planned: Sequence[PlannedCell], database: Database, engine: Engine) -> dict[str, Expected]:
    estimates = learned_forecast(database, planned[0].device).all(planned, engine)
    # Cells of a kind share one estimate. What other kinds took says nothing about the memory that this one needs.
    expected = {
        id(estimate): Expected(
            estimate.seconds, estimate.memory if estimate.measured and estimate.basis == "runs" else None
        )
        for estimate in estimates
    }
    return {one.cell.identity: expected[id(estimate)] for one, estimate in zip(planned, estimates, strict=True)}


def choose_executor(
    wanted: ExecutorChoice | None, planned: Sequence[PlannedCell], ray_address: str | None, folder: Path
) -> Executor:
    """The executor that was asked for, or the one that suits the cells.

    Args:
        wanted: name of the executor; None takes Ray for several cells on a machine with several cores.
        planned: the cells; there is at least one.
        ray_address: address of a running Ray cluster, if one is to be used.
        folder: the folder for checkpoints.

    Raises:
        NpasBenchError: if Ray is not installed, or if the choices contradict one another.
    """
    one_gpu = ":" in planned[0].device
    if wanted is None:
        several = len(planned) > 1 and (os.cpu_count() or 1) > 1 and not one_gpu
        wanted = "ray" if ray_address or (several and find_spec("ray")) else "inline"
    if wanted == "inline":
        if ray_address:
            raise NpasBenchError("a Ray address goes with the executor ray: leave one of the two out")
        return InlineExecutor()
    if not find_spec("ray"):
        raise NpasBenchError("executor ray: Ray is not installed; pip install ray, or use the executor inline")
    if one_gpu:
        raise NpasBenchError("the executor ray hands out GPUs itself: use the device cuda, or the executor inline")
    # Ray is imported only where it is used: that takes seconds.
    from npas_bench.runner.cluster import RayExecutor

    return RayExecutor(ray_address, folder)


def checkpoint_path(wanted: Path | None, location: Location) -> Path:
    """Where the folder for checkpoints is.

    Args:
        wanted: the folder that was asked for; None takes the one beside the database.
        location: the database. Several of them may share a folder, in which each has a part of its own.
    """
    return (wanted / location.name if wanted else location.work_folder).expanduser()


def checkpoint_folder(wanted: Path | None, location: Location) -> Path:
    """The folder for checkpoints of `checkpoint_path`, which is made if it does not exist.

    Raises:
        NpasBenchError: if it cannot be made.
    """
    folder = checkpoint_path(wanted, location)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NpasBenchError(
            f"the folder for checkpoints, {folder}, cannot be made: {error}; choose another with --workdir"
        ) from None
    return folder.resolve()
