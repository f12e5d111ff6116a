"""Everything in this package that relies on interfaces of torch that are not public.

Each has a test in `tests/test_torch_internals.py`, which fails when a release of torch changes it. The tests also tell
what to look at first when the package is tried with another release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.optim import optimizer as _optimizer
from torch.overrides import _pop_mode
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "INNER_MODULES",
    "TorchDispatchMode",
    "backward_pass",
    "chosen_default_device",
    "depends_on_nodes_before",
    "enclosing_hooks",
    "float32_precisions",
    "forget_listed_weights",
    "hooks_on_everything",
    "is_attention_output",
    "is_normalisation",
    "is_view",
    "leave_hooks",
    "leave_modes",
    "modes_entered",
    "newest_node",
    "replaced_kernels",
    "set_float32_precisions",
    "shrink_bilinearly",
    "storage_holders",
    "storage_key",
    "stretch_bilinearly",
    "transforms_are_active",
    "unlisted_weights",
    "version",
]


# Modules from which the public functions of torch take what they call.
INNER_MODULES = (
    *("torch._tensor", "torch._jit_internal", "torch._VF", "torch._C", "torch._C._nn", "torch._C._fft"),
    *("torch._C._linalg", "torch._C._special", "torch._C._autograd"),
)


def transforms_are_active() -> bool:
    """Tell whether a transform of `torch.func` (grad, vmap, jvp, ...) is running around the caller."""
    return bool(torch._C._are_functorch_transforms_active())


def storage_key(tensor: Tensor) -> int:
    """A number that tensors have in common exactly if they share their storage, on the meta device too.

    It is valid as long as the storage lives: meta tensors have no address that would tell them apart.
    """
    return int(tensor.untyped_storage()._cdata)


def storage_holders(tensor: Tensor) -> int:
    """How many tensors, storage objects and graph nodes hold the tensor's storage."""
    return int(torch._C._storage_Use_Count(storage_key(tensor)))


def backward_pass() -> int:
    """The number of the backward pass that is running, -1 outside of one."""
    return int(torch._C._current_graph_task_id())


def version(tensor: Tensor) -> int:
    """How often the tensor, or a view of it, was changed in place."""
    return tensor._version


# The most nodes of a graph that are looked at.
_MOST_NODES = 100_000


def newest_node() -> int:
    """The number of the newest node of this thread's autograd graphs; later nodes have larger ones."""
    with torch.enable_grad():
        node = torch.zeros((), device="cpu", requires_grad=True).clone().grad_fn
    return _number(node)


def depends_on_nodes_before(tensor: Tensor, number: int) -> bool:
    """Tell whether the graph of a tensor has a node, except for leaves, that is no newer than that of a number.

    Of a graph of very many nodes, only some are looked at.
    """
    waiting, seen = [tensor.grad_fn], {tensor.grad_fn}
    while waiting and len(seen) < _MOST_NODES:
        node = waiting.pop()
        if node is None:
            continue
        if _number(node) <= number:
            return True
        inner = {after for after, _ in node.next_functions} - seen
        seen |= inner
        waiting.extend(inner)
    return False


def _number(node: Any) -> int:
    return int(node._sequence_nr())


def is_view(tensor: Tensor) -> bool:
    """Tell whether autograd takes the tensor for a view of another one."""
    return tensor._is_view()


