from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.budget import Role
from npas_bench.errors import OptionError, UnsupportedBudget
from npas_bench.generation.rules import Rule
from npas_bench.methods import Problem
from npas_bench.methods.hypernetwork import Hypernetwork, UnitKernels
from npas_bench.methods.hypernetwork.sizes import Limits, Sizes, choose, classes, cost, inner_layers, smallest
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import EXAMPLES
from npas_bench.testing.methods import MethodConformance

C10 = ImageSignature((3, 32, 32), 10)
PAPER = Problem(plugins.architecture("wrn-40-1"), C10, 97_770)


class TestHypernetwork(MethodConformance):
    method = Hypernetwork


class TestUnitOfThree(MethodConformance):
    method = Hypernetwork
    options: ClassVar = {"unit": 3}


@pytest.mark.parametrize("options", [{}, {"embedding": 64, "hidden": 64, "unit": 16}], ids=["chosen", "given"])
def test_the_papers_network_has_the_papers_size(options):
    assert PAPER.full == 563_930
    with torch.device("meta"):
        network = Hypernetwork(options).build(PAPER)
    count = network.count()
    assert sum(count.values()) == 97_770
    assert (count[Role.GENERATORS], count[Role.COEFFICIENTS]) == (75_920, 15_488)
    assert network.structure() == {
        "embedding": 64,
        "hidden": 64,
        "unit": 16,
        "generated": [layer.name for layer in PAPER.layers if "conv" in layer.name],
    }
    assert sum(layer.size for layer in network.layers) == 557_568
    (members,) = classes(network.layers, 16)
    assert members.units == 242
    flops = sum(network.allocation.generation(layer.name).rule.flops for layer in network.layers)
    assert flops == 2 * 51_544_064


def test_a_unit_kernel_is_two_linear_maps_of_its_embedding():
    rule = UnitKernels((4, 6, 3, 3), 5, 7, 4, 6)
    store, z = torch.randn(6 * 7 * 6 + 36 * 8).double(), torch.randn(1, 5).double()
    w_in, b_in, w_out, b_out = store.split([6 * 7 * 5, 42, 36 * 7, 36])
    weight = rule.make(store, z)
    for i in range(6):
        a = w_in.view(6, 7, 5)[i] @ z[0] + b_in.view(6, 7)[i]
        # An eighth of it: all three factors start twice as large.
        torch.testing.assert_close(8 * weight[:, i].reshape(-1), w_out.view(36, 7) @ a + b_out)


