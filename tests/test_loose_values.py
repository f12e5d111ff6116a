from array import array
from collections import deque
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from npas_bench.errors import UncountedValues
from npas_bench.loose_values import loose_values, refuse_changed


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
    before = loose_values(network)
    refuse_changed(before, network, "mine")
    change(network)
    with pytest.raises(UncountedValues) as refusal:
        refuse_changed(before, network, "mine")
    count = "1 scalar" if scalars == 1 else f"{scalars} scalars"
    assert str(refusal.value).startswith(
        f"method mine: training changed {count} outside of all parameters and buffers ("
    )
    assert place in str(refusal.value)
    Network.table.clear()


def test_parameters_buffers_their_views_and_what_is_computed_from_them_are_not_loose():
    network = Network()
    before = loose_values(network)
    network.parts = [network.layer.weight[0], network.layer.bias.detach().view(-1), network.counted[:1]]
    network.cached = network.layer.weight * 2
    with torch.no_grad():
        network.layer.weight += 1
        network.counted += 1
    refuse_changed(before, network, "mine")


@pytest.mark.parametrize("held", [3, True, "text", b"bytes", [1, 2], {"a": 1}, None, torch.Generator(), len, nn.Linear])
def test_counters_names_and_functions_are_no_values(held):
    network = Network()
    before = loose_values(network)
    network.held = held
    refuse_changed(before, network, "mine")


def test_a_network_that_is_moved_to_another_type_and_back_holds_the_same():
    network = Network()
    network.held = [torch.arange(3), np.float32(0.5), 0.25]
    before = loose_values(network)
    network.double().float()
    refuse_changed(before, network, "mine")


def test_a_long_message_names_the_first_places():
    network = Network()
    before = loose_values(network)
    network.held = [float(number) for number in range(1000)]
    with pytest.raises(UncountedValues, match=r"1,000 scalars .* \(held\[0\], held\[1\], held\[2\], \.\.\.\)"):
        refuse_changed(before, network, "mine")
