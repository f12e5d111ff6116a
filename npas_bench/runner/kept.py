"""Weights of finished runs: kept by whoever runs the cell, checked against the database, made into plain networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npas_bench import plugins
from npas_bench.errors import WeightsError
from npas_bench.network import PlainNetwork
from npas_bench.runner.build import build_network, problem_of
from npas_bench.runner.containment import contained_here
from npas_bench.runner.machine import versions
from npas_bench.runner.work import KeptWeights
from npas_bench.weights_file import (
    WeightsHeader,
    WeightsKind,
    fill_network,
    measure_file,
    plain_weights,
    read_header,
    trained_weights,
    write_weights,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from npas_bench.architectures import Architecture
    from npas_bench.cells.cell import Cell
    from npas_bench.methods import Problem
    from npas_bench.network import Network
    from npas_bench.runner.work import Attempt, Keep
    from npas_bench.tasks import Examples
    from npas_bench.weights_file import Weights


def keep_weights(attempt: Attempt, keep: Keep, network: Network, examples: Examples) -> KeptWeights:
    """Write the parameters that a run's method trained, under a name that no other attempt uses.

    Args:
        attempt: the attempt, with the cell and the data that it ran on.
        keep: where to.
        network: the trained network.
        examples: a split of the data, which knows how inputs are normalised.

    Raises:
        StorageError: if the file cannot be written.
    """
    cell, source, normalisation = attempt.cell, attempt.work.source, examples.normalisation()
    header = WeightsHeader(
        kind=WeightsKind.TRAINED,
        run=keep.run,
        identity=cell.identity,
        cell=cell.canonical,
        task=cell.task,
        architecture=cell.architecture,
        method=cell.method_label,
        data=source.label,
        data_digest=source.digest,
        normalisation=None if normalisation is None else normalisation._asdict(),
        versions=versions(),
    )
    name = f"{keep.run}-{attempt.token}.safetensors"
    written = write_weights(keep.folder / name, trained_weights(network, header))
    return KeptWeights(kind="trained", file=name, sha256=written.sha256, bytes=written.bytes)


def check_kept(path: Path, listed: KeptWeights, run: str) -> None:
    """Refuse a file that is not the one that a run kept.

    Args:
        path: the file.
        listed: what the database lists with the run.
        run: uid of the run.

    Raises:
        WeightsError: if the file is missing, cut short, of another run or changed; the message says which.
    """
    if not path.is_file():
        raise WeightsError(f"the file of weights {path} does not exist: it was moved or deleted")
    try:
        found = measure_file(path)
    except OSError as error:
        raise WeightsError(f"the file of weights {path} cannot be read: {error}") from None
    if found == (listed.sha256, listed.bytes):
        return
    if found.bytes < listed.bytes:
        raise WeightsError(f"the file of weights {path} is cut short: it has {found.bytes:,} of {listed.bytes:,} bytes")
    header = read_header(path)
    if header.run != run:
        raise WeightsError(
            f"the file of weights {path} holds the weights of another run: of run {header.run}, a cell of "
            f"{header.method} on {header.task}, and not of run {run}"
        )
    raise WeightsError(f"the file of weights {path} was changed: its sha256 is {found.sha256}, not {listed.sha256}")


def rebuild_network(cell: Cell, weights: Weights) -> Network:
    """The network of a cell with the weights that a run of it trained, in evaluation mode, on the CPU.

    Raises:
        WeightsError: if the weights are of another cell, or do not fit.
    """
    if weights.header.identity != cell.identity:
        raise WeightsError(
            f"the weights are of {weights.header.method} on {weights.header.task} (identity "
            f"{weights.header.identity[:12]}), not of {cell} (identity {cell.identity[:12]})"
        )
    with contained_here(cell.task, cell.architecture, cell.method):
        network = build_network(cell, plugins.task(cell.task), None, weights.header.structure).network
        fill_network(network, weights)
    return network.eval()


def plain_weights_of(cell: Cell, weights: Weights) -> Weights:
    """The plain network that trained weights generate: its state dict, without a trace of the method.

    Raises:
        WeightsError: as `rebuild_network` does, or if the method's network has no plain form.
    """
    task = plugins.task(cell.task)
    problem = problem_of(cell, task)
    network = rebuild_network(cell, weights)
    if isinstance(network, PlainNetwork):
        plain = network.architecture
    else:
        try:
            plain = network.materialise(problem.module())
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"method {cell.method_label} has no plain network for {cell}: {error}") from None
    header = weights.header.model_copy(update={"architecture": _architecture_of(plain, problem).name})
    return plain_weights(plain, header)


def _architecture_of(plain: torch.nn.Module, problem: Problem) -> Architecture:
    """The architecture of a plain network: the problem's own, or the smaller version that fits the budget."""
    size = sum(p.numel() for p in plain.parameters() if p.requires_grad)
    if size == problem.full:
        return problem.architecture
    smaller = problem.smaller()
    return smaller if smaller.size(problem.signature) == size else problem.architecture
