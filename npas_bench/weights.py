"""Generated weights in an architecture's modules: the modules' own are taken out, and generated ones handed out.

A weight is made when its layer is reached, together with its neighbours if they are small. It is kept for the rest of
the forward pass, so that it is made once however often it is used.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from npas_bench.allocation import Allocation, RuledAllocation
from npas_bench.generation.engine import Batch, Buffers, Passage, functions_can_run, in_full_precision
from npas_bench.layers import Kind, Layer, find_sites
from npas_bench.torch_internals import forget_listed_weights, unlisted_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from npas_bench.generation.engine import Generation

# The most scalars of weights that are made together. While a network's own operations run, code and data that make
# weights are driven out of the caches: made one by one, small weights cost three times as much. A weight that is made
# early needs memory until it is used, which matters most where weights are not kept for the backward pass (True).
_TOGETHER = {False: 1 << 23, True: 1 << 20}


class WeightSource:
    """Hands generated weights to the architecture's modules.

    Args:
        allocation: the allocation that generates the weights.
        layers: the layers whose weights it generates.
        regenerate: whether weights are made again in the backward pass instead of being kept for it.
    """

    def __init__(self, allocation: Allocation, layers: Iterable[Layer], *, regenerate: bool = False) -> None:
        self._allocation = allocation
        self._layers = {layer.name: layer for layer in layers}
        self._buffers = Buffers()
        self._ruled = allocation if isinstance(allocation, RuledAllocation) else None
        self._stores: list[Tensor] | None = None
        self._made: dict[object, Tensor] | None = None
        self._passage: Passage | None = None
        self._gradients: dict[str, Tensor] | None = None
        self._batches = {mode: _batches(self._layers.values(), most) for mode, most in _TOGETHER.items()}
        self._keys: dict[str, object] = {}
        self._asked: set[str] = set()
        # Layers that were asked for again after their module had been left: their weights stay to the end of the pass.
        self._lasting: set[str] = set()
        self.regenerate = regenerate

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """A context for one forward pass, in which each weight is made once."""
        self._made, self._keys, self._asked = {}, {}, set()
        try:
            if self._ruled is not None and torch.is_grad_enabled() and functions_can_run():
                if self._stores is None:
                    self._stores = self._ruled.stores()
                self._passage = Passage(self._stores, self._buffers, regenerate=self.regenerate)
                with self._passage.hooks():
                    yield
            else:
                yield
        finally:
            self._made, self._passage = None, None

    @contextmanager
    def gradients(self) -> Iterator[dict[str, Tensor]]:
        """A context in which the gradient of each layer's weight is summed over all backward passes, by layer."""
        self._gradients = {}
        try:
            yield self._gradients
        finally:
            self._gradients = None

    def weight(self, layer: str) -> Tensor:
        """The layer's weight."""
        try:
            return self._weight(layer)
        except AttributeError as error:
            # Module.__getattr__ would take the error for a missing attribute of the layer and hide where it comes from.
            raise RuntimeError(f"generating the weight of {layer} failed: {error}") from error

    def leave(self, layers: Iterable[str]) -> None:
        """Free the weights of these layers, whose module has run, unless they are kept for the backward pass."""
        if self._made is None or (torch.is_grad_enabled() and not self.regenerate):
            return
        for layer in layers:
            weight = None if layer in self._lasting else self._made.pop(layer, None)
            if weight is not None and self._passage is not None:
                self._passage.release(weight)

    def _weight(self, layer: str) -> Tensor:
        made = self._made
        if made is None:
            return self._naive(layer)
        if self._keys.get(layer) not in made:
            together = self._batches[self.regenerate][layer]
            if layer in self._asked:
                self._lasting.add(layer)
                together = (layer,)
            if self._ruled is None:
                self._keys[layer] = layer
                made[layer] = self._naive(layer)
            else:
                self._make(self._ruled, together if self._passage is not None else (layer,), made)
        self._asked.add(layer)
        return made[self._keys[layer]]

    def _make(self, ruled: RuledAllocation, layers: Iterable[str], made: dict[object, Tensor]) -> None:
        """Make those weights of these layers that have not been made yet."""
        wanted: dict[object, tuple[str, Generation]] = {}
        for layer in layers:
            with in_full_precision():
                generation = ruled.generation(layer)
            shared = generation.shared if self._gradients is None else None
            key: object = layer if shared is None else ("shared", shared)
            self._keys[layer] = key
            if key not in made:
                wanted.setdefault(key, (layer, generation))
        if self._passage is None:
            made.update((key, self._naive(layer)) for key, (layer, _) in wanted.items())
            return
        # Layers that mix the same templates follow one another, so that the second one finds these in the cache.
        order = sorted(wanted.items(), key=lambda item: getattr(item[1][1].rule, "start", 0))
        batch = Batch(
            tuple(generation for _, (_, generation) in order),
            tuple(self._precision(layer, generation.store) for _, (layer, generation) in order),
        )
        for (key, (layer, _)), weight in zip(order, self._passage.make(batch), strict=True):
            made[key] = self._checked(layer, weight)

    def _naive(self, layer: str) -> Tensor:
        with in_full_precision():
            return self._checked(layer, self._allocation.weight(layer))

    def _checked(self, layer: str, weight: Tensor) -> Tensor:
        expected = self._layers[layer].shape
        if tuple(weight.shape) != expected:
            raise RuntimeError(
                f"the allocation made a weight of shape {tuple(weight.shape)} for {layer}, which needs {expected}"
            )
        if self._gradients is not None and weight.requires_grad:
            weight.register_hook(self._summing(layer, self._gradients))  # type: ignore[no-untyped-call]
        return weight

    def _precision(self, layer: str, store: Tensor) -> torch.dtype:
        """The type that autocast would cast the weight to; it is cast once, when it is made."""
        cast = torch.is_autocast_enabled(store.device.type) and self._layers[layer].kind is not Kind.RECURRENT
        return torch.get_autocast_dtype(store.device.type) if cast else store.dtype

    @staticmethod
    def _summing(layer: str, sums: dict[str, Tensor]) -> Callable[[Tensor], None]:
        def add(gradient: Tensor) -> None:
            gradient = gradient.detach().to(torch.promote_types(gradient.dtype, torch.float32))
            sums[layer] = sums[layer] + gradient if layer in sums else gradient.clone()

        return add


