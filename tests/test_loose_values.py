import sys
from array import array
from collections import UserList, deque
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from queue import Queue
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from npas_bench.errors import UncountedValues
from npas_bench.loose_values import LooseValues


def zeros():
    return torch.zeros(2)


class Network(nn.Module):
    table: ClassVar[list[float]] = []

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("counted", torch.zeros(2))
        self.held = None


class Slotted:
    __slots__ = ("x",)

    def __init__(self):
        self.x = zeros()

    def read(self):
        return self.x


def closing_over(held):
    return lambda: held


def ring():
    first = [0.5]
    first.append(first)
    return first


def optimiser():
    return torch.optim.SGD([zeros().requires_grad_()])


# What makes the attribute `held`, what changes it, how the message names the place, and how many scalars there are.
CHANGES = {
    "whole numbers of an array": (lambda: np.zeros(3, np.int8), lambda m: m.held.fill(1), "held", 3),
    "truth values of a tensor": (lambda: zeros() == 1, lambda m: m.held.fill_(True), "held", 2),
    "bfloat16": (lambda: zeros().bfloat16(), lambda m: m.held.fill_(1), "held", 2),
    "complex numbers": (lambda: zeros().cfloat(), lambda m: m.held.fill_(1j), "held", 4),
    "a sparse tensor": (
        lambda: zeros().to_sparse(),
        lambda m: setattr(m, "held", torch.ones(2).to_sparse()),
        "held",
        2,
    ),
    "bytes": (lambda: bytearray(4), lambda m: m.held.__setitem__(0, 1), "held", 4),
    "an array of Python's": (lambda: array("d", [0, 0]), lambda m: m.held.append(1), "held", 3),
    "a queue": (lambda: deque([0.5]), lambda m: m.held.append(1.5), "held[1]", 1),
    "a set": (lambda: {0.5}, lambda m: m.held.add(1.5), "held{1.5}", 1),
    "what holds itself": (ring, lambda m: m.held.__setitem__(0, 2.0), "held[0]", 1),
    "lists in lists": (
        lambda: [[[[[[0.5]]]]]],
        lambda m: m.held[0][0][0][0][0].append(1.0),
        "held[0][0][0][0][0][1]",
        1,
    ),
    "a closure": (lambda: closing_over(zeros()), lambda m: m.held().fill_(1), "held.held", 2),
    "a partial function": (lambda: partial(max, zeros()), lambda m: m.held.args[0].fill_(1), "held.args[0]", 2),
    "a default": (lambda: lambda x=zeros(): x, lambda m: m.held().fill_(1), "held.__defaults__[0]", 2),  # noqa: B008
    "a bound method": (lambda: Slotted().read, lambda m: m.held().fill_(1), "held.__self__.x", 2),
    "a slot": (Slotted, lambda m: m.held.x.fill_(1), "held.x", 2),
    "an optimiser": (optimiser, lambda m: m.held.param_groups[0]["params"][0].data.fill_(1), "held.param_groups", 2),
    "a module in a list": (
        lambda: [nn.Sequential(nn.Linear(1, 2))],
        lambda m: m.held[0][0].weight.data.fill_(7),
        "held[0]._modules['0']._parameters['weight']",
        2,
    ),
    "a parameter's attribute": (zeros, lambda m: setattr(m.layer.weight, "late", zeros()), "layer.weight['late']", 2),
    "a buffer's attribute": (zeros, lambda m: setattr(m.counted, "late", zeros()), "counted['late']", 2),
    "a hook": (zeros, lambda m: m.register_forward_hook(closing_over(zeros())), "_forward_hooks[", 2),
    "the class": (zeros, lambda m: m.table.append(1.0), "table[0]", 1),
    "torch's own module": (zeros, lambda m: m.layer.__dict__.update(gain=2.0), "layer.gain", 1),
}


@pytest.mark.parametrize(("make", "change", "place", "scalars"), CHANGES.values(), ids=CHANGES)
def test_what_changes_outside_of_parameters_and_buffers_is_refused_by_its_place(make, change, place, scalars):
    network = Network()
    network.held = make()
    loose = LooseValues(network, "mine")
    loose.refuse_changed(network)
    change(network)
    with pytest.raises(UncountedValues) as refusal:
        loose.refuse_changed(network)
    count = "1 scalar" if scalars == 1 else f"{scalars} scalars"
    assert str(refusal.value).startswith(
        f"method mine: training changed {count} outside of all parameters and buffers ("
    )
    assert place in str(refusal.value)
    Network.table.clear()


