"""Grouping layers by what they have in common: by a key, or by k-means on points that stand for them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from npas_bench.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch import Tensor

T = TypeVar("T")

# Starts of k-means, of which the best is kept.
_STARTS = 10


def gather(members: Sequence[T], keys: Sequence[Hashable]) -> list[list[T]]:
    """The members that have the same key together, in the order of each key's first member.

    Args:
        members: what is gathered.
        keys: the key of each member.
    """
    gathered: dict[Hashable, list[T]] = {}
    for member, key in zip(members, keys, strict=True):
        gathered.setdefault(key, []).append(member)
    return list(gathered.values())


def k_means(points: Tensor, clusters: int, seed: int) -> list[int]:
    """The cluster of each point by k-means, in double precision on one thread, so that it is repeatable.

    Args:
        points: (points, coordinates).
        clusters: number of clusters, at most as many as there are points; fewer are found where points coincide.
        seed: seed of the starting centres.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    coordinates = np.ascontiguousarray(points.detach().cpu().double().numpy())
    means = KMeans(clusters, n_init=_STARTS, random_state=derive_seed("k-means", seed) % 2**32)
    with threadpool_limits(1), warnings.catch_warnings():
        # It warns where fewer points differ than clusters are wanted.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = means.fit_predict(coordinates)
    return [int(cluster) for cluster in found]
