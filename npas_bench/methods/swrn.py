"""`swrn` and `albert`: repeated layers share templates (Savarese & Maire 2019; Lan et al. 2020)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from npas_bench.allocation import Reading, RuledAllocation, read_coefficients
from npas_bench.budget import Role
from npas_bench.errors import UnsupportedBudget
from npas_bench.generation.allotment import is_notable
from npas_bench.generation.clustering import gather
from npas_bench.generation.engine import Generation
from npas_bench.generation.rules import Mixed, Stored
from npas_bench.methods.base import MethodOptions, Problem, SharingMethod, require
from npas_bench.network import GeneratedNetwork, Network, PlainNetwork

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from npas_bench.layers import Layer

# Groups of repeated layers; the layers of a group have one kind and one shape.
Repeats = list[tuple["Layer", ...]]


class TemplateAllocation(RuledAllocation):
    """Groups of equal layers, each with K templates of the layers' own size: w_i = sum_k alpha_ik T_k (eq. 1).

    Args:
        groups: the groups; the layers of a group have one shape.
        templates: number of templates of each group, K.
        hard: whether each group has one template, which is the weight of all its layers, and no coefficients.
        remark: why some of the budget is unused.
    """

    def __init__(
        self, groups: Repeats, templates: Sequence[int], *, hard: bool = False, remark: str | None = None
    ) -> None:
        super().__init__()
        self._remark = remark
        self._hard = hard
        self._places = {layer.name: (g, row) for g, group in enumerate(groups) for row, layer in enumerate(group)}
        self._layers = {layer.name: layer for group in groups for layer in group}
        self._templates = list(templates)
        self.templates = nn.ParameterList()
        self.coefficients = nn.ParameterDict()
        for index, (group, count) in enumerate(zip(groups, templates, strict=True)):
            self.templates.append(nn.Parameter(torch.empty(count * group[0].size).normal_(0, group[0].deviation)))
            if not hard:
                alphas = nn.Parameter(torch.empty(len(group), count))
                self.coefficients[str(index)] = nn.init.orthogonal_(alphas)

    @override
    def generation(self, layer: str) -> Generation:
        """How the layer's weight is made: a weighted sum of the group's templates, or its one template."""
        group, row = self._places[layer]
        shape, count = self._layers[layer].shape, self._templates[group]
        if self._hard:
            return Generation(Stored(shape), self.templates[group], shared=group)
        return Generation(Mixed(shape, 0, count), self.templates[group], (self.coefficients[str(group)][row],))

    @override
    def role(self, parameter: str) -> Role:
        """The role of a parameter; templates are stores."""
        return Role.COEFFICIENTS if parameter.startswith("coefficients") else Role.STORE

    @override
    def sharing(self) -> tuple[Reading, ...]:
        """One reading of all of its group's templates for every layer."""
        return tuple(
            Reading(
                name,
                group,
                0,
                self._layers[name].size,
                self._templates[group],
                "hard" if self._hard else "wavg",
                None if self._hard else read_coefficients(self.coefficients[str(group)][row]),
            )
            for name, (group, row) in self._places.items()
        )

    @override
    def remark(self) -> str | None:
        """Why some of the budget is unused."""
        return self._remark


