"""Parameter groups: a flat store, with the coefficients that mix it into weights and the masks that upsample it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from npas_bench.budget import Role
from npas_bench.generation.engine import Generation, Replaced
from npas_bench.generation.initialisation import Stretch, fill_store
from npas_bench.generation.plan import StoreShare, Variant, mask_count, shares
from npas_bench.generation.rules import Averaged, Mixed, Rule, Stored
from npas_bench.generation.upsampling import Interpolated, Masked, Repeated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from npas_bench.generation.plan import Reader


class Group(nn.Module):
    """A parameter group.

    Args:
        readers: the readers that share the store, in the order in which templates are handed out.
        store: scalars of the store, the papers' |theta|; coefficients and masks come on top.
        variant: how the readers read the store.
        rows: how many rows of coefficients a reader has, by its name; one where it is not named.
    """

    def __init__(
        self, readers: Sequence[Reader], store: int, variant: Variant, rows: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.variant = variant
        self.shares = {share.reader.name: share for share in shares(readers, store, variant)}
        self.store = nn.Parameter(torch.empty(store))
        fill_store(self.store, [Stretch(s.reader, s.first, s.length) for s in self.shares.values()])
        self._rules = {name: self._rule(share) for name, share in self.shares.items()}
        self._add_coefficients(rows or {})
        self._add_masks()

    def _add_coefficients(self, rows: Mapping[str, int]) -> None:
        self.first_row: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        counts: dict[int, int] = defaultdict(int)
        for name, share in self.shares.items():
            if share.templates > 1:
                self.first_row[name] = counts[share.templates]
                self._rows[name] = rows.get(name, 1)
                counts[share.templates] += self._rows[name]
        self.coefficients = nn.ParameterDict()
        self.embeddings = nn.ParameterDict()
        self.maps = nn.ModuleDict()
        if self.variant.combine not in ("wavg", "emb"):
            return
        for templates, count in sorted(counts.items()):
            if self.variant.combine == "wavg":
                alphas = nn.Parameter(torch.empty(count, templates))
                self.coefficients[_key(templates)] = nn.init.orthogonal_(alphas)
            else:
                phis = nn.Parameter(torch.empty(count, self.variant.embedding))
                self.embeddings[_key(templates)] = nn.init.orthogonal_(phis)
                linear = nn.Linear(self.variant.embedding, templates)
                nn.init.orthogonal_(linear.weight)
                nn.init.zeros_(linear.bias)
                self.maps[_key(templates)] = linear

    def _add_masks(self) -> None:
        self._mask_of: dict[str, int] = {}
        self.masks = nn.ParameterList()
        tiled = [share for share in self.shares.values() if share.tiles > 1]
        if self.variant.upsample != "mask" or not tiled:
            return
        sets = [[share] for share in tiled] if self.variant.mask_scope == "layer" else [tiled]
        for index, readers in enumerate(sets):
            self._mask_of |= {share.reader.name: index for share in readers}
            masks = mask_count([share.reader.size for share in readers], self.store.shape[0], self.variant)
            self.masks.append(nn.Parameter(self._first_masks(masks)))

    def _first_masks(self, masks: int) -> Tensor:
        shape = (masks, self.variant.mask_window)
        if self.variant.tiles == "scattered":
            return torch.randn(shape).sign()
        # The released code starts with 1 / (window n) too: further tiles begin faint and grow where they help.
        return torch.full(shape, 1 / (self.variant.mask_window * (masks + 1)))

    def _rule(self, share: StoreShare) -> Rule:
        shape = share.reader.shape
        if share.image is not None:
            return Interpolated(shape, share.start, share.image)
        if share.tiles > 1:
            return Repeated(shape) if self.variant.upsample == "repeat" else Masked(shape, share.size, share.start)
        if share.templates == 1:
            return Stored(shape, share.start)
        if self.variant.combine == "avg":
            return Averaged(shape, share.start, share.templates)
        return Mixed(shape, share.start, share.templates)

    def generation(self, reader: str, row: int = 0, shared: object = None) -> Generation:
        """How a reader's weight is made with one of its rows of coefficients.

        Args:
            reader: name of the reader.
            row: number of the row among the reader's own, from 0.
            shared: what `Generation.shared` shall be.
        """
        return Generation(self._rules[reader], self.store, self._inputs(reader, row), shared)

    def _inputs(self, reader: str, row: int) -> tuple[Tensor, ...]:
        rule = self._rules[reader]
        if isinstance(rule, Mixed):
            return (self._alpha(_key(rule.templates), self.first_row[reader] + row),)
        return (self.masks[self._mask_of[reader]],) if isinstance(rule, Masked) else ()

    def _alpha(self, key: str, row: int) -> Tensor:
        if self.variant.combine == "wavg":
            alpha: Tensor = self.coefficients[key][row]
        else:
            alpha = self.maps[key](self.embeddings[key][row])
        return alpha

    def spread(self, origins: Mapping[str, Sequence[int]]) -> list[Replaced]:
        """Give readers new rows of coefficients, each a copy of a row that the reader has.

        Args:
            origins: for a reader's name, the old row that each of its new rows is a copy of; other readers keep theirs.

        Returns:
            The parameters that gave way to others.
        """
        sources: dict[int, list[int]] = defaultdict(list)
        first_row: dict[str, int] = {}
        for name, first in self.first_row.items():
            templates = self.shares[name].templates
            first_row[name] = len(sources[templates])
            own = origins.get(name, range(self._rows[name]))
            sources[templates] += [first + row for row in own]
            self._rows[name] = len(own)
        self.first_row = first_row
        replaced = []
        for holder in (self.coefficients, self.embeddings):
            for key in list(holder):
                old, rows = holder[key], sources[int(key[1:])]
                if rows != list(range(len(old))):
                    holder[key] = nn.Parameter(old.detach()[rows].clone())
                    replaced.append(Replaced(old, holder[key], rows))
        return replaced

    def mixture(self, reader: str, row: int = 0) -> Tensor | None:
        """The coefficients in one of a reader's rows, which it mixes its templates with; None if it mixes none."""
        return self._inputs(reader, row)[0] if isinstance(self._rules[reader], Mixed) else None

    @staticmethod
    def role(parameter: str) -> Role:
        """The role of a parameter: layer embeddings count as coefficients, and the maps from them as generators."""
        return _ROLES[parameter.split(".")[0]]

    def how(self, reader: str) -> str:
        """The rule that a reader's weight is made by, in the papers' words."""
        share = self.shares[reader]
        if share.image is not None or share.tiles > 1:
            return self.variant.upsample
        return self.variant.combine if share.templates > 1 else "as is"


_ROLES = {
    "store": Role.STORE,
    "coefficients": Role.COEFFICIENTS,
    "embeddings": Role.COEFFICIENTS,
    "maps": Role.GENERATORS,
    "masks": Role.MASKS,
}


def _key(templates: int) -> str:
    return f"k{templates}"
