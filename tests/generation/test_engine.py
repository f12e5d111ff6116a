"""The engine against ordinary autograd, and what autograd's users may expect of it."""

import gc

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from npas_bench import plugins
from npas_bench.allocation import Allocation
from npas_bench.architectures import ImageSignature
from npas_bench.generation.engine import Passage
from npas_bench.layers import find_layers
from npas_bench.methods import Problem
from npas_bench.network import GeneratedNetwork
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import DENSELY_CONNECTED, GRU, LSTM, MLP, TRANSFORMER, ExampleArchitecture

IMAGES = ImageSignature((3, 8, 8), 5)
WRN = ExampleArchitecture("wrn-10-2", lambda: plugins.architecture("wrn-10-2").build(IMAGES), (3, 8, 8))
ARCHITECTURES = [WRN, MLP, DENSELY_CONNECTED, GRU, LSTM, TRANSFORMER]
METHODS = {
    "ssn": {},
    "ssn emb inter": {"combine": "emb", "upsample": "inter"},
    "ssn avg repeat": {"combine": "avg", "upsample": "repeat"},
    "ssn groups": {"mapping": "random", "groups": 2},
    "superweights": {"clustering": "single"},
    "superweights soft": {"clustering": "single", "refinement": "all"},
    "swrn": {},
    "hypernetwork": {},
    "hashednets": {},
}
CASES = [
    (method, architecture, share)
    for method in METHODS
    for architecture in ARCHITECTURES
    for share in (0.2, 1.0)
    if method != "swrn" or (architecture in (MLP, TRANSFORMER) and share == 1.0)
]


def build(method, architecture, share, regenerate=False):
    problem = Problem(architecture, architecture.signature, int(share * architecture.size(architecture.signature)))
    with seeded("engine"):
        network = plugins.methods.load(method.split()[0])(METHODS[method]).build(problem).double()
    network.regenerate_in_backward = regenerate
    return network


class Naive(Allocation):
    """The same weights in ordinary differentiable operations, the engine left out."""

    def __init__(self, allocation):
        super().__init__()
        self.inner = allocation

    def weight(self, layer):
        return self.inner.weight(layer)

    def role(self, parameter):
        return self.inner.role(parameter.removeprefix("inner."))


def naive(network, architecture):
    module = architecture.make().double()
    module.load_state_dict(network.architecture.state_dict(), strict=False)
    return GeneratedNetwork(module, network.layers, Naive(network.allocation))


def example(architecture, count=3):
    return torch.randn(count, *architecture.input_shape, generator=torch.Generator().manual_seed(0)).double()


def gradients(network, x):
    network.zero_grad()
    network(x).square().sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize(("method", "architecture", "share"), CASES, ids=lambda v: getattr(v, "name", str(v)))
@pytest.mark.parametrize("regenerate", [False, True], ids=["kept", "regenerated"])
def test_gradients_are_those_of_ordinary_autograd(method, architecture, share, regenerate):
    network, x = build(method, architecture, share, regenerate), example(architecture)
    expected = gradients(naive(network, architecture), x)
    found = gradients(network, x)
    assert len(found) == len(expected)
    for name, gradient in found.items():
        other = expected[name.replace("allocation.", "allocation.inner.")]
        scale = other.abs().max().clamp_min(1e-30)
        assert ((gradient - other).abs().max() / scale) < 1e-10, name


@pytest.mark.parametrize("regenerate", [False, True], ids=["kept", "regenerated"])
def test_stores_see_ordinary_gradients(regenerate):
    network, x = build("ssn", WRN, 0.5, regenerate), example(WRN)
    store = network.allocation.groups[0].store
    expected = gradients(network, x)["allocation.groups.0.store"]
    loss = network(x).square().sum()
    seen = []
    handle = store.register_hook(lambda g: seen.append(g.clone()))
    (asked,) = torch.autograd.grad(loss, store, retain_graph=True)
    torch.testing.assert_close(asked, expected)
    # A pass that wants other gradients must leave nothing behind for the next.
    torch.autograd.grad(loss, list(network.allocation.groups[0].coefficients.values()), retain_graph=True)
    network.zero_grad()
    loss.backward(retain_graph=True)
    torch.testing.assert_close(store.grad, expected)
    loss.backward()
    torch.testing.assert_close(store.grad, 2 * expected)
    handle.remove()
    assert len(seen) == 3
    kept = store.grad
    network.zero_grad()
    (network(x).square().sum() + network(x).square().sum()).backward()
    torch.testing.assert_close(store.grad, 2 * expected)
    torch.testing.assert_close(kept, 2 * expected)  # nobody else's memory was written to


def test_a_store_without_gradient_stays_without():
    network, x = build("ssn", WRN, 0.5), example(WRN)
    network.allocation.groups[0].store.requires_grad_(False)
    network(x).sum().backward()
    assert network.allocation.groups[0].store.grad is None
    assert all(p.grad is not None for p in network.allocation.groups[0].coefficients.values())