def _batches(layers: Iterable[Layer], most: int) -> dict[str, tuple[str, ...]]:
    """For each layer the layers that are made together with it: neighbours in network order, up to `most` scalars."""
    batches: list[list[str]] = []
    room = 0
    for layer in layers:
        if layer.size > room:
            batches.append([])
            room = most
        batches[-1].append(layer.name)
        room -= layer.size
    return {layer: tuple(batch) for batch in batches for layer in batch}


def take_weights_out(module: nn.Module, names: set[str], source: WeightSource) -> None:
    """Take the weights of the layers called `names` out of a module, in place; from now on `source` hands them out."""
    by_owner: dict[nn.Module, dict[str, str]] = defaultdict(dict)
    for site in find_sites(module):
        if site.layer in names:
            by_owner[site.owner][site.attribute] = site.layer
    for owner, layers in by_owner.items():
        for attribute in layers:
            delattr(owner, attribute)
        if isinstance(owner, nn.RNNBase):
            forget_listed_weights(owner)
        base: Any = type(owner)
        owner.__class__ = _generated_class(base, tuple(layers))
        owner.__dict__["_generated_layers"] = layers
        owner.__dict__["_weight_source"] = source
        _caller(module, owner).register_forward_hook(_leaving(source, tuple(layers.values())))


def _caller(module: nn.Module, owner: nn.Module) -> nn.Module:
    """The module that uses the owner's weights: attention reads those of its output projection without calling it."""
    for parent in module.modules():
        if isinstance(parent, nn.MultiheadAttention) and parent.out_proj is owner:
            return parent
    return owner


def _leaving(source: WeightSource, layers: tuple[str, ...]) -> Callable[..., None]:
    def leave(*_: object) -> None:
        source.leave(layers)

    return leave


@cache
def _generated_class(base: Any, attributes: tuple[str, ...]) -> type[nn.Module]:
    """A subclass of `base` whose `attributes` are properties that ask the network's source."""

    def ask(attribute: str) -> property:
        return property(lambda self: self._weight_source.weight(self._generated_layers[attribute]))

    body: dict[str, Any] = {attribute: ask(attribute) for attribute in attributes}
    if issubclass(base, nn.RNNBase):
        body |= unlisted_weights()
    return type(base.__name__, (base,), body)
