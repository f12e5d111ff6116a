"""What one training step of a network demands of a machine, counted on the meta device without data or memory."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from npas_bench import plugins
from npas_bench.errors import UnsupportedBudget
from npas_bench.methods import Problem, SharingMethod
from npas_bench.network import PlainNetwork
from npas_bench.runner.containment import contained_here
from npas_bench.torch_internals import TorchDispatchMode, storage_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from npas_bench.cells.cell import Cell
    from npas_bench.methods import Method
    from npas_bench.tasks import Task

log = logging.getLogger(__name__)

# There are two, because some normalisations refuse a single example.
_EXAMPLES = 2


class Demand(NamedTuple):
    """What a forward pass of a network demands.

    Attributes:
        calls: number of operations that are called, whatever the size of the batch.
        flops: floating-point operations for one example.
        kept: bytes for one example that are kept for the backward pass.
        scalars: number of trainable scalars of the network.
    """

    calls: int
    flops: float
    kept: float
    scalars: int


class Rate(NamedTuple):
    """The assumed speed of a class of devices on which nothing was measured yet.

    Attributes:
        call: seconds of a called operation, with its part of the backward pass and of the optimiser's step.
        flop: seconds of a floating-point operation, on one thread or one GPU.
    """

    call: float
    flop: float


# Typical of convolutions in single precision, small ones on one core with AVX-512 and large ones on a large GPU.
RATES = {"cpu": Rate(5e-5, 7e-12), "cuda": Rate(4e-5, 1e-13)}


def step_seconds(demand: Demand, batch: int, threads: int, device_class: str) -> float:
    """Seconds of a training step by its operations alone, where a backward pass takes as long as two forward passes."""
    rate = RATES[device_class]
    lanes = threads if device_class == "cpu" else 1
    return demand.calls * rate.call + 3 * batch * demand.flops * rate.flop / lanes


class Demands:
    """Counts the demands of networks, each once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], Demand | None] = {}

    def of(self, cell: Cell) -> Demand | None:
        """The demand of the network that a cell trains; see `find`."""
        return self.find(cell.task, cell.architecture, cell.method, cell.options, cell.budget)

    def find(self, task: str, architecture: str, method: str, options: Mapping[str, Any], budget: int) -> Demand | None:
        """The demand of a network; None if it is not installed or cannot be counted on the meta device.

        For a method that generates weights it is the demand of the architecture, without that of the generation.
        """
        key: tuple[Any, ...] = (task, architecture)
        # Plugins may fail in any way, and a forecast can do without the count.
        try:
            chosen = plugins.methods.load(method)
            if not (chosen.whole or issubclass(chosen, SharingMethod)):
                # Networks of nearly equal budgets have nearly equal demands, and there may be many of them.
                budget = math.ceil(2 ** (math.ceil(2 * math.log2(budget)) / 2))
                key += (method, repr(sorted(options.items())), budget)
            if key not in self._found:
                with contained_here(task, architecture, method):
                    loaded = plugins.task(task)
                    problem = Problem(plugins.architecture(architecture), loaded.signature, budget)
                    made = len(key) > 2 and budget < problem.full
                    self._found[key] = count(_built(chosen(options), problem) if made else _module(problem), loaded)
        except Exception:
            log.debug("what %s asks on %s cannot be counted", architecture, task, exc_info=True)
            self._found[key] = None
        return self._found[key]


def _module(problem: Problem) -> nn.Module:
    with torch.device("meta"):
        return problem.module()


def _built(method: Method, problem: Problem) -> nn.Module:
    """The network that a method trains if it is a plain one; the architecture if the method cannot meet the budget."""
    try:
        with torch.device("meta"):
            network = method.build(problem)
    except UnsupportedBudget:
        return _module(problem)
    return network.architecture if isinstance(network, PlainNetwork) else _module(problem)


def count(module: nn.Module, task: Task) -> Demand:
    """Count what a forward pass of `module`, which is on the meta device, demands in training."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[storage_key(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    scalars = sum(p.numel() for p in module.parameters() if p.requires_grad)
    inputs = [torch.empty(_EXAMPLES, *one.shape[1:], dtype=one.dtype, device="meta") for one in task.example()]
    flops, calls = FlopCounterMode(display=False), _Calls()
    module.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), flops, calls:
        made = module(*inputs)
    del made
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    activations = max(0, sum(kept.values()) - weights) / _EXAMPLES
    return Demand(calls.count, flops.get_total_flops() / _EXAMPLES, activations, scalars)


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))
