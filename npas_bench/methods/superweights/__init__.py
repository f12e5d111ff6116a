"""`superweights`: SuperWeight Networks (Teterwak et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from typing_extensions import override

from npas_bench.generation.allotment import Request, apportion
from npas_bench.generation.clustering import gather, k_means
from npas_bench.methods.base import Problem, SharingMethod, require
from npas_bench.methods.superweights.allocation import ClusterPlan, SuperWeightsAllocation
from npas_bench.methods.superweights.clustering import (
    bins_by_depth,
    draw_clusters,
    gradient_similarity,
    group_by_similarity,
)
from npas_bench.methods.superweights.construction import compose
from npas_bench.methods.superweights.options import SuperWeightsOptions
from npas_bench.network import GeneratedNetwork
from npas_bench.seeding import seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.layers import Layer

__all__ = ["SuperWeights", "SuperWeightsAllocation", "SuperWeightsOptions"]


class SuperWeights(SharingMethod):
    """Composes the layers' weights from SuperWeights, which are mixtures of their cluster's Weight Templates."""

    name = "superweights"
    version = 2
    Options = SuperWeightsOptions
    options: SuperWeightsOptions

    @override
    def allocate(self, problem: Problem) -> SuperWeightsAllocation:
        """The clusters with the largest stores that the budget pays for, together with fully refined coefficients."""
        require(problem.fixed + self._claim(problem.layers).smallest, problem)
        # What a search draws must not change the initial values of the network that is built after it.
        with seeded("search", problem.seed):
            found = self._find_clusters(problem)
        searches = self.options.clustering in ("gradients", "coefficients")
        searched = searches and (problem.trial is not None or "clusters" in problem.structure)
        remark = "a cluster per depth bin in place of the search" if searches and not searched else None
        refined = problem.structure.get("rows")
        return self._allocate(problem, found, remark, found if searched else None, refined)

    def _allocate(
        self,
        problem: Problem,
        clusters: list[list[str]],
        remark: str | None = None,
        found: list[list[str]] | None = None,
        refined: dict[str, dict[str, int]] | None = None,
        options: SuperWeightsOptions | None = None,
    ) -> SuperWeightsAllocation:
        options = options or self.options
        layers = {layer.name: layer for layer in problem.layers}
        apportioned = apportion(
            [[layers[name] for name in names] for names in clusters], self._claim, problem.layers, problem.available
        )
        plans = [
            ClusterPlan(compose(group), store, request.variant)
            for group, store, request in zip(apportioned.groups, apportioned.stores, apportioned.requests, strict=True)
        ]
        remarks = [remark, apportioned.shortfall("clusters", len(clusters)), apportioned.remark]
        text = "; ".join(r for r in remarks if r) or None
        return SuperWeightsAllocation(problem.layers, plans, options, text, found, refined)

    def _claim(self, layers: Sequence[Layer]) -> Request:
        soft = self.options.refinement != "none"
        readers = [s.reader(len(s.users) if soft else 1) for s in compose(layers).superweights]
        return Request(readers, self.options.variant)

    def _find_clusters(self, problem: Problem) -> list[list[str]]:
        layers, options = problem.layers, self.options
        if options.clustering == "single":
            return [[layer.name for layer in layers]]
        if options.clustering == "random":
            return draw_clusters(layers, options.clusters or 1, problem.generator("clusters"))
        if options.clustering == "depth":
            return bins_by_depth(layers, min(options.clusters or 1, len(layers)))
        if "clusters" in problem.structure:
            return [list(names) for names in problem.structure["clusters"]]
        if problem.trial is None:
            return bins_by_depth(layers, min(options.clusters or 4, len(layers)))
        if options.clustering == "coefficients":
            return self._cluster_coefficients(problem)
        hard = options.model_copy(update={"refinement": "none"})
        allocation = self._allocate(problem, [[layer.name for layer in layers]], options=hard)
        gradients = self._train(problem, allocation)
        similarity = gradient_similarity(compose(layers), gradients)
        return group_by_similarity([layer.name for layer in layers], similarity, options.threshold)

    def _cluster_coefficients(self, problem: Problem) -> list[list[str]]:
        """The clusters that k-means finds by how layers mix the SuperWeight that most of them share (table 3)."""
        names = [layer.name for layer in problem.layers]
        soft = self.options.model_copy(update={"refinement": "all"})
        allocation = self._allocate(problem, [names], options=soft)
        self._train(problem, allocation)
        # The first SuperWeight of a layer is the one that all layers of its kernel have in common.
        first = {layer.name: allocation.generation(layer.name) for layer in problem.layers}
        by_class: dict[str, list[str]] = {}
        for name, parts in compose(problem.layers).parts.items():
            by_class.setdefault(parts[0].superweight, []).append(name)
        labels: dict[str, tuple[str, int]] = {}
        for superweight, members in by_class.items():
            rows = [first[name].inputs[0].detach().double() for name in members if first[name].inputs]
            if len(rows) < len(members) or len({row.shape for row in rows}) > 1 or rows[0].dim() > 1:
                # They mix a single template, so nothing tells them apart.
                labels |= {name: (superweight, 0) for name in members}
                continue
            count = min(self.options.clusters or 1, len(members))
            found = k_means(torch.stack(rows), count, problem.seed)
            labels |= {name: (superweight, label) for name, label in zip(members, found, strict=True)}
        return gather(names, [labels[name] for name in names])

    def _train(self, problem: Problem, allocation: SuperWeightsAllocation) -> dict[str, torch.Tensor]:
        if problem.trial is None:
            raise ValueError("a search needs a problem that can train")
        network = GeneratedNetwork(problem.module(), problem.layers, allocation)
        return problem.trial(network, self.options.search_share, gradients=True)
