"""Everything that the training of a cell needs, made ready in the process that trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from npas_bench import plugins
from npas_bench.errors import CheckpointError, PluginError
from npas_bench.network import GeneratedNetwork
from npas_bench.plugin_code import plugin_code
from npas_bench.runner.build import Built, build_network, drawn_as
from npas_bench.training.checkpoint import CheckpointFolder
from npas_bench.training.loop import TrainingContext
from npas_bench.training.search import Search
from npas_bench.training.stopping import split_training

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.budget import Ledger
    from npas_bench.network import Network
    from npas_bench.runner.work import Attempt, Work
    from npas_bench.tasks import Task
    from npas_bench.training.checkpoint import Checkpoint
    from npas_bench.training.parallel import Processes


class Prepared(NamedTuple):
    """A cell that is ready to be trained.

    Attributes:
        network: the network on its device, with the structure that the last checkpoint says.
        ledger: what the network trains, counted before the training.
        checkpoints: the checkpoints of this attempt.
        context: what the training is given.
    """

    network: Network
    ledger: Ledger
    checkpoints: CheckpointFolder
    context: TrainingContext

    def unreadable(self) -> tuple[str, ...]:
        """The names of the examples that this process could not read so far."""
        validation = self.context.validation
        return (*self.context.examples.unreadable, *(() if validation is None else validation.unreadable))


def prepare(attempt: Attempt, processes: Processes) -> Prepared:
    """Read the data of a cell and build its network, by a search if the method searches.

    Args:
        attempt: the attempt at the cell.
        processes: the processes that train the cell together.

    Raises:
        PluginError: if the code of a plugin differs from what the driver has.
        CheckpointError: if the data differs from what the driver saw.
        RecipeError: if the recipe needs a validation split that there is none of.
        UnsupportedBudget: if the method cannot meet the budget.
    """
    work = attempt.work
    _check_plugins(work)
    cell, device = work.cell, _device(work, processes)
    task = _task(work)
    split = split_training(task, cell.recipe, cell.seed)
    examples = split.train.to(device)
    drawn = drawn_as(cell, task)
    checkpoints = CheckpointFolder(attempt.folder, drawn, work.source.digest, attempt.token)
    last = checkpoints.latest()
    search = Search(task, examples, cell.recipe, cell.seed, drawn, device)
    network, ledger = _build(work, task, search, last, processes)
    network = _on_device(network, work, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def rebuild(structure: Mapping[str, Any]) -> Network:
        return _on_device(build_network(cell, task, None, structure).network, work, device)

    context = TrainingContext(
        task=task,
        examples=examples,
        recipe=cell.recipe,
        seed=cell.seed,
        identity=drawn,
        source=work.source.digest,
        device=device,
        search_seconds=search.seconds if last is None else last.search_seconds,
        processes=processes,
        compiled=work.engine.compiled,
        checkpoints=checkpoints,
        validation=None if split.validation is None else split.validation.to(device),
        rebuild=rebuild,
    )
    return Prepared(network, ledger, checkpoints, context)


def _check_plugins(work: Work) -> None:
    """Refuse a cell whose plugins have other code here than where the driver will note their code with the run."""
    cell = work.cell
    for here, there in zip(plugin_code(cell.task, cell.architecture, cell.method), work.plugins, strict=False):
        if here.digest != there.digest:
            raise PluginError(
                f"{here} differs from the driver's {there}: install the same everywhere, and start the run again if it "
                "was edited meanwhile"
            )


def _task(work: Work) -> Task:
    task = plugins.task(work.cell.task)
    if task.source().digest != work.source.digest:
        raise CheckpointError(
            f"the data of task {work.cell.task} differs here from the driver's: {task.source().label}"
        )
    return task


def _build(work: Work, task: Task, search: Search, last: Checkpoint | None, processes: Processes) -> Built:
    """The cell's network; the first process searches, and all of them build what it has decided."""
    cell = work.cell
    structure = last.structure if last is not None else None
    built: Built | None = None
    if processes.rank == 0:
        built = build_network(cell, task, search, structure)
        structure = built.network.structure()
    structure = processes.tell(structure)
    return built or build_network(cell, task, None, structure)


def _on_device(network: Network, work: Work, device: torch.device) -> Network:
    """The network on the device, with the engine's switches."""
    if isinstance(network, GeneratedNetwork):
        network.regenerate_in_backward = work.engine.regenerate
    return network.to(device)


def _device(work: Work, processes: Processes) -> torch.device:
    if work.device == "cuda" and processes.count > 1:
        return torch.device("cuda", processes.rank)
    return torch.device(work.device)