def test_parameters_buffers_their_views_and_what_is_computed_from_them_are_not_loose():
    network = Network()
    loose = LooseValues(network, "mine")
    network.parts = [network.layer.weight[0], network.layer.bias.detach().view(-1), network.counted[:1]]
    network.cached = network.layer.weight * 2
    with torch.no_grad():
        network.layer.weight += 1
        network.counted += 1
    loose.refuse_changed(network)


@pytest.mark.parametrize("held", [3, True, "text", b"bytes", [1, 2], {"a": 1}, None, torch.Generator(), len, nn.Linear])
def test_counters_names_and_functions_are_no_values(held):
    network = Network()
    loose = LooseValues(network, "mine")
    network.held = held
    loose.refuse_changed(network)


def test_a_network_that_is_moved_to_another_type_and_back_holds_the_same():
    network = Network()
    network.held = [torch.arange(3), np.float32(0.5), 0.25]
    loose = LooseValues(network, "mine")
    network.double().float()
    loose.refuse_changed(network)


def test_a_long_message_names_the_first_places():
    network = Network()
    loose = LooseValues(network, "mine")
    network.held = [float(number) for number in range(1000)]
    with pytest.raises(UncountedValues, match=r"1,000 scalars .* \(held\[0\], held\[1\], held\[2\], \.\.\.\)"):
        loose.refuse_changed(network)


class Private:
    __slots__ = ("__x",)

    def __init__(self):
        self.__x = zeros()

    def add(self):
        self.__x += 1


class Sharing:
    table = torch.zeros(2)


class Node:
    def __init__(self, after):
        self.after, self.value = after, zeros()


def chain(length=40):
    node = None
    for _ in range(length):
        node = Node(node)
    return node


def end_of(node):
    while node.after is not None:
        node = node.after
    return node


def filled(number):
    held = Queue()
    held.put(torch.full((2,), float(number)))
    return held


def remembering():
    def remember():
        remember.memory = getattr(remember, "memory", zeros()) + 1

    return remember


def summing():
    total = zeros()
    while True:
        yield
        total = total + 1


def part_of_a_storage(network):
    network.big = torch.zeros(100)
    network.register_buffer("small", network.big[:1])
    return network.big


def add_to_gradient(network):
    counted = network.counted
    counted.grad = torch.ones(2) if counted.grad is None else counted.grad + 1


# What makes the attribute `held`, what changes it each time, and how the message names the place.
LATER_CHANGES = {
    "an average that a gradient could be taken through": (
        lambda m: m.layer.bias * 1,
        lambda m: setattr(m, "held", 0.9 * m.held + m.layer(torch.ones(1, 3)).mean(0)),
        "held",
    ),
    "a default of a function": (
        lambda m: setattr(Network, "forward", lambda self, x=[zeros()]: x.__setitem__(0, x[0] + 1)),  # noqa: B008
        lambda m: m.forward(),
        "forward.__defaults__[0][0]",
    ),
    "an attribute of a function": (lambda m: remembering(), lambda m: m.held(), "held.memory"),
    "the class of an object": (lambda m: Sharing(), lambda m: Sharing.table.add_(1), "held.Sharing.table"),
    "a private slot": (lambda m: Private(), lambda m: m.held.add(), "held.__x"),
    "a long chain": (lambda m: chain(), lambda m: end_of(m.held).value.add_(1), "held.after.after.after"),
    "a distribution": (
        lambda m: torch.distributions.Normal(zeros(), torch.ones(2)),
        lambda m: m.held.loc.add_(1),
        "held.loc",
    ),
    "a queue that hands over": (lambda m: filled(0), lambda m: m.held.put(m.held.get() + 1), "held.queue[0]"),
    "a list of a user's": (lambda m: UserList([zeros()]), lambda m: m.held[0].add_(1), "held.data[0]"),
    "a generator": (lambda m: summing(), lambda m: next(m.held), "held['total']"),
    "an array of objects": (
        lambda m: np.array([0.5] * 3, dtype=object),
        lambda m: m.held.__setitem__(1, m.held[1] + 1),
        "held[1]",
    ),
    "an array of records": (
        lambda m: np.zeros(2, dtype=[("x", "f4")]),
        lambda m: m.held["x"].__iadd__(1),
        "held",
    ),
    "long bytes": (lambda m: bytes(100), lambda m: setattr(m, "held", bytes([m.held[0] + 1] * 100)), "held"),
    "a decimal number": (lambda m: Decimal(1), lambda m: setattr(m, "held", m.held / 3), "held"),
    "a fraction": (lambda m: Fraction(1), lambda m: setattr(m, "held", m.held / 3), "held"),
    "the rest of a storage": (part_of_a_storage, lambda m: m.big[1:].add_(1), "big"),
    "the gradient of a buffer": (lambda m: None, add_to_gradient, "counted.grad"),
    "nested tensors": (
        lambda m: torch.nested.nested_tensor([zeros(), torch.zeros(3)]),
        lambda m: setattr(m, "held", m.held + 1),
        "held",
    ),
}