@pytest.mark.parametrize("method", ["ssn", "ssn emb inter", "superweights"])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_regenerating_keeps_no_generated_weight(method, architecture):
    def saved_bytes(network):
        own = {p.untyped_storage().data_ptr() for p in network.parameters()}
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            result = network(example(architecture)).square().sum()
        held = sum(size for place, size in storages.items() if place not in own)
        result.backward()
        return held

    network = build(method, architecture, 0.4)
    plain = GeneratedNetwork(architecture.make().double(), [], Naive(network.allocation))
    kept = saved_bytes(network)
    network.regenerate_in_backward = True
    regenerated = saved_bytes(network)
    generated = sum(layer.size for layer in network.layers) * 8
    assert kept > regenerated
    assert regenerated <= 1.02 * saved_bytes(plain) + 0.02 * generated + 2_000


def test_regenerating_from_something_that_changed_is_refused():
    network = build("ssn", WRN, 0.5, regenerate=True)
    loss = network(example(WRN)).sum()
    with torch.no_grad():
        network.allocation.groups[0].store.mul_(2)
    with pytest.raises(RuntimeError, match="changed between the forward and the backward pass"):
        loss.backward()


def test_an_activation_changed_in_place_is_noticed_as_without_regeneration():
    network = build("ssn", MLP, 0.5, regenerate=True)
    hidden = []
    network.architecture[1].register_forward_hook(lambda m, i, out: hidden.append(out))
    loss = network(example(MLP)).square().sum()
    hidden[0].detach().add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("regenerate", [False, True], ids=["kept", "regenerated"])
def test_under_autocast_weights_are_cast_once_and_gradients_stay_close(regenerate):
    network = build("ssn", WRN, 0.5, regenerate).float()
    x = example(WRN).float()
    exact = gradients(network, x)["allocation.groups.0.store"]
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(x).float().square().sum()
        loss.backward()
    rough = network.allocation.groups[0].store.grad
    assert rough.dtype == torch.float32
    cosine = nn.functional.cosine_similarity(rough, exact, 0)
    assert cosine > 0.98


def test_a_weight_made_again_goes_when_its_layers_backward_is_done():
    network = build("ssn", WRN, 0.5, regenerate=True)
    loss = network(example(WRN)).square().sum()
    made = []
    (passage,) = (o for o in gc.get_objects() if type(o) is Passage)
    handles = [p.register_hook(lambda _: made.append(len(passage._again))) for p in network.architecture.parameters()]
    loss.backward(retain_graph=True)
    for handle in handles:
        handle.remove()
    assert max(made) > 0
    assert not passage._again


def test_nothing_is_left_of_a_pass_that_failed_and_graphs_are_freed():
    network = build("ssn", WRN, 0.5, regenerate=True)
    with pytest.raises(RuntimeError):
        network(torch.randn(2, 7, 8, 8).double())
    gc.collect()
    gc.disable()  # what only the collector of cycles would free is left
    try:
        before = sum(type(o) is torch.Tensor for o in gc.get_objects())
        for _ in range(3):
            network(example(WRN)).sum().backward()
        after = sum(type(o) is torch.Tensor for o in gc.get_objects())
    finally:
        gc.enable()
    assert after - before <= len(list(network.parameters()))  # the gradients


def test_function_transforms_run_on_ordinary_operations():
    network, x = build("ssn", MLP, 0.5), example(MLP)
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(values):
        return torch.func.functional_call(network, values, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters)
    for name, gradient in gradients(network, x).items():
        torch.testing.assert_close(found[name], gradient)


def test_a_module_that_runs_twice_has_its_weight_made_once_from_the_second_pass_on():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 6, bias=False)

        def forward(self, x):
            return self.inner(self.inner(x).relu())

    class Counting(Naive):
        made = 0

        def weight(self, layer):
            self.made += 1
            return super().weight(layer)

    class Store(Allocation):
        def __init__(self):
            super().__init__()
            self.store = nn.Parameter(torch.randn(6, 6))

        def weight(self, layer):
            return self.store * 1

    module = Twice()
    counting = Counting(Store())
    network = GeneratedNetwork(module, find_layers(module), counting)
    with torch.no_grad():
        network(torch.randn(2, 6))
        first = counting.made
        network(torch.randn(2, 6))
    assert (first, counting.made - first) == (2, 1)


class _Chosen(nn.Module):
    """Runs only some of its layers."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.chosen = (0, 2)

    def forward(self, x):
        for index in self.chosen:
            x = torch.relu(self.branches[index](x))
        return x


CHOSEN = ExampleArchitecture("chosen", _Chosen, (6,))


@pytest.mark.parametrize("regenerate", [False, True], ids=["kept", "regenerated"])
def test_layers_that_do_not_run_have_no_part_in_the_gradients(regenerate):
    network, x = build("ssn", CHOSEN, 1.0, regenerate), example(CHOSEN)
    own = naive(network, CHOSEN)
    for chosen in ((0, 2), (3,), (1, 1), (0, 1, 2, 3)):
        for module in (network, own):
            module.architecture.chosen = chosen
        for module in (network, own):
            module.zero_grad()
            module(x).square().sum().backward()
        for name, p in own.named_parameters():
            found = network.get_parameter(name.replace("inner.", "")).grad
            expected = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(torch.zeros_like(p) if found is None else found, expected)
