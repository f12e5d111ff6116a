"""One test for each private interface of torch that the package relies on: it fails when a release changes it."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import optimizer

from npas_bench import torch_internals
from npas_bench.torch_internals import (
    INNER_MODULES,
    TorchDispatchMode,
    backward_pass,
    chosen_default_device,
    depends_on_nodes_before,
    enclosing_hooks,
    float32_precisions,
    forget_listed_weights,
    hooks_on_everything,
    is_attention_output,
    is_normalisation,
    is_view,
    leave_hooks,
    leave_modes,
    modes_entered,
    newest_node,
    replaced_kernels,
    set_float32_precisions,
    shrink_bilinearly,
    storage_holders,
    storage_key,
    stretch_bilinearly,
    transforms_are_active,
    unlisted_weights,
    version,
)


def test_every_interface_is_tested_here():
    tested = {name for name in globals() if name in torch_internals.__all__}
    assert tested == set(torch_internals.__all__)


def test_the_inner_modules_are_loaded_and_hold_what_public_functions_call():
    assert set(INNER_MODULES) <= sys.modules.keys()
    assert functional.cross_entropy.__globals__["torch"]._C._nn is sys.modules["torch._C._nn"]


def test_transforms_are_active_inside_them_alone():
    seen = []

    def square(x):
        seen.append(transforms_are_active())
        return x.square().sum()

    torch.func.grad(square)(torch.ones(2))
    torch.func.vmap(square)(torch.ones(2, 2))
    assert seen == [True, True]
    square(torch.ones(2, requires_grad=True)).backward()
    assert seen[-1] is False


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_storage_key_tells_storages_apart_and_views_together(device):
    tensor, other = torch.empty(4, device=device), torch.empty(4, device=device)
    assert storage_key(tensor) == storage_key(tensor[2:]) == storage_key(tensor.detach())
    assert storage_key(tensor) != storage_key(other)


def test_holders_of_a_storage_are_counted_with_views_and_graphs():
    tensor = torch.ones(4)
    alone = storage_holders(tensor)
    view = tensor[1:]
    assert storage_holders(tensor) == alone + 1
    # Only the graph holds on to the view from here on.
    product = torch.ones(3, requires_grad=True) * view
    del view
    assert storage_holders(tensor) == alone + 1
    product.sum().backward()
    assert storage_holders(tensor) == alone


def test_every_backward_pass_has_a_number_of_its_own():
    numbers = []
    for _ in range(2):
        x = torch.ones(1, requires_grad=True)
        y = x * 2
        y.register_hook(lambda _: numbers.append(backward_pass()))
        (y * 3).backward()
    assert backward_pass() == -1
    assert numbers[0] >= 0 and numbers[1] >= 0 and numbers[0] != numbers[1]


def test_the_version_rises_with_every_change_in_place():
    tensor = torch.zeros(3)
    before = version(tensor)
    tensor.add_(1)
    tensor[1:].mul_(2)
    assert version(tensor) == before + 2
    assert version(tensor.detach()) == version(tensor)


def test_a_graph_tells_whether_it_began_before_a_moment():
    leaf = torch.ones(2, requires_grad=True)
    before = leaf * 2
    moment = newest_node()
    assert newest_node() > moment
    after = leaf.exp() + 1
    assert depends_on_nodes_before(before, moment)
    assert not depends_on_nodes_before(after, moment)
    assert depends_on_nodes_before(after * before, moment)
    assert not depends_on_nodes_before(after * before.detach(), moment)


def test_a_view_is_told_from_a_tensor_of_its_own():
    tensor = torch.zeros(3, requires_grad=True)
    assert is_view(tensor.view(3, 1))
    assert not is_view(tensor) and not is_view(tensor * 2)
    fresh = torch.empty(0).set_(tensor.detach().untyped_storage(), 0, (3,), (1,))
    assert not is_view(fresh)


def test_the_enclosing_hooks_are_the_innermost_in_force():
    assert enclosing_hooks() is None

    def outer(tensor):
        return tensor

    def inner(tensor):
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(outer, outer):
        assert enclosing_hooks() == (outer, outer)
        with torch.autograd.graph.saved_tensors_hooks(inner, outer):
            assert enclosing_hooks() == (inner, outer)
    assert enclosing_hooks() is None


def test_stretching_and_shrinking_are_interpolation_and_its_gradient():
    image = torch.randn(1, 1, 3, 5, dtype=torch.float64, requires_grad=True)
    expected = functional.interpolate(image, size=(7, 11), mode="bilinear", align_corners=False)
    out = torch.empty(1, 1, 7, 11, dtype=torch.float64)
    stretch_bilinearly(image.detach(), out)
    assert torch.equal(out, expected)
    gradient = torch.randn_like(expected)
    expected.backward(gradient)
    assert torch.equal(shrink_bilinearly(gradient, image.shape), image.grad)


def test_norms_with_running_statistics_are_known():
    norms = [nn.BatchNorm1d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2), nn.InstanceNorm2d(2)]
    assert all(map(is_normalisation, norms))
    assert not any(map(is_normalisation, [nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.Linear(2, 2)]))
    assert {name for name, _ in nn.BatchNorm2d(2).named_buffers()} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_the_output_projection_of_attention_is_told_from_a_linear_layer():
    assert is_attention_output(nn.MultiheadAttention(4, 2).out_proj)
    assert not is_attention_output(nn.Linear(4, 4))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_recurrent_layer_without_a_list_reads_its_attributes_each_time(kind):
    torch.manual_seed(0)
    plain, ours = kind(3, 4, bidirectional=True), kind(3, 4, bidirectional=True)
    ours.load_state_dict(plain.state_dict())
    forget_listed_weights(ours)
    ours.__class__ = type(kind.__name__, (kind,), unlisted_weights())
    x = torch.randn(5, 2, 3)
    assert torch.equal(plain(x)[0], ours(x)[0])
    ours.flatten_parameters()
    ours.double().float()
    with torch.no_grad():
        plain.weight_hh_l0.mul_(2)
    ours.weight_hh_l0 = nn.Parameter(plain.weight_hh_l0.detach().clone())
    assert torch.equal(plain(x)[0], ours(x)[0])


def test_a_dispatch_mode_sees_every_operation():
    class Recorder(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    with Recorder() as recorder:
        torch.ones(2, device="meta") @ torch.ones(2, device="meta")
    assert "aten.dot.default" in recorder.names


def test_modes_that_were_entered_are_counted_and_left():
    before = modes_entered()
    for mode in (torch.device("meta"), TorchDispatchMode(), torch.autocast("cpu", torch.bfloat16)):
        mode.__enter__()
    # Autocast is no mode of functions; it is left by its own switch.
    assert [now - then for now, then in zip(modes_entered(), before, strict=True)] == [1, 1, 1]
    leave_modes(before)
    torch.set_autocast_enabled("cpu", False)
    assert modes_entered() == before


def test_hooks_on_saved_tensors_are_left_down_to_those_that_were_there():
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        outer = enclosing_hooks()
        for _ in range(2):
            torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x).__enter__()
        leave_hooks(outer)
        assert enclosing_hooks() == outer
    assert enclosing_hooks() is None


def test_the_default_device_is_told_only_where_one_was_chosen():
    assert chosen_default_device() is None
    torch.set_default_device("meta")
    try:
        assert chosen_default_device() == torch.device("meta")
    finally:
        torch.set_default_device(None)
    assert chosen_default_device() is None


def test_hooks_on_every_module_and_optimiser_are_found():
    handles = [
        nn.modules.module.register_module_forward_hook(lambda *_: None),
        optimizer.register_optimizer_step_post_hook(lambda *_: None),
    ]
    held = sum(len(hooks) for hooks in hooks_on_everything().values())
    for handle in handles:
        handle.remove()
    assert held == 2
    assert not any(hooks_on_everything().values())


def test_precisions_of_float32_are_told_and_set():
    before = float32_precisions()
    torch.set_float32_matmul_precision("high")
    assert float32_precisions() != before
    torch.set_float32_matmul_precision("highest")
    set_float32_precisions(before)
    assert float32_precisions() == before


def test_kernels_that_python_code_registers_are_told():
    library = torch.library.Library("aten", "IMPL")
    library.impl("sinh", lambda x: x, "AutogradCUDA")
    assert "aten/sinh/AutogradCUDA" in replaced_kernels()
    library._destroy()
    assert "aten/sinh/AutogradCUDA" not in replaced_kernels()