class _RepeatSharing(SharingMethod):
    """Shares templates among repeated layers; all other layers stay as they are."""

    hard: ClassVar[bool]

    @abstractmethod
    def key(self, layer: Layer) -> Hashable:
        """What repeated layers of one shape must have in common to share templates."""

    @abstractmethod
    def choose(self, groups: Repeats, available: int, problem: Problem) -> tuple[list[int], str | None]:
        """The number of templates of each group, for at most `available` scalars, and a remark.

        Raises:
            UnsupportedBudget: if the budget is out of range.
        """

    @override
    def allocate(self, problem: Problem) -> TemplateAllocation:
        """The allocation with the chosen number of templates for every group of repeated layers."""
        groups = self.groups(problem)
        plain = sum(layer.size for layer in problem.layers) - sum(g[0].size * len(g) for g in groups)
        templates, remark = self.choose(groups, problem.available - plain, problem)
        return TemplateAllocation(groups, templates, hard=self.hard, remark=remark)

    @override
    def build(self, problem: Problem) -> Network:
        """The architecture with repeated layers made from templates, or the plain network where no layer repeats."""
        if not self.groups(problem):
            if problem.budget == problem.full:
                return PlainNetwork(problem.module(), remark="no layer repeats, so none is shared")
            which = "smallest" if problem.budget < problem.full else "largest"
            raise UnsupportedBudget(
                f"{self.name} shares layers that repeat, and {problem.architecture.name} has none",
                **{which: problem.full},
            )
        allocation = self.allocate(problem)
        shared = [layer for layer in problem.layers if layer.name in {r.layer for r in allocation.sharing()}]
        return GeneratedNetwork(problem.module(), shared, allocation)

    def _cost(self, groups: Repeats, templates: Sequence[int]) -> int:
        """Number of scalars of all templates, and of the coefficients where sharing is soft."""
        return sum(
            count * group[0].size + (0 if self.hard else len(group) * count)
            for group, count in zip(groups, templates, strict=True)
        )

    def groups(self, problem: Problem) -> Repeats:
        """The groups of repeated layers that share templates, each of two layers or more."""
        repeated = [layer for layer in problem.layers if layer.place.block is not None]
        keys = [(layer.place.block, layer.kind, layer.shape, self.key(layer)) for layer in repeated]
        return [tuple(members) for members in gather(repeated, keys) if len(members) > 1]


class SWRNOptions(MethodOptions):
    """Options of SWRN.

    Attributes:
        templates: number of templates of every group, K; without it, as many as the budget allows.
    """

    templates: int | None = Field(default=None, ge=1, le=4096)


class SWRN(_RepeatSharing):
    """Shares softly: all layers of one shape in a stage's repeated blocks mix the same templates (section 3)."""

    name = "swrn"
    hard = False
    Options = SWRNOptions
    options: SWRNOptions

    @override
    def key(self, layer: Layer) -> Hashable:
        """None for all: layers of one shape in the repeated blocks share, wherever they are."""
        return None

    @override
    def choose(self, groups: Repeats, available: int, problem: Problem) -> tuple[list[int], str | None]:
        """The same number of templates in every group, then one more where it fits, up to the group's layers."""
        rest = problem.budget - available
        chosen = [min(self.options.templates or 1, len(group)) for group in groups]
        require(rest + self._cost(groups, chosen), problem)
        if self.options.templates is None:
            chosen = self._grown(groups, chosen, available)
        most = rest + self._cost(groups, [len(group) for group in groups])
        if problem.budget > most:
            raise UnsupportedBudget(
                f"a budget of {problem.budget:,} is more than {self.name} can use: with as many templates as layers "
                "each has its own weight",
                largest=most,
            )
        return chosen, _unused(available - self._cost(groups, chosen), problem, "another template does not fit")

    def _grown(self, groups: Repeats, templates: list[int], available: int) -> list[int]:
        """The numbers of templates, grown together and then one by one as far as `available` scalars pay for."""
        while (more := [min(k + 1, len(g)) for k, g in zip(templates, groups, strict=True)]) != templates:
            if self._cost(groups, more) > available:
                break
            templates = more
        for index in sorted(range(len(groups)), key=lambda i: -groups[i][0].size):
            more = [k + (i == index) for i, k in enumerate(templates)]
            if templates[index] < len(groups[index]) and self._cost(groups, more) <= available:
                templates = more
        return templates


class Albert(_RepeatSharing):
    """Shares hard: layers at the same place in repeated blocks have the same weight (Lan et al. 2020, 3.1)."""

    name = "albert"
    hard = True

    @override
    def key(self, layer: Layer) -> Hashable:
        """The layer's place within its block, which is its name without the number of the block."""
        return tuple(part for part in layer.name.split(".") if not part.isdigit())

    @override
    def choose(self, groups: Repeats, available: int, problem: Problem) -> tuple[list[int], str | None]:
        """One template for every group."""
        chosen = [1] * len(groups)
        needed = problem.budget - available + self._cost(groups, chosen)
        require(needed, problem)
        if problem.budget > problem.full:
            raise UnsupportedBudget(
                f"a budget of {problem.budget:,} is more than the {problem.full:,} parameters without sharing",
                largest=problem.full,
            )
        return chosen, _unused(problem.budget - needed, problem, "hard sharing has one size")


def _unused(left: int, problem: Problem, why: str) -> str | None:
    return f"{left:,} parameters are unused: {why}" if is_notable(left, problem.budget) else None
