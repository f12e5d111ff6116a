"""Building the network of a cell, and counting its parameters before and after the training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from npas_bench import plugins
from npas_bench.budget import Ledger, count_scalars
from npas_bench.errors import CheckpointError, DeadParameters, OverBudget
from npas_bench.methods import Problem
from npas_bench.network import changed_state
from npas_bench.seeding import derive_seed, seeded
from npas_bench.training.loop import cpu_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from npas_bench.cells.cell import Cell
    from npas_bench.methods.base import Trial
    from npas_bench.network import Network
    from npas_bench.tasks import Task
    from npas_bench.training.checkpoint import CheckpointFolder


def drawn_as(cell: Cell, task: Task) -> str:
    """The identity that everything random about a cell follows from, except for what follows from task and seed.

    It is that of the cell in the version of its task whose trainings the installed version repeats.
    """
    if cell.task_version != task.version:
        return cell.identity
    return dataclasses.replace(cell, task_version=task.training_version).identity


def problem_of(
    cell: Cell, task: Task, trial: Trial | None = None, structure: Mapping[str, Any] | None = None
) -> Problem:
    """The problem that a cell sets its method.

    Args:
        cell: the cell, with architecture, budget and seed.
        task: the task, with the signature.
        trial: what trains networks for a search; None where nothing can be trained.
        structure: what an earlier search for this cell decided; None if there was none.
    """
    return Problem(
        architecture=plugins.architecture(cell.architecture),
        signature=task.signature,
        budget=cell.budget,
        seed=derive_seed("cell", drawn_as(cell, task)),
        trial=trial,
        structure=structure or {},
    )


class Built(NamedTuple):
    """A network with its initial values, and its ledger."""

    network: Network
    ledger: Ledger


def build_network(
    cell: Cell, task: Task, trial: Trial | None = None, structure: Mapping[str, Any] | None = None
) -> Built:
    """Build and count the network of a cell; its initial values depend on the cell alone.

    Args:
        cell: the cell.
        task: the task.
        trial: what trains networks for a search; None where nothing can be trained.
        structure: what an earlier search for this cell decided; None if there was none.

    Raises:
        UnsupportedBudget: if the method cannot meet the budget.
        OverBudget: if the method made a network that is over it.
        DeadParameters: if some of what it trains reaches no layer and it does not say why.
    """
    method = plugins.methods.load(cell.method)(cell.options)
    problem = problem_of(cell, task, trial, structure)
    with cpu_threads(cell.recipe.threads), seeded("initial values", drawn_as(cell, task)):
        network = method.build(problem)
    ledger = network.ledger(cell.budget).check(str(cell))
    if ledger.reach is not None and ledger.reach < 1 and ledger.remark is None:
        raise DeadParameters(
            f"{cell}: {100 * (1 - ledger.reach):.4g} % of what method {cell.method} trains reaches no layer's weight, "
            "and the method does not say why"
        )
    return Built(network, ledger)


def count_again(
    network: Network, ledger: Ledger, before: dict[str, torch.Tensor], checkpoints: CheckpointFolder, cell: Cell
) -> Ledger:
    """Count the network and its checkpoint after the training; both counts must agree."""
    changed = changed_state(before, network)
    counts = {role.value: count for role, count in network.count().items()}
    # A network of an epoch before the last has not made all of its changes, and will make none.
    counts["reserved"] = 0 if cell.recipe.validates else network.reserved()
    counts["state"] = sum(count_scalars(changed.items(), {}).values())
    ledger = ledger.model_copy(update=counts).check(f"{cell}, after training,")
    names = set(network.state_names())
    statistics = {name for name, _ in network.named_buffers()} - names
    counted = checkpoints.recount(statistics, names - changed.keys())
    if counted > cell.budget:
        raise OverBudget(
            f"{cell}: its checkpoint holds {counted:,} trained scalars, over the budget of {cell.budget:,}"
        )
    if counted != ledger.total:
        raise CheckpointError(f"{cell}: its checkpoint holds {counted:,} trained scalars, the ledger {ledger.total:,}")
    return ledger
