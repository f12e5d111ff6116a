import pytest
import torch
from torch import nn

from npas_bench.allocation import Allocation
from npas_bench.budget import Role
from npas_bench.layers import find_layers
from npas_bench.network import GeneratedNetwork, PlainNetwork, changed_state, state_tensors
from npas_bench.testing.architectures import EXAMPLES, GRU, MLP, TRANSFORMER


class Own(Allocation):
    """Each layer reads a store of its own and counts how often it is asked."""

    def __init__(self, layers):
        super().__init__()
        self.shapes = {layer.name: layer.shape for layer in layers}
        self.keys = {layer.name: str(i) for i, layer in enumerate(layers)}
        self.stores = nn.ParameterDict({self.keys[layer.name]: torch.randn(layer.shape) for layer in layers})
        self.made = dict.fromkeys(self.shapes, 0)

    def weight(self, layer):
        self.made[layer] += 1
        return self.stores[self.keys[layer]] * 1


def generated(architecture, allocation=Own):
    module = architecture.make()
    layers = find_layers(module)
    return GeneratedNetwork(module, layers, allocation(layers))


@pytest.mark.parametrize("architecture", EXAMPLES, ids=lambda a: a.name)
def test_each_weight_is_made_once_per_forward_pass_and_gone_after_it(architecture):
    network = generated(architecture)
    network(architecture.examples(2))
    assert set(network.allocation.made.values()) == {1}
    network(architecture.examples(2))
    assert set(network.allocation.made.values()) == {2}
    assert network._source._made is None


@pytest.mark.parametrize("architecture", EXAMPLES, ids=lambda a: a.name)
def test_the_state_dict_holds_each_tensor_once_and_no_generated_weight(architecture):
    network = generated(architecture)
    state = network.state_dict()
    fixed = {f"architecture.{name}" for name, p in architecture.make().named_parameters() if p.dim() == 1}
    buffers = {f"architecture.{name}" for name, _ in architecture.make().named_buffers()}
    stores = {f"allocation.stores.{key}" for key in network.allocation.keys.values()}
    assert state.keys() == fixed | buffers | stores


@pytest.mark.parametrize("architecture", EXAMPLES, ids=lambda a: a.name)
def test_a_materialised_network_is_plain_and_computes_the_same(architecture):
    network = generated(architecture).eval()
    plain = network.materialise(architecture.make()).eval()
    x = architecture.examples(3)
    assert torch.equal(network(x), plain(x))
    assert {type(m) for m in plain.modules()} == {type(m) for m in architecture.make().modules()}


def test_a_module_with_a_buffer_that_is_not_persistent_is_materialised():
    class Positioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("positions", torch.arange(4), persistent=False)

        def forward(self, x):
            return self.linear(x) + self.positions

    module = Positioned()
    layers = find_layers(module)
    network = GeneratedNetwork(module, layers, Own(layers))
    x = torch.randn(2, 4)
    assert torch.equal(network(x), network.materialise(Positioned())(x))
    with pytest.raises(ValueError, match="not of this network's architecture"):
        network.materialise(nn.Sequential(Positioned(), nn.BatchNorm1d(4)))


def test_a_shared_weight_is_generated_for_every_module_that_uses_it():
    def make():
        module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
        module[2].weight = module[0].weight
        return module

    module = make()
    layers = find_layers(module)
    network = GeneratedNetwork(module, layers, Own(layers))
    x = torch.randn(2, 4)
    assert torch.equal(network(x), network.materialise(make())(x))
    assert network.allocation.made == {"0.weight": 2}  # once for the pass, once to materialise
    assert sum(p.numel() for p in network.parameters()) == 16


def test_gradients_reach_the_allocation_through_two_passes_before_one_backward():
    network = generated(MLP)
    x, y = MLP.examples(3), MLP.examples(3)
    (network(x).sum() + network(y).sum()).backward()
    together = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    network(x).sum().backward()
    network(y).sum().backward()
    for p, expected in zip(network.parameters(), together, strict=True):
        torch.testing.assert_close(p.grad, expected)


def test_layers_left_out_keep_their_own_weights_as_stores():
    module = MLP.make()
    first, *rest = find_layers(module)
    network = GeneratedNetwork(module, rest, Own(rest))
    assert network.roles()["architecture.0.weight"] is Role.STORE
    ledger = network.ledger(10**6)
    assert (ledger.store, ledger.fixed) == (sum(layer.size for layer in (first, *rest)), 32 * 3 + 5)
    assert ledger.reach == 1.0
    x = MLP.examples(2)
    assert torch.equal(network(x), network.materialise(MLP.make())(x))


