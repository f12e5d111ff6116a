"""The allocation of SSN: one flat store, coefficients, masks."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from npas_bench.budget import Role
from npas_bench.generation.initialisation import Stretch, fill_store
from npas_bench.generation.mixing import mix_templates, template_mean
from npas_bench.generation.upsampling import interpolate, masked_tiles, repeat_tiles
from npas_bench.methods.ssn.plan import Share, mask_count, shares
from npas_bench.network import Allocation, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.layers import Layer
    from npas_bench.methods.ssn.options import SSNOptions


class SSNAllocation(Allocation):
    """One parameter group that every layer's weight is generated from.

    Args:
        layers: the layers, in network order.
        store: scalars of the store, the papers' |theta|; what goes with it comes on top.
        options: of the method.
        remark: why the store is smaller than the budget allows.
    """

    def __init__(self, layers: Sequence[Layer], store: int, options: SSNOptions, remark: str | None = None) -> None:
        super().__init__()
        self._options = options
        self._remark = remark
        self._shares = {share.layer.name: share for share in shares(layers, store, options)}
        self.store = nn.Parameter(torch.empty(store))
        fill_store(self.store, [Stretch(s.layer, s.start, s.length) for s in self._shares.values()])
        self._add_coefficients()
        self._add_masks()

    def _add_coefficients(self) -> None:
        self._rows: dict[str, int] = {}
        mixed: dict[int, list[str]] = defaultdict(list)
        for name, share in self._shares.items():
            if share.templates > 1:
                self._rows[name] = len(mixed[share.templates])
                mixed[share.templates].append(name)
        self.coefficients = nn.ParameterDict()
        self.embeddings = nn.ParameterDict()
        self.maps = nn.ModuleDict()
        if self._options.combine not in ("wavg", "emb"):
            return
        for templates, names in sorted(mixed.items()):
            if self._options.combine == "wavg":
                alphas = nn.Parameter(torch.empty(len(names), templates))
                self.coefficients[_key(templates)] = nn.init.orthogonal_(alphas)
            else:
                phis = nn.Parameter(torch.empty(len(names), self._options.embedding))
                self.embeddings[_key(templates)] = nn.init.orthogonal_(phis)
                linear = nn.Linear(self._options.embedding, templates)
                nn.init.orthogonal_(linear.weight)
                nn.init.zeros_(linear.bias)
                self.maps[_key(templates)] = linear

    def _add_masks(self) -> None:
        self._mask_of: dict[str, int] = {}
        self.masks = nn.ParameterList()
        tiled = [share for share in self._shares.values() if share.tiles > 1]
        if self._options.upsample != "mask" or not tiled:
            return
        sets = [[share] for share in tiled] if self._options.mask_scope == "layer" else [tiled]
        for index, readers in enumerate(sets):
            self._mask_of |= {share.layer.name: index for share in readers}
            masks = mask_count([share.layer.size for share in readers], self.store.shape[0], self._options)
            # 1 / (window n), as in the released code: further tiles start faint and grow where they help.
            faint = 1 / (self._options.mask_window * (masks + 1))
            self.masks.append(nn.Parameter(torch.full((masks, self._options.mask_window), faint)))

    def weight(self, layer: str) -> Tensor:
        """Mixed templates where the store has enough scalars for the layer, an upsampled store where not."""
        share = self._shares[layer]
        return self._flat(share).view(share.layer.shape)

    def _flat(self, share: Share) -> Tensor:
        if share.image is not None:
            return interpolate(self.store.narrow(0, share.start, share.size), share.image, share.layer)
        if share.tiles > 1:
            if self._options.upsample == "repeat":
                return repeat_tiles(self.store, share.layer.size)
            return masked_tiles(self.store, share.layer.size, self.masks[self._mask_of[share.layer.name]])
        if share.templates == 1 or self._options.combine == "avg":
            return template_mean(self.store, share.start, share.size, share.templates)
        return mix_templates(self.store, share.start, share.size, self._alpha(share))

    def _alpha(self, share: Share) -> Tensor:
        key, row = _key(share.templates), self._rows[share.layer.name]
        if self._options.combine == "wavg":
            alpha: Tensor = self.coefficients[key][row]
        else:
            alpha = self.maps[key](self.embeddings[key][row])
        return alpha

    def role(self, parameter: str) -> Role:
        """Layer embeddings count as coefficients, the maps from them as generators."""
        return _ROLES[parameter.split(".")[0]]

    def sharing(self) -> tuple[Reading, ...]:
        """Where in the store each layer reads, and by which rule."""
        return tuple(
            Reading(name, 0, share.start, share.size, share.templates, self._rule(share))
            for name, share in self._shares.items()
        )

    def _rule(self, share: Share) -> str:
        if share.image is not None or share.tiles > 1:
            return self._options.upsample
        return self._options.combine if share.templates > 1 else "as is"

    def remark(self) -> str | None:
        """That the store is capped, if it is."""
        return self._remark


_ROLES = {
    "store": Role.STORE,
    "coefficients": Role.COEFFICIENTS,
    "embeddings": Role.COEFFICIENTS,
    "maps": Role.GENERATORS,
    "masks": Role.MASKS,
}


def _key(templates: int) -> str:
    return f"k{templates}"
