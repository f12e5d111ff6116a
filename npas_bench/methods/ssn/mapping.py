"""Parameter mapping: which layers form a parameter group (Plummer et al. 2022, 3.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from npas_bench.allocation import Allocation
from npas_bench.budget import Role
from npas_bench.errors import OptionError
from npas_bench.generation.clustering import gather, k_means
from npas_bench.network import GeneratedNetwork

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from npas_bench.layers import Layer
    from npas_bench.methods.base import Problem
    from npas_bench.methods.ssn.options import SSNOptions

# In the preliminary training the learning rate falls tenfold twice (in the released code after epochs 8 and 13 of 15).
_MILESTONES = (8 / 15, 13 / 15)

# A preview works under the meta device, where nothing can be drawn.
_CPU = torch.device("cpu")


def check_mapping(problem: Problem, options: SSNOptions) -> None:
    """Refuse a mapping that is not possible for the architecture, whatever the budget.

    Raises:
        OptionError: if the architecture declares no manual groups, or has fewer layers than there are to be groups.
    """
    name, layers = problem.architecture.name, problem.layers
    if options.mapping == "manual" and any(layer.place.group is None for layer in layers):
        raise OptionError(f"method ssn, option mapping: {name} declares no manual groups; use single, random or auto")
    if options.groups > len(layers):
        raise OptionError(
            f"method ssn, option groups: {name} has {len(layers)} layers, "
            f"so there can be at most as many groups (given: {options.groups})"
        )


def map_layers(problem: Problem, options: SSNOptions) -> list[tuple[Layer, ...]]:
    """The parameter groups, each a tuple of layers in network order; none is empty.

    Args:
        problem: the problem, whose architecture `check_mapping` accepts.
        options: the method's options.
    """
    layers = problem.layers
    if options.mapping == "single":
        return [layers]
    if options.mapping == "manual":
        return _groups(layers, [layer.place.group for layer in layers])
    known = problem.structure.get("mapping")
    if known is not None:
        return _groups(layers, [known[layer.name] for layer in layers])
    if options.mapping == "auto" and problem.trial is not None:
        return _groups(layers, search(problem, options))
    return _groups(layers, _draw(len(layers), options.groups, problem.generator("mapping")))


def _draw(layers: int, groups: int, generator: torch.Generator) -> list[int]:
    """A random group for each layer, such that every group has a layer."""
    order = torch.randperm(layers, generator=generator, device=_CPU).tolist()
    drawn = torch.randint(groups, (layers,), generator=generator, device=_CPU).tolist()
    for group, layer in enumerate(order[:groups]):
        drawn[layer] = group
    return [int(group) for group in drawn]


def _groups(layers: Sequence[Layer], keys: Sequence[Hashable]) -> list[tuple[Layer, ...]]:
    return [tuple(members) for members in gather(layers, keys)]


def search(problem: Problem, options: SSNOptions) -> list[int]:
    """The group of each layer, found by a preliminary network whose layers all mix the same templates.

    The layers are clustered by how the trained network mixes its templates for them.

    Raises:
        ValueError: if the problem cannot train.
    """
    if problem.trial is None:
        raise ValueError("a search needs a problem that can train")
    allocation = PreliminaryAllocation(problem.layers, options)
    network = GeneratedNetwork(problem.module(), problem.layers, allocation)
    problem.trial(network, options.search_share, milestones=_MILESTONES)
    return k_means(allocation.points(), options.groups, problem.seed)


class PreliminaryAllocation(Allocation):
    """What the preliminary network's weights are made from: K' templates of one size, resized for every layer.

    Args:
        layers: the network's layers; the templates together have as many scalars as the largest of them.
        options: the method's options.
    """

    def __init__(self, layers: Sequence[Layer], options: SSNOptions) -> None:
        super().__init__()
        self._layers = {layer.name: layer for layer in layers}
        self._rows = {layer.name: row for row, layer in enumerate(layers)}
        self._by = options.search_by
        size = max(1, max(layer.size for layer in layers) // options.search_templates)
        commonest = max(layers, key=lambda layer: sum(layer.shape == other.shape for other in layers))
        self.store = nn.Parameter(torch.randn(options.search_templates, size) * commonest.deviation)
        width = options.search_templates if self._by == "wavg" else options.embedding
        self.coefficients = nn.Parameter(nn.init.orthogonal_(torch.empty(len(layers), width)))
        self.map = nn.Linear(options.embedding, options.search_templates) if self._by == "emb" else None

    @override
    def weight(self, layer: str) -> Tensor:
        """The layer's weight: a softmax-weighted sum of templates, seen as an image and interpolated to its shape."""
        wanted = self._layers[layer]
        rows, columns = wanted.shape[0], math.prod(wanted.shape[1:])
        mixture = self.coefficients[self._rows[layer]]
        if self.map is not None:
            mixture = self.map(mixture)
        template = torch.mv(self.store.t(), mixture.softmax(0))
        height = min(template.shape[0], max(1, math.isqrt(template.shape[0] * rows // columns)))
        width = template.shape[0] // height
        image = template[: height * width].view(1, 1, height, width)
        stretched = functional.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False)
        return stretched.view(wanted.shape)

    @override
    def role(self, parameter: str) -> Role:
        """The role of a parameter; coefficients and embeddings have the role that is exempt from weight decay."""
        roles = {"store": Role.STORE, "coefficients": Role.COEFFICIENTS}
        return roles.get(parameter.split(".")[0], Role.GENERATORS)

    def points(self) -> Tensor:
        """The points that layers are clustered by, (layers, K' or E)."""
        return self.coefficients