def test_a_store_that_is_read_in_part_has_its_share_in_the_ledger():
    class Half(Own):
        def __init__(self, layers):
            super().__init__(layers)
            self.extra = nn.Parameter(torch.zeros(sum(layer.size for layer in layers)))

    assert generated(MLP, Half).ledger(10**6).reach == 0.5


class Factored(Own):
    """Each weight is its store plus a product of two factors, one of which is zero at the start."""

    def __init__(self, layers):
        super().__init__(layers)
        self.left = nn.ParameterDict({key: torch.zeros(shape[0], 1) for key, shape in self._shapes()})
        self.right = nn.ParameterDict({key: torch.randn(1, shape[1]) for key, shape in self._shapes()})

    def _shapes(self):
        return [(self.keys[layer], shape) for layer, shape in self.shapes.items()]

    def weight(self, layer):
        key = self.keys[layer]
        return super().weight(layer) + self.left[key] @ self.right[key]

    def role(self, parameter):
        return Role.STORE if parameter.startswith("stores") else Role.GENERATORS


def test_factors_that_start_at_zero_are_not_taken_for_dead_and_keep_their_values():
    network = generated(MLP, Factored)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    assert network.ledger(10**6).reach == 1.0
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())


@pytest.mark.parametrize("role", [Role.COEFFICIENTS, Role.MASKS, Role.GENERATORS, Role.FIXED])
def test_a_parameter_of_any_role_that_no_weight_depends_on_is_dead(role):
    class Adorned(Own):
        def __init__(self, layers):
            super().__init__(layers)
            self.unread = nn.Parameter(torch.ones(sum(layer.size for layer in layers)))
            self.alone = nn.Parameter(torch.ones(len(layers)))

        def weight(self, layer):
            # A softmax over one coefficient is 1, whatever the coefficient.
            return super().weight(layer) * self.alone[:1].softmax(0) + 0 * self.unread[0]

        def role(self, parameter):
            return Role.STORE if parameter.startswith("stores") else role

    stores = sum(layer.size for layer in MLP.layers(MLP.signature))
    assert generated(MLP, Adorned).reach() == stores / (2 * stores + 4)


def test_weights_are_made_in_full_precision_under_autocast():
    class Product(Own):
        def weight(self, layer):
            store = self.stores[self.keys[layer]]
            made = torch.eye(len(store)) @ store
            assert made.dtype == torch.float32
            return made

    with torch.autocast("cpu", torch.bfloat16):
        assert generated(MLP, Product)(MLP.examples(2)).dtype == torch.bfloat16


def test_an_attribute_error_of_the_allocation_is_not_hidden():
    class Broken(Own):
        def weight(self, layer):
            return self.nothing_of_that_name

    with pytest.raises(RuntimeError, match=r"0.weight.*nothing_of_that_name"):
        generated(MLP, Broken)(MLP.examples(1))


def test_a_weight_of_the_wrong_shape_is_refused_by_name():
    class Flat(Own):
        def weight(self, layer):
            return super().weight(layer).flatten()

    with pytest.raises(RuntimeError, match=r"shape \(640,\) for 0.weight, which needs \(32, 20\)"):
        generated(MLP, Flat)(MLP.examples(1))


def test_materialising_into_another_architecture_is_refused():
    with pytest.raises(ValueError, match="not of this network's architecture"):
        generated(MLP).materialise(GRU.make())


def test_moving_a_recurrent_network_keeps_it_generated():
    network = generated(GRU).double()
    network(GRU.examples(2).double())
    assert network.allocation.made["recurrent.weight_hh_l1_reverse"] == 1


def test_a_plain_networks_weights_are_stores_of_their_own():
    ledger = PlainNetwork(TRANSFORMER.make()).ledger(10**6)
    assert ledger.reach == 1.0
    assert ledger.store == sum(layer.size for layer in TRANSFORMER.layers(TRANSFORMER.signature))


def test_only_state_that_training_changed_counts_and_statistics_never():
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    module.register_buffer("constant", torch.ones(7))
    module.register_buffer("memory", torch.zeros(11))
    module.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    network = PlainNetwork(module)
    before = {name: tensor.clone() for name, tensor in state_tensors(network).items()}
    module[1].running_mean += 1
    assert changed_state(before, network).keys() == set()
    module.memory += 1
    module.frozen.data += 1
    module[1].register_buffer("hoard", torch.zeros(5))
    names = {"architecture.memory", "architecture.frozen", "architecture.1.hoard"}
    assert changed_state(before, network).keys() == names