@pytest.mark.parametrize(("make", "change", "place"), LATER_CHANGES.values(), ids=LATER_CHANGES)
def test_what_changes_where_constants_may_also_lie_is_refused_at_the_second_look(make, change, place):
    network = Network()
    usual = Network.forward
    try:
        network.held = make(network)
        loose = LooseValues(network, "mine")
        change(network)
        loose.look(network)
        change(network)
        with pytest.raises(UncountedValues) as refusal:
            loose.refuse_changed(network)
    finally:
        Network.forward = usual
        Sharing.table.zero_()
    assert place in str(refusal.value)


@pytest.fixture
def plugin(monkeypatch):
    """A module of a plugin, as an import leaves it."""
    module = ModuleType("loose_plugin.memory")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@cache
def cached():
    return zeros()


def test_what_changes_in_the_modules_of_a_plugin_is_refused_by_its_place(plugin):
    plugin.MEMORY, plugin.mine, network = {}, cached, Network()
    for change, place in (
        (lambda: plugin.MEMORY.update(x=plugin.MEMORY.get("x", zeros()) + 1), "loose_plugin.memory.MEMORY['x']"),
        (lambda: cached().add_(1), "loose_plugin.memory.mine"),
    ):
        loose = LooseValues(network, "mine", ["loose_plugin", "tests"])
        change()
        loose.look(network)
        loose.refuse_changed(network)
        change()
        with pytest.raises(UncountedValues) as refusal:
            loose.refuse_changed(network)
        assert place in str(refusal.value)


def test_constants_counters_and_times_of_a_plugin_are_no_matter(plugin):
    network = Network()
    plugin.CACHE, plugin.calls, plugin.seconds, plugin.LAST = {}, 0, 0.0, None
    plugin.STEPS, plugin.recent = torch.zeros(()), deque(maxlen=2)
    network.queue, network.prior = Queue(), torch.distributions.Categorical(torch.ones(2))
    loose = LooseValues(network, "mine", ["loose_plugin"])
    for step in range(1, 4):
        size = 2 + step % 2
        plugin.CACHE[size] = torch.arange(size)
        plugin.LAST = torch.arange(size)
        plugin.calls, plugin.seconds = plugin.calls + 1, plugin.seconds + 0.1
        plugin.STEPS = plugin.STEPS + 1
        plugin.recent.append(torch.arange(size))
        network.forward.__func__.seconds = plugin.seconds
        network.queue.put(torch.ones(2))
        assert network.prior.logits is not None
        network.features = network.layer(torch.full((1, 3), float(step)))
        if step == 1:
            loose.look(network)
        else:
            loose.refuse_changed(network)


class Raising:
    __slots__ = ("x",)

    def __getattr__(self, name):
        raise RuntimeError(name)


class RaisingMapping(Mapping):
    def __getitem__(self, key):
        raise RuntimeError(key)

    def __len__(self):
        return 1

    def __iter__(self):
        return iter("x")

    def __hash__(self):
        return 0

    def __repr__(self):
        raise RuntimeError("no name")


def fake():
    with FakeTensorMode():
        return torch.zeros(3)


UNUSUAL = {
    "nested tensors": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged tensors": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "a tensor without values": fake,
    "more elements than there is memory": lambda: torch.zeros(1).expand(10**11),
    "a sparse tensor larger than memory": lambda: torch.sparse_coo_tensor(
        torch.tensor([[1], [1]]), torch.ones(1), (10**6, 10**6)
    ),
    "rows that are compressed": lambda: torch.eye(3).to_sparse_csr(),
    "quantised numbers": lambda: torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.quint8),
    "an object that refuses": Raising,
    "a mapping that refuses": RaisingMapping,
    "a key without a name": lambda: {RaisingMapping(): 1.0},
}


@pytest.mark.parametrize("make", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.filterwarnings("ignore")
def test_unusual_constants_are_no_matter(make):
    network = Network()
    network.held = [make(), 0.5]
    loose = LooseValues(network, "mine")
    loose.look(network)
    loose.refuse_changed(network)
    network.held[1] = 1.5
    with pytest.raises(UncountedValues, match=r"held\[1\]"):
        loose.refuse_changed(network)
