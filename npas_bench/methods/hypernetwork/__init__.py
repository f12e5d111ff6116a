"""`hypernetwork`: static hypernetworks (Ha et al. 2016, 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from npas_bench.allocation import Reading, RuledAllocation
from npas_bench.budget import Role
from npas_bench.generation.allotment import is_notable
from npas_bench.generation.engine import Generation
from npas_bench.generation.rules import Gradients, Rule
from npas_bench.methods.base import MethodOptions, Problem, SharingMethod, unsupported_below
from npas_bench.methods.hypernetwork.sizes import MOST, Limits, Plan, choose, classes, cost, smallest, widest_hidden
from npas_bench.network import GeneratedNetwork, Network

if TYPE_CHECKING:
    from collections.abc import Sequence

# Embeddings and both maps start this many times as large as would make weights of the right size, and their product
# is scaled back. A step on one factor of a product is amplified by the other factors, and a step on the maps acts on
# all unit kernels at once. Under the learning rates of convolutional networks a hypernetwork without this factor trains
# badly or diverges (Ha et al. train with Adam at 0.002). The error on `digits` with wrn-10-1 at 5 %, over five seeds,
# is 7.68 +- 10.28 % with a factor of 1, 1.74 +- 0.54 % with 2 and 2.65 +- 0.91 % with 4.
_ENLARGED = 2.0
_SCALE = _ENLARGED**-3


class HypernetworkOptions(MethodOptions):
    """Options of hypernetworks; sizes that are not given are chosen to use the budget and to be near the paper's.

    Attributes:
        embedding: number of scalars of a unit kernel's embedding, N_z (64 in the paper).
        hidden: number of scalars between the two maps, d (64 in the paper).
        unit: number of channels of a unit kernel (16 in the paper).
    """

    embedding: int | None = Field(default=None, ge=1, le=1_000_000)
    hidden: int | None = Field(default=None, ge=1, le=1_000_000)
    unit: int | None = Field(default=None, ge=1, le=65536)


class Hypernetwork(SharingMethod):
    """Generates unit kernels from embeddings by two linear maps, and puts them together to the layers' weights.

    Linear, recurrent and attention weights count as 1x1 kernels. As in the paper, the stem, the classifier and 1x1
    shortcuts stay plain, unless the budget is too small for that.
    """

    name = "hypernetwork"
    version = 2
    Options = HypernetworkOptions
    options: HypernetworkOptions

    @override
    def allocate(self, problem: Problem) -> HypernetworkAllocation:
        """The allocation whose maps and embeddings have the sizes that use the budget best."""
        limits = Limits(self.options.embedding, self.options.hidden, self.options.unit)
        plan = choose(problem.layers, problem.available, limits)
        if plan is None:
            raise unsupported_below(problem.fixed + smallest(problem.layers, limits), problem)
        plain = sum(layer.size for layer in problem.layers) - sum(layer.size for layer in plan.layers)
        unused = problem.available - plain - cost(plan.layers, plan.sizes)
        if not is_notable(unused, problem.budget):
            return HypernetworkAllocation(plan)
        return HypernetworkAllocation(plan, f"{unused:,} parameters are unused: {self._limit(plan, problem.available)}")

    def _limit(self, plan: Plan, available: int) -> str:
        """The reason why the sizes cannot grow any further."""
        given = [name for name in ("embedding", "hidden", "unit") if getattr(self.options, name) is not None]
        if {"embedding", "hidden"} <= set(given):
            return "embedding and hidden size are given"
        if "hidden" not in given and plan.sizes.hidden == widest_hidden(plan.sizes.embedding):
            return "a larger hidden size would only make generating dearer"
        return "no larger sizes fit" if available <= MOST else "larger ones could not be addressed in memory"

    @override
    def build(self, problem: Problem) -> Network:
        """The architecture, with generated weights for the layers of the plan."""
        allocation = self.allocate(problem)
        return GeneratedNetwork(problem.module(), allocation.plan.layers, allocation)


@dataclass(frozen=True)
class UnitKernels(Rule):
    """The weight is put together from unit kernels, which two linear maps make from embeddings (eqs. 2-4), and scaled.

    The store holds both maps: W_in (into x hidden, embedding), b_in, W_out (out x kernel, hidden), b_out. The rule's
    only input holds the embeddings of the layer's unit kernels, (units, embedding).

    Attributes:
        shape: shape of the weight, (out, in, *kernel).
        embedding: number of scalars of an embedding.
        hidden: number of scalars between the maps, for each input channel.
        out: output channels of a unit kernel.
        into: input channels of a unit kernel.
    """

    shape: tuple[int, ...]
    embedding: int
    hidden: int
    out: int
    into: int

    @property
    @override
    def flops(self) -> int:
        """Floating-point operations of `make`: those of two matrix products, which biases and scale are part of."""
        rows = math.prod(self._grid) * self.into
        return 2 * rows * self.hidden * (self.embedding + self.out * self._kernel)

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The unit kernels side by side, cropped to the shape of the weight."""
        _, _, w_out, b_out = self._maps(store)
        kernels = torch.addmm(b_out, self._between(store, inputs[0]), w_out.t(), beta=_SCALE, alpha=_SCALE)
        rows, columns = self._grid
        tiled = kernels.view(rows, columns, self.into, self.out, self._kernel).permute(0, 3, 1, 2, 4)
        whole = tiled.reshape(rows * self.out, columns * self.into, self._kernel)
        return whole[: self.shape[0], : self.shape[1]].contiguous().view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Take the gradient back through both products, to the maps and to the embeddings."""
        embeddings = inputs[0]
        w_in, _, w_out, _ = self._maps(store)
        rows, columns = self._grid
        margins = (0, 0, 0, columns * self.into - self.shape[1], 0, rows * self.out - self.shape[0])
        whole = functional.pad(gradient.reshape(*self.shape[:2], self._kernel), margins)
        tiled = whole.view(rows, self.out, columns, self.into, self._kernel).permute(0, 2, 3, 1, 4)
        kernels = tiled.reshape(-1, self.out * self._kernel)
        between = (kernels @ w_out).mul_(_SCALE).view(embeddings.shape[0], -1)
        if into is not None:
            g_in, gb_in, g_out, gb_out = self._maps(into)
            g_out.addmm_(kernels.t(), self._between(store, embeddings), alpha=_SCALE)
            gb_out.add_(kernels.sum(0), alpha=_SCALE)
            g_in.addmm_(between.t(), embeddings)
            gb_in += between.sum(0)
        return (between @ w_in,)

    def _between(self, store: Tensor, embeddings: Tensor) -> Tensor:
        w_in, b_in, _, _ = self._maps(store)
        return torch.addmm(b_in, embeddings, w_in.t()).view(-1, self.hidden)

    def _maps(self, store: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, last = self.into * self.hidden, self.out * self._kernel
        parts, start = [], 0
        for shape in ((first, self.embedding), (first,), (last, self.hidden), (last,)):
            parts.append(store.narrow(0, start, math.prod(shape)).view(shape))
            start += math.prod(shape)
        return parts[0], parts[1], parts[2], parts[3]

    @property
    def _kernel(self) -> int:
        return math.prod(self.shape[2:])

    @property
    def _grid(self) -> tuple[int, int]:
        return -(-self.shape[0] // self.out), -(-self.shape[1] // self.into)


class HypernetworkAllocation(RuledAllocation):
    """Two maps for each kernel size, and an embedding for every unit kernel.

    Args:
        plan: the sizes, and the layers to generate.
        remark: why some of the budget is unused.
    """

    def __init__(self, plan: Plan, remark: str | None = None) -> None:
        super().__init__()
        self.plan = plan
        self._remark = remark
        self._class_of: dict[str, int] = {}
        self._rules: dict[str, UnitKernels] = {}
        self._index = {layer.name: index for index, layer in enumerate(plan.layers)}
        self.maps = nn.ParameterList()
        embeddings: dict[str, nn.Parameter] = {}
        size, hidden, _ = plan.sizes
        for index, members in enumerate(classes(plan.layers, plan.sizes.unit)):
            # Apart from the scale, both maps keep the variance, so that the weights have the variance of their
            # embeddings, and each layer starts at its own deviation.
            w_in = torch.randn(members.into * hidden * size) * (_ENLARGED / math.sqrt(size))
            w_out = torch.randn(members.out * members.kernel * hidden) * (_ENLARGED / math.sqrt(hidden))
            biases = torch.zeros(members.into * hidden), torch.zeros(members.out * members.kernel)
            self.maps.append(nn.Parameter(torch.cat((w_in, biases[0], w_out, biases[1]))))
            for layer in members.layers:
                units = math.prod(members.grid(layer))
                embeddings[layer.name] = nn.Parameter(torch.randn(units, size) * (_ENLARGED * layer.deviation))
                self._class_of[layer.name] = index
                self._rules[layer.name] = UnitKernels(layer.shape, size, hidden, members.out, members.into)
        self.embeddings = nn.ParameterList([embeddings[layer.name] for layer in plan.layers])

    @override
    def generation(self, layer: str) -> Generation:
        """How the layer's weight is made: from its unit kernels, by the maps of its kernel size."""
        maps = self.maps[self._class_of[layer]]
        return Generation(self._rules[layer], maps, (self.embeddings[self._index[layer]],))

    @override
    def stores(self) -> list[Tensor]:
        """The maps, which all layers of a kernel size read."""
        return list(self.maps)

    @override
    def role(self, parameter: str) -> Role:
        """The role of a parameter; embeddings of unit kernels count as coefficients."""
        return Role.COEFFICIENTS if parameter.startswith("embeddings") else Role.GENERATORS

    @override
    def sharing(self) -> tuple[Reading, ...]:
        """One reading of all of its maps for every generated layer."""
        return tuple(
            Reading(layer.name, group, 0, self.maps[group].shape[0], 1, "hypernetwork")
            for layer in self.plan.layers
            for group in (self._class_of[layer.name],)
        )

    @override
    def structure(self) -> dict[str, Any]:
        """The sizes that were chosen, and the layers that are generated."""
        return self.plan.sizes._asdict() | {"generated": [layer.name for layer in self.plan.layers]}

    @override
    def remark(self) -> str | None:
        """Why some of the budget is unused."""
        return self._remark
