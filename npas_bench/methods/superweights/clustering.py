"""SuperWeight Clusters: which layers may share SuperWeights (Teterwak et al. 2023, 2.2.1)."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import torch

from npas_bench.generation.clustering import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from npas_bench.layers import Layer
    from npas_bench.methods.superweights.construction import Composition


def group_by_similarity(
    members: Sequence[str], similarity: Callable[[str, str], float | None], threshold: float
) -> list[list[str]]:
    """Group members that are more similar than a threshold, pair by pair (the priority queue of section 2.2.1).

    The pairs are taken in the order of falling similarity, and the groups of both members of a pair are merged. Members
    that are similar to no other stay alone. Pairs of equal similarity are taken in the members' order, so that the
    result is always the same.

    Args:
        members: names, in network order.
        similarity: gives the similarity of two members, or None if there is nothing to compare.
        threshold: the similarity that pairs must exceed.

    Returns:
        The groups, in the order of their first members.
    """
    pairs = []
    for first, second in combinations(range(len(members)), 2):
        alike = similarity(members[first], members[second])
        if alike is not None and alike > threshold:
            pairs.append((-alike, first, second))
    group = list(range(len(members)))
    for _, first, second in sorted(pairs):
        joined, left = sorted((group[first], group[second]))
        group = [joined if g == left else g for g in group]
    return gather(members, group)


def cosine(first: Tensor, second: Tensor) -> float:
    """The cosine of the angle between two vectors, in double precision; 0 where one of them is 0 or not finite."""
    a, b = first.double().reshape(-1), second.double().reshape(-1)
    norms = float(a.norm() * b.norm())
    return float(a @ b) / norms if norms > 0 and math.isfinite(norms) else 0.0


def gradient_similarity(
    composition: Composition, gradients: Mapping[str, Tensor]
) -> Callable[[str, str], float | None]:
    """The similarity of two layers: the cosine of their gradients for the SuperWeights that both hold (eq. 2).

    Args:
        composition: how all layers are composed in a single cluster.
        gradients: gradients of the layers' weights, summed over an epoch, by layer.
    """

    def similarity(first: str, second: str) -> float | None:
        own, other = ({part.superweight: part for part in composition.parts[name]} for name in (first, second))
        shared = [name for name in own if name in other]
        if not shared:
            return None
        pieces = []
        for layer, parts in ((first, own), (second, other)):
            whole = gradients[layer].flatten(2) if gradients[layer].dim() > 2 else gradients[layer].unsqueeze(2)
            cuts = [parts[name] for name in shared]
            pieces.append(
                torch.cat([whole[p.row : p.row + p.rows, p.column : p.column + p.columns].reshape(-1) for p in cuts])
            )
        return cosine(*pieces)

    return similarity


def bins_by_depth(layers: Sequence[Layer], count: int) -> list[list[str]]:
    """The layers in `count` clusters of about one size, by their depth in the network (table 3, depth-binning)."""
    return gather([layer.name for layer in layers], [index * count // len(layers) for index in range(len(layers))])


def draw_clusters(layers: Sequence[Layer], count: int, generator: torch.Generator) -> list[list[str]]:
    """The layers in at most `count` clusters, drawn at random (table 1, Random Cluster)."""
    drawn = torch.randint(count, (len(layers),), generator=generator, device=torch.device("cpu")).tolist()
    return gather([layer.name for layer in layers], drawn)