@given(st.tuples(*[st.integers(1, 9)] * 2), st.sampled_from([(), (3, 3)]), *[st.integers(1, 4)] * 4)
def test_gradients_by_hand_agree_with_autograd(channels, kernel, embedding, hidden, out, into):
    rule = UnitKernels(channels + kernel, embedding, hidden, out, into)
    positions = torch.Size(kernel).numel()
    store = torch.randn(into * hidden * (embedding + 1) + out * positions * (hidden + 1)).double()
    z = torch.randn(-(-channels[0] // out) * -(-channels[1] // into), embedding).double().requires_grad_()
    gradient, found, expected = torch.randn(rule.shape).double(), torch.zeros_like(store), torch.zeros_like(store)
    with torch.no_grad():
        own = rule.pull(gradient, store, (z,), found)
    other = Rule.pull(rule, gradient, store, (z,), expected)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(own[0], other[0], rtol=1e-10, atol=1e-12)


def test_layers_start_at_their_own_scale():
    with seeded("scale"):
        network = Hypernetwork().build(PAPER)
    for layer in network.layers:
        assert network.allocation.weight(layer.name).std().item() == pytest.approx(layer.deviation, rel=0.35)


@pytest.mark.parametrize("name", ["wrn-10-1", "wrn-16-1", *EXAMPLES], ids=lambda v: getattr(v, "name", v))
def test_the_smallest_budget_is_that_of_the_cheapest_of_all_units(name):
    architecture = plugins.architecture(name) if isinstance(name, str) else name
    layers = architecture.layers(ImageSignature((3, 8, 8), 5) if isinstance(name, str) else architecture.signature)
    weights = sum(layer.size for layer in layers)
    least = min(
        weights - sum(layer.size for layer in generated) + cost(generated, Sizes(1, 1, unit))
        for generated in (inner_layers(layers), layers)
        for unit in range(1, max(max(layer.shape[:2]) for layer in generated) + 1)
    )
    assert smallest(layers, Limits()) == least
    assert choose(layers, least, Limits()) is not None
    assert choose(layers, least - 1, Limits()) is None


@pytest.mark.parametrize("share", [0.35, 1, 2.5, 4])
def test_what_is_left_is_not_spent_on_cost_alone(share):
    architecture = plugins.architecture("wrn-28-10")
    problem = Problem(architecture, C10, int(share * architecture.size(C10)))
    with torch.device("meta"):
        network = Hypernetwork().build(problem)
    flops = sum(network.allocation.generation(layer.name).rule.flops for layer in network.layers)
    assert flops < 100e9


def test_a_size_that_is_left_out_is_chosen_near_the_papers_whatever_the_other():
    for limits in (Limits(embedding=8), Limits(hidden=8)):
        sizes = choose(PAPER.layers, PAPER.available, limits).sizes
        chosen = sizes.hidden if limits.embedding else sizes.embedding
        assert 32 <= chosen <= 128


def test_unused_parameters_are_explained():
    given = Hypernetwork({"embedding": 64, "hidden": 64, "unit": 16})
    remark = given.preview(Problem(PAPER.architecture, C10, 200_000)).remark
    assert remark == "102,230 parameters are unused: embedding and hidden size are given"


@settings(max_examples=60)
@given(st.sampled_from(["wrn-10-1", "wrn-16-1", *EXAMPLES]), st.floats(-3, 0.6))
def test_any_budget_is_kept_or_its_bound_named(name, magnitude):
    architecture = plugins.architecture(name) if isinstance(name, str) else name
    signature = ImageSignature((3, 8, 8), 5) if isinstance(name, str) else architecture.signature
    problem = Problem(architecture, signature, max(1, int(10**magnitude * architecture.size(signature))))
    try:
        network = Hypernetwork().build(problem)
    except UnsupportedBudget as unsupported:
        assert unsupported.smallest > problem.budget
        problem = Problem(architecture, signature, unsupported.smallest)
        network = Hypernetwork().build(problem)
        assert network.ledger(problem.budget).total == problem.budget
    ledger = network.ledger(problem.budget).check("network")
    assert ledger.remark is not None or ledger.total >= 0.99 * problem.budget
    # Not through the network, whose rectifiers may be shut: every scalar reaches some weight.
    sum((w * torch.rand_like(w)).sum() for w in map(network.allocation.weight, network.allocation._index)).backward()
    assert all(p.grad.count_nonzero() == p.numel() for p in network.allocation.parameters())


def test_given_sizes_that_do_not_fit_are_unsupported_with_the_budget_they_need():
    method = Hypernetwork({"embedding": 64, "hidden": 64, "unit": 16})
    with pytest.raises(UnsupportedBudget) as caught:
        method.preview(Problem(PAPER.architecture, C10, 50_000))
    assert method.preview(Problem(PAPER.architecture, C10, caught.value.smallest)).total == caught.value.smallest
    with pytest.raises(OptionError, match="option unit"):
        Hypernetwork({"unit": 0})


@pytest.mark.parametrize("options", [{}, {"embedding": 7}, {"hidden": 9}, {"unit": 3}], ids=str)
@pytest.mark.parametrize("budget", [2**62, 2**61, 2**60 + 1, 2**53])
@pytest.mark.parametrize("name", ["wrn-10-1", "densenet-bc-22-6"])
def test_budgets_beyond_every_memory_overflow_nothing(name, budget, options):
    ledger = Hypernetwork(options).preview(Problem(plugins.architecture(name), C10, budget)).check("network")
    assert ledger.total - ledger.fixed <= 2**60
    # What is left of a budget that is larger is explained.
    assert ledger.remark is not None or ledger.total > 0.99 * budget
