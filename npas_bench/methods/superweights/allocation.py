"""The allocation of SuperWeight Networks: clusters, their SuperWeights, and how layers mix the templates of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

from npas_bench.allocation import GroupedAllocation, Reading, read_coefficients
from npas_bench.generation.assembly import Assembled, WeightBlock
from npas_bench.generation.engine import Generation, Replaced
from npas_bench.generation.group import Group
from npas_bench.methods.superweights.clustering import cosine, group_by_similarity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from npas_bench.generation.plan import Variant
    from npas_bench.layers import Layer
    from npas_bench.methods.superweights.construction import Composition
    from npas_bench.methods.superweights.options import SuperWeightsOptions

# The row of a SuperWeight's coefficients that each of its users mixes with: (cluster, SuperWeight) -> layer -> row.
Rows = dict[tuple[int, str], dict[str, int]]


class ClusterPlan(NamedTuple):
    """A SuperWeight Cluster to make.

    Attributes:
        composition: how the cluster's layers are composed of SuperWeights.
        store: number of scalars of its Weight Templates.
        variant: how SuperWeights read these.
    """

    composition: Composition
    store: int
    variant: Variant


class SuperWeightsAllocation(GroupedAllocation):
    """SuperWeight Clusters that the layers' weights are composed from.

    Args:
        layers: the layers of the network, or of several networks.
        clusters: the clusters; every layer is in one of them.
        options: the method's options.
        remark: why some of the budget is unused.
        found: the names of the layers of each cluster that a search found; there may be more clusters than the budget
            can pay for.
        refined: what an earlier refinement decided, as `structure` said.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        clusters: Sequence[ClusterPlan],
        options: SuperWeightsOptions,
        remark: str | None = None,
        found: list[list[str]] | None = None,
        refined: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        rows = _first_rows(clusters, options, refined)
        super().__init__((_group(plan, rows, i) for i, plan in enumerate(clusters)), remark)
        self._layers = {layer.name: layer for layer in layers}
        self._clusters = clusters
        self._options = options
        self._found = found
        self._cluster_of = {name: i for i, plan in enumerate(clusters) for name in plan.composition.parts}
        self._refined = refined is not None
        self._rows = rows
        self._sums: dict[tuple[int, str, str], Tensor] | None = None

    @override
    def generation(self, layer: str) -> Generation:
        """How the layer's weight is made: from its SuperWeights, each in its place."""
        cluster = self._cluster_of[layer]
        group = self._groups[cluster]
        blocks: list[WeightBlock] = []
        inputs: list[Tensor] = []
        rows: list[int] = []
        for part in self._clusters[cluster].composition.parts[layer]:
            row = self._rows[cluster, part.superweight][layer]
            made = group.generation(part.superweight, row)
            own = made.inputs if self._sums is None else self._summed(cluster, part.superweight, layer, made)
            blocks.append(WeightBlock(made.rule, part.row, part.column, len(own)))
            inputs.extend(own)
            rows.append(row)
        shape = self._layers[layer].shape
        shared = (cluster, shape, *rows) if self._sums is None else None
        return Generation(Assembled(shape, tuple(blocks)), group.store, tuple(inputs), shared)

    def _summed(self, cluster: int, superweight: str, layer: str, made: Generation) -> tuple[Tensor, ...]:
        """The same inputs, with coefficients whose gradient from this layer alone is summed up."""
        if self._groups[cluster].shares[superweight].templates == 1 or not made.inputs[0].requires_grad:
            return made.inputs
        alpha, sums, key = made.inputs[0].clone(), self._sums, (cluster, superweight, layer)

        def add(gradient: Tensor) -> None:
            if sums is not None:
                sums[key] = sums[key] + gradient if key in sums else gradient.clone()

        alpha.register_hook(add)  # type: ignore[no-untyped-call]
        return (alpha, *made.inputs[1:])

    @override
    def before_epoch(self, epoch: int, epochs: int) -> None:
        """Begin to sum up coefficients' gradients if this is the epoch before the refinement."""
        self._sums = {} if not self._refined and epoch + 1 == self._refining_epoch(epochs) else None

    @override
    def epoch_sums(self) -> list[Tensor]:
        """The sums of coefficients' gradients, for each layer, in the epoch before the refinement."""
        return [] if self._sums is None else [self._sums[key] for key in sorted(self._sums)]

    @override
    def after_epoch(self, epoch: int, epochs: int) -> list[Replaced]:
        """Give layers whose coefficients' gradients disagree copies of their own, if it is time (section 2.2.2)."""
        sums, self._sums = self._sums, None
        replaced = [] if sums is None else self.refine(sums)
        # A training that is too short for a refinement ends without one, and then nothing is reserved for it any more.
        self._refined = self._refined or epoch + 1 == epochs
        return replaced

    def refine(self, gradients: Mapping[tuple[int, str, str], Tensor]) -> list[Replaced]:
        """Separate the coefficients of layers whose gradients for them disagree (eq. 3); the others go on sharing them.

        Args:
            gradients: gradients of the coefficients from one layer, summed over an epoch, by (cluster, SuperWeight,
                layer).

        Returns:
            The parameters that gave way to others.
        """
        replaced = []
        for i, plan in enumerate(self._clusters):
            group = self._groups[i]
            origins: dict[str, list[int]] = {}
            for superweight in plan.composition.superweights:
                name, users = superweight.name, superweight.users
                if group.shares[name].templates == 1 or any((i, name, user) not in gradients for user in users):
                    continue

                def agreement(first: str, second: str, i: int = i, name: str = name) -> float:
                    return cosine(gradients[i, name, first], gradients[i, name, second])

                parts = group_by_similarity(users, agreement, self._options.agreement)
                origins[name] = [self._rows[i, name][part[0]] for part in parts]
                self._rows[i, name] = {user: row for row, part in enumerate(parts) for user in part}
            replaced += group.spread(origins)
        self._refined = True
        return replaced

    def _refining_epoch(self, epochs: int) -> int:
        """The number of epochs after which coefficients are separated; 0 if they never are."""
        if self._options.refinement != "gradients":
            return 0
        after = max(1, round(self._options.refine_after * epochs))
        return after if after < epochs else 0

    @override
    def reserved(self) -> int:
        """How many scalars of coefficients the refinement would add if no two layers went on sharing any."""
        if self._refined or self._options.refinement != "gradients":
            return 0
        total = 0
        for i, plan in enumerate(self._clusters):
            for superweight in plan.composition.superweights:
                templates = self._groups[i].shares[superweight.name].templates
                total += (len(superweight.users) - 1) * templates if templates > 1 else 0
        return total

    @override
    def sharing(self) -> tuple[Reading, ...]:
        """What the SuperWeights of each layer read of their cluster's store."""
        found = []
        for layer, i in self._cluster_of.items():
            group = self._groups[i]
            for part in self._clusters[i].composition.parts[layer]:
                share = group.shares[part.superweight]
                row = self._rows[i, part.superweight][layer]
                how = group.how(part.superweight)
                rule = f"{how} row {row}" if share.templates > 1 else how
                mixture = group.mixture(part.superweight, row)
                alphas = None if mixture is None else read_coefficients(mixture)
                found.append(Reading(layer, i, share.start, share.size, share.templates, rule, alphas))
        return tuple(found)

    @override
    def structure(self) -> dict[str, Any]:
        """The clusters that a search found, and the coefficients that layers share after the refinement."""
        found: dict[str, Any] = {} if self._found is None else {"clusters": self._found}
        if self._refined:
            found["rows"] = {f"{i} {name}": rows for (i, name), rows in self._rows.items()}
        return found


def _first_rows(
    clusters: Sequence[ClusterPlan], options: SuperWeightsOptions, refined: Mapping[str, Mapping[str, int]] | None
) -> Rows:
    rows: Rows = {}
    for i, plan in enumerate(clusters):
        for superweight in plan.composition.superweights:
            soft = options.refinement == "all"
            rows[i, superweight.name] = {user: n if soft else 0 for n, user in enumerate(superweight.users)}
            if refined is not None:
                rows[i, superweight.name] = dict(refined[f"{i} {superweight.name}"])
    return rows


def _group(plan: ClusterPlan, rows: Rows, index: int) -> Group:
    superweights = plan.composition.superweights
    return Group(
        [s.reader(len(s.users)) for s in superweights],
        plan.store,
        plan.variant,
        {s.name: 1 + max(rows[index, s.name].values()) for s in superweights},
    )
