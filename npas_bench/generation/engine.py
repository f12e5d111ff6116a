"""The engine: it makes weights as layers are reached, and gathers their gradients in one buffer per store.

A forward pass begins with a root Function that hands an empty token to the Functions that make weights. Each of these
makes a batch of weights: a large one alone, small ones together. In the backward pass each adds to the buffers of its
stores. The root's backward runs last and returns the buffers as the stores' gradients, so that hooks, accumulation,
clipping and gradient scalers see ordinary gradients.

With regeneration no generated weight is kept for the backward pass: where an operation saves a weight, the engine
saves a note of how to make it again in its place.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

from npas_bench.torch_internals import (
    backward_pass,
    enclosing_hooks,
    is_view,
    storage_holders,
    transforms_are_active,
    version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from npas_bench.generation.rules import Gradients, Rule

_NOTHING_TO_DO = nullcontext()

# Memory for at least so many scalars is kept for the next step.
_WORTH_KEEPING = 1 << 14


class Generation(NamedTuple):
    """How one weight is made.

    Attributes:
        rule: the rule that makes it.
        store: the parameter that it is made from, 1-d.
        inputs: what else the rule takes.
        shared: weights with the same value here, unless it is None, are equal and made once for all their layers.
    """

    rule: Rule
    store: Tensor
    inputs: tuple[Tensor, ...] = ()
    shared: object = None

    def make(self) -> Tensor:
        """The weight, made in ordinary differentiable operations."""
        return self.rule.make(self.store, *self.inputs)

    def build(self, buffers: Buffers) -> Tensor:
        """The weight, made without a graph in the fastest way."""
        store = self.store.detach()
        if not self.rule.computes:
            return _untracked(self.rule.build(store, self.inputs))
        out = buffers.empty(self.rule.shape, store)
        made = self.rule.build(store, self.inputs, out.view(-1))
        return out if made.data_ptr() == out.data_ptr() else _untracked(made)


class Replaced(NamedTuple):
    """A parameter that gave way to another one during training.

    Attributes:
        old: the parameter that was trained so far.
        new: the parameter that takes its place.
        rows: the rows of `old` that the rows of `new` go on from: row i of `new` from row `rows[i]` of `old`.
    """

    old: nn.Parameter
    new: nn.Parameter
    rows: list[int]


def in_full_precision() -> AbstractContextManager[object]:
    """A context with autocast switched off, under which templates would be mixed in bf16, and their gradients too."""
    on = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
    if not on:
        return _NOTHING_TO_DO
    stack = ExitStack()
    for device in on:
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack


def functions_can_run() -> bool:
    """Tell whether autograd Functions with side effects may be used: not while functions are traced or transformed."""
    return not (torch.compiler.is_compiling() or transforms_are_active())


class Buffers:
    """Memory for weights and stores' gradients that is kept from step to step.

    On a CPU, getting fresh memory of a layer's size from the system takes longer than making the weight. A piece of
    memory is handed out again when neither a tensor nor a graph holds it any more.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[tuple[int, ...], torch.dtype], list[tuple[Tensor, int]]] = defaultdict(list)

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """An uninitialised tensor of the given shape, of the type and on the device of `like`."""
        if like.device.type != "cpu" or math.prod(shape) < _WORTH_KEEPING:
            return like.new_empty(shape)
        kept = self._kept[shape, like.dtype]
        for tensor, alone in kept:
            if storage_holders(tensor) == alone:
                break
        else:
            tensor = torch.empty(shape, dtype=like.dtype)
            kept.append((tensor, storage_holders(tensor)))
        # It is a new tensor on the same memory, because autograd takes over a gradient only if nobody else holds it.
        return torch.empty(0, dtype=like.dtype).set_(tensor.untyped_storage(), 0, shape, tensor.stride())


class _Gatherer:
    """Gathers the stores' gradients in one backward pass."""

    def __init__(self, stores: Sequence[Tensor], buffers: Buffers) -> None:
        self._stores = {id(store): store for store in stores}
        self._buffers = buffers
        self._task: int | None = None
        self._gathered: dict[int, Tensor] = {}

    def into(self, store: Tensor) -> Tensor | None:
        # A backward pass that asks for other gradients than the stores' ends without the root. What it gathered must
        # not be added to the gradients of the next one.
        task = backward_pass()
        if task != self._task:
            self._task, self._gathered = task, {}
        if id(store) not in self._stores:
            return None
        if id(store) not in self._gathered:
            self._gathered[id(store)] = self._buffers.empty(tuple(store.shape), store).zero_()
        return self._gathered[id(store)]

    def take(self) -> tuple[Tensor | None, ...]:
        gathered, self._gathered = self._gathered, {}
        return tuple(gathered.get(key) for key in self._stores)


class _Root(torch.autograd.Function):
    """Makes the token that every weight's Function depends on, so that its own backward runs after all of theirs."""

    @staticmethod
    @override
    def forward(ctx: Any, gatherer: _Gatherer, *stores: Tensor) -> Tensor:
        ctx.gatherer = gatherer
        return stores[0].new_empty(0)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, token: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.gatherer.take())


class Batch(NamedTuple):
    """Weights that are made together.

    Attributes:
        generations: how each weight is made.
        dtypes: type of each weight.
    """

    generations: tuple[Generation, ...]
    dtypes: tuple[torch.dtype, ...]

    def build(self, buffers: Buffers) -> tuple[Tensor, ...]:
        """The weights, made without a graph."""
        return tuple(g.build(buffers).to(dtype) for g, dtype in zip(self.generations, self.dtypes, strict=True))