def enclosing_hooks() -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]] | None:
    """The innermost saved-tensor hooks that are in force, `pack` and `unpack`; None without any."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return None if hooks is None else (hooks[0], hooks[1])


def modes_entered() -> tuple[int, int, int]:
    """How many modes of functions, modes of dispatch and levels of autocast this thread has entered and not left."""
    levels = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack(), levels


def leave_modes(before: tuple[int, int, int]) -> None:
    """Leave the modes that were entered since `modes_entered` gave `before`."""
    functions, dispatches, levels = (now - then for now, then in zip(modes_entered(), before, strict=True))
    for _ in range(functions):
        _pop_mode()  # type: ignore[no-untyped-call]
    for _ in range(dispatches):
        torch._C._pop_torch_dispatch_stack(None)
    for _ in range(levels):
        torch.autocast_decrement_nesting()
    if levels > 0:
        # Within autocast, casts of weights are kept, and the weights of the next network may have the same addresses.
        torch.clear_autocast_cache()


def leave_hooks(before: tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]] | None) -> None:
    """Leave the saved-tensor hooks that were entered since `enclosing_hooks` gave `before`."""
    while enclosing_hooks() not in (None, before):
        torch._C._autograd._pop_saved_tensors_default_hooks()


def chosen_default_device() -> torch.device | None:
    """The device that was made the default one for new tensors; None if none was."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def hooks_on_everything() -> dict[str, dict[Any, Any]]:
    """The hooks that are called for every module or every optimiser of the process, as torch keeps them."""
    return {
        f"{home.__name__}.{name.removeprefix('_')}": value
        for home in (_module, _optimizer)
        for name, value in vars(home).items()
        if name.startswith("_global_") and isinstance(value, dict)
    }


# Those that others follow come first.
_PRECISIONS = (
    *(("generic", "all"), ("cuda", "all"), ("mkldnn", "all")),
    *((backend, operation) for backend in ("cuda", "mkldnn") for operation in ("matmul", "conv", "rnn")),
)


def float32_precisions() -> tuple[str, ...]:
    """The precisions that float32 is computed in, for every backend and kind of operation that has one of its own."""
    return tuple(torch._C._get_fp32_precision_getter(*place) for place in _PRECISIONS)


def set_float32_precisions(values: tuple[str, ...]) -> None:
    """Set the precisions that `float32_precisions` gave."""
    for place, value in zip(_PRECISIONS, values, strict=True):
        torch._C._set_fp32_precision_setter(*place, value)


def replaced_kernels() -> frozenset[str]:
    """The operators of torch, with the devices, for which Python code has registered a kernel that computes."""
    # Torch registers kernels for the meta device itself, when parts of it are first used.
    return frozenset(key for key in torch.library._impls if key.startswith("aten/") and not key.endswith("/Meta"))


def stretch_bilinearly(image: Tensor, out: Tensor) -> None:
    """Interpolate an image (n, channels, height, width) bilinearly, with half-pixel centres, to the size of `out`.

    It is what `torch.nn.functional.interpolate` computes, written into memory that is there already.
    """
    torch.ops.aten.upsample_bilinear2d.out(image, list(out.shape[2:]), False, out=out)


def shrink_bilinearly(gradient: Tensor, shape: Sequence[int]) -> Tensor:
    """The gradient of an image of `shape`, from the gradient of what `stretch_bilinearly` made of it."""
    shrunk: Tensor = torch.ops.aten.upsample_bilinear2d_backward(gradient, list(gradient.shape[2:]), list(shape), False)
    return shrunk


def is_normalisation(module: nn.Module) -> bool:
    """Tell whether a module is a batch norm or an instance norm of torch's, which hold running statistics."""
    return isinstance(module, _NormBase)


def is_attention_output(module: nn.Module) -> bool:
    """Tell whether a module is the output projection of torch's multi-head attention."""
    return isinstance(module, NonDynamicallyQuantizableLinear)


def unlisted_weights() -> dict[str, Any]:
    """The members of a subclass of a recurrent layer that reads its weights from its attributes each time.

    Recurrent layers read a list that they fill when they are built and after every move to another device, and pack
    it for cuDNN: weights that are made anew in every forward pass are in neither.
    """
    return {
        "_flat_weights": property(
            lambda self: [getattr(self, name) for name in self._flat_weights_names], lambda self, value: None
        ),
        "_apply": nn.Module._apply,
        "flatten_parameters": lambda self: None,
    }


def forget_listed_weights(module: nn.RNNBase) -> None:
    """Drop the list of weights that a recurrent layer has filled."""
    module.__dict__.pop("_flat_weights", None)