class _Make(torch.autograd.Function):
    """Makes a batch of weights; the backward adds to the stores' gradients in place."""

    @staticmethod
    @override
    def forward(
        ctx: Any,
        batch: Batch,
        buffers: Buffers,
        gatherer: _Gatherer,
        done: Callable[[], None],
        token: Tensor,
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.batch, ctx.gatherer, ctx.done = batch, gatherer, done
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(generation.store for generation in batch.generations), *inputs)
        return batch.build(buffers)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        ctx.done()
        generations: tuple[Generation, ...] = ctx.batch.generations
        saved = ctx.saved_tensors
        used = len(generations)
        found: Gradients = ()
        with in_full_precision():
            for generation, store, gradient in zip(generations, saved, gradients, strict=False):
                inputs = saved[used : used + len(generation.inputs)]
                used += len(inputs)
                if gradient is None:
                    found += (None,) * len(inputs)
                    continue
                into = ctx.gatherer.into(generation.store)
                found += generation.rule.pull(gradient.to(store.dtype), store, inputs, into)
        return (None, None, None, None, None, *found)


def _untracked(weight: Tensor) -> Tensor:
    """The same memory as a tensor of its own, since the output of a Function must not be a view."""
    if not is_view(weight):
        return weight
    fresh = torch.empty(0, dtype=weight.dtype, device=weight.device)
    return fresh.set_(weight.untyped_storage(), weight.storage_offset(), weight.shape, weight.stride())


class Note(NamedTuple):
    """What is saved for the backward pass in place of a generated weight: a note of how to make it again.

    Attributes:
        key: number of the weight's batch within its forward pass.
        batch: the batch that the weight is made in.
        number: number of the weight in the batch, from 0.
        versions: versions of the tensors that the weight was made from.
        size: size of the tensor that was saved, which is the weight or a view of it.
        stride: strides of that tensor.
        offset: offset of that tensor in its storage.
    """

    key: int
    batch: Batch
    number: int
    versions: tuple[int, ...]
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


class Kept(NamedTuple):
    """A tensor that is saved for the backward pass as it is.

    Attributes:
        tensor: the tensor, or what the enclosing hooks made of it.
        version: version of the tensor when it was saved.
        unpack: the enclosing hooks' way back to the tensor, if there are such hooks.
    """

    tensor: Any
    version: int
    unpack: Callable[[Any], Tensor] | None


class Passage:
    """One forward pass, and the backward passes through it.

    Args:
        stores: the stores that the allocation's weights are made from.
        buffers: the network's memory for weights and gradients.
        regenerate: whether weights are made again in the backward pass instead of being kept for it.
    """

    def __init__(self, stores: Iterable[Tensor], buffers: Buffers, *, regenerate: bool) -> None:
        trained = [store for store in stores if store.requires_grad]
        self._buffers = buffers
        self._gatherer = _Gatherer(trained, buffers)
        self._token = _Root.apply(self._gatherer, *trained) if trained else torch.empty(0)  # type: ignore[no-untyped-call]
        self._regenerate = regenerate
        self._again: dict[int, tuple[Tensor, ...]] = {}
        self._places: dict[int, tuple[int, Batch, int]] = {}
        self._count = itertools.count()
        # The hooks of this pass have to call the enclosing ones, which are out of action otherwise.
        self._outer = enclosing_hooks()

    def make(self, batch: Batch) -> tuple[Tensor, ...]:
        """Make a batch of weights, with their place in the graph."""
        key = next(self._count)

        def done() -> None:
            self._again.pop(key, None)

        inputs = [tensor for generation in batch.generations for tensor in generation.inputs]
        with in_full_precision():
            weights: tuple[Tensor, ...] = _Make.apply(  # type: ignore[no-untyped-call]
                batch, self._buffers, self._gatherer, done, self._token, *inputs
            )
        if self._regenerate:
            for index, (generation, weight) in enumerate(zip(batch.generations, weights, strict=True)):
                place = weight.untyped_storage().data_ptr()
                if place != generation.store.untyped_storage().data_ptr():
                    self._places[place] = (key, batch, index)
        return weights

    def release(self, weight: Tensor) -> None:
        """Forget where a weight lies that is about to be freed: another tensor may soon have its address."""
        self._places.pop(weight.untyped_storage().data_ptr(), None)

    def hooks(self) -> AbstractContextManager[object]:
        """A context in which operations save notes in place of generated weights, if these are to be made again."""
        if not self._regenerate:
            return nullcontext()
        return torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> Note | Kept:
        place = self._places.get(tensor.untyped_storage().data_ptr()) if tensor.layout == torch.strided else None
        if place is not None:
            key, batch, index = place
            versions = _versions(batch.generations[index])
            return Note(key, batch, index, versions, tensor.shape, tensor.stride(), int(tensor.storage_offset()))
        if self._outer is not None:
            return Kept(self._outer[0](tensor), version(tensor), self._outer[1])
        return Kept(tensor.detach(), version(tensor), None)

    def _unpack(self, saved: Note | Kept) -> Tensor:
        if isinstance(saved, Kept):
            if saved.unpack is not None:
                return saved.unpack(saved.tensor)
            if version(saved.tensor) != saved.version:
                raise RuntimeError("a tensor saved for the backward pass was changed in place in between")
            kept: Tensor = saved.tensor
            return kept
        if _versions(saved.batch.generations[saved.number]) != saved.versions:
            raise RuntimeError(
                "what a weight is generated from was changed between the forward and the backward pass, "
                "which makes the weight again"
            )
        if saved.key not in self._again:
            with torch.no_grad(), in_full_precision():
                self._again[saved.key] = saved.batch.build(self._buffers)
        return self._again[saved.key][saved.number].as_strided(saved.size, saved.stride, saved.offset)


def _versions(generation: Generation) -> tuple[int, ...]:
    return tuple(version(tensor) for tensor in (generation.store, *generation.inputs))
