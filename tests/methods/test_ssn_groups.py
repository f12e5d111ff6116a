"""Parameter groups: mappings, and how the budget is shared out among them."""

from typing import ClassVar

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import OptionError, UnsupportedBudget
from npas_bench.generation.allotment import Request, allot
from npas_bench.generation.plan import Reader, Variant
from npas_bench.methods import Problem
from npas_bench.methods.ssn import SSN, SSNOptions
from npas_bench.methods.ssn.mapping import PreliminaryAllocation, map_layers
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import EXAMPLES, GRU, MLP, TRANSFORMER
from npas_bench.testing.methods import MethodConformance

SHAPES = st.tuples(st.integers(1, 30), st.integers(1, 30))
C10 = ImageSignature((3, 32, 32), 10)


class TestRandomGroups(MethodConformance):
    method = SSN
    options: ClassVar = {"mapping": "random", "groups": 3}


class TestSearchedGroups(MethodConformance):
    method = SSN
    options: ClassVar = {"mapping": "auto", "groups": 2}


def problem_of(name, share, **fields):
    architecture = plugins.architecture(name) if isinstance(name, str) else name
    signature = C10 if isinstance(name, str) else architecture.signature
    return Problem(architecture, signature, int(share * architecture.size(signature)), **fields)


def test_the_manual_groups_of_wrn_28_10_are_the_papers():
    groups = map_layers(problem_of("wrn-28-10", 1), SSNOptions(mapping="manual"))
    assert [len(group) for group in groups] == [1, 1, 1, 1, 6, 1, 1, 1, 6, 1, 1, 1, 6, 1]
    with pytest.raises(OptionError, match="mlp declares no manual groups"):
        SSN({"mapping": "manual"}).preview(problem_of(MLP, 1))


def test_a_group_of_one_layer_is_that_layers_own_weight_where_its_share_suffices():
    network = SSN({"mapping": "manual"}).build(problem_of("wrn-10-1", 1.5))
    alone = [r for r in network.sharing() if sum(s.group == r.group for s in network.sharing()) == 1]
    assert len(alone) > 5
    assert {(r.templates, r.rule) for r in alone} == {(1, "as is")}
    assert network.ledger(10**9).store == sum(layer.size for layer in network.layers)


def test_sizes_of_groups_are_proportional_to_their_layers_weights():
    network = SSN({"mapping": "random", "groups": 4}).build(problem_of("wrn-28-2", 0.3, seed=5))
    weights = [0] * 4
    for layer in network.layers:
        weights[next(r.group for r in network.sharing() if r.layer == layer.name)] += layer.size
    stores = [group.store.numel() for group in network.allocation.groups]
    for weight, store in zip(weights, stores, strict=True):
        assert store / sum(stores) == pytest.approx(weight / sum(weights), rel=0.05, abs=0.002)


def test_a_random_mapping_depends_on_the_seed_alone_and_leaves_no_group_empty():
    options = SSNOptions(mapping="random", groups=9)
    first, again, other = (map_layers(problem_of("wrn-16-1", 1, seed=seed), options) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 9
    assert sorted(layer.name for group in first for layer in group) == sorted(layer.name for layer in first_layers())
    with pytest.raises(OptionError, match="at most as many groups"):
        SSN({"mapping": "random", "groups": 5}).preview(problem_of(MLP, 1))


def first_layers():
    return plugins.architecture("wrn-16-1").layers(C10)


@settings(max_examples=80)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=5), min_size=1, max_size=5
    ),
    st.sampled_from(["wavg", "emb", "avg", "rr"]),
    st.sampled_from(["mask", "inter", "repeat"]),
    st.integers(1, 20_000),
)
def test_an_allotment_is_never_over_what_there_is_and_uses_it_up(groups, combine, upsample, available):
    requests = [
        Request([Reader(f"r{i}", shape, 1.0) for i, shape in enumerate(shapes)], Variant(combine, upsample))
        for shapes in groups
    ]
    found = allot(requests, available)
    if found is None:
        assert sum(request.smallest for request in requests) > available
        return
    used = sum(request.cost(store) for request, store in zip(requests, found.stores, strict=True))
    assert used <= available
    assert found.remark is not None or used >= 0.99 * available
    assert all(
        request.smallest <= request.cost(s) <= request.largest
        for request, s in zip(requests, found.stores, strict=True)
    )


@settings(max_examples=60)
@given(
    st.sampled_from(["wrn-10-1", "wrn-16-1", *EXAMPLES]),
    st.sampled_from(["random", "auto"]),
    st.integers(2, 4),
    st.sampled_from(["mask", "inter", "repeat"]),
    st.floats(-3, 0.7),
)
def test_any_budget_from_the_declared_minimum_up_is_kept_with_several_groups(
    name, mapping, groups, upsample, magnitude
):
    method = SSN({"mapping": mapping, "groups": groups, "upsample": upsample})
    problem = problem_of(name, 10**magnitude)
    assume(len(problem.layers) >= groups)
    try:
        network = method.build(problem)
    except UnsupportedBudget as unsupported:
        assert unsupported.smallest > problem.budget
        problem = Problem(problem.architecture, problem.signature, unsupported.smallest)
        network = method.build(problem)
    ledger = network.ledger(problem.budget).check("network")
    assert ledger.reach == 1.0 or "no weight" in ledger.remark
    assert ledger.remark is not None or ledger.total >= 0.99 * problem.budget


def test_where_the_budget_is_small_groups_are_merged_and_it_is_said():
    network = SSN({"mapping": "random", "groups": 12}).build(problem_of("wrn-16-1", 0.015))
    assert 1 <= len(network.allocation.groups) < 12
    assert "as the budget does not suffice for 12" in network.remark()


def training_trial(network, share, *, milestones=(), gradients=False):
    """A trial of three steps on random images."""
    x = torch.randn(8, *network_input(network), generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD(network.parameters(), 0.5)
    for _ in range(3):
        optimiser.zero_grad()
        functional.cross_entropy(network(x), torch.arange(8) % 5).backward()
        optimiser.step()
    return {}


def network_input(network):
    return (3, 32, 32) if any(isinstance(m, nn.Conv2d) for m in network.modules()) else (20,)


@pytest.mark.parametrize("by", ["wavg", "emb"])
def test_the_search_is_deterministic_and_a_network_is_rebuilt_from_what_it_found(by):
    method = SSN({"mapping": "auto", "groups": 3, "search_by": by})
    built = []
    for structure in ({}, {}, None):
        problem = problem_of("wrn-16-1", 0.5, trial=training_trial)
        if structure is None:
            problem = problem_of("wrn-16-1", 0.5, structure=built[0].structure())
        with seeded("cell"):
            built.append(method.build(problem))
    first, again, resumed = (network.state_dict() for network in built)
    assert built[0].structure()["mapping"] == built[2].structure()["mapping"]
    assert len(set(built[0].structure()["mapping"].values())) == 3
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
        assert torch.equal(tensor, resumed[name])


@pytest.mark.parametrize("architecture", [GRU, TRANSFORMER, MLP], ids=lambda a: a.name)
def test_the_preliminary_network_mixes_the_same_templates_for_every_layer(architecture):
    problem = problem_of(architecture, 1)
    allocation = PreliminaryAllocation(problem.layers, SSNOptions(mapping="auto", groups=2))
    largest = max(layer.size for layer in problem.layers)
    assert allocation.store.shape == (4, largest // 4)
    for layer in problem.layers:
        weight = allocation.weight(layer.name)
        assert weight.shape == layer.shape
        alpha = allocation.coefficients[problem.layers.index(layer)].softmax(0)
        rows, columns = layer.shape[0], layer.size // layer.shape[0]
        height = max(1, min(largest // 4, int((largest // 4 * rows / columns) ** 0.5)))
        width = (largest // 4) // height
        image = (alpha @ allocation.store)[: height * width].view(1, 1, height, width)
        expected = functional.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False)
        torch.testing.assert_close(weight, expected.view(layer.shape))


def test_contradictory_options_are_refused():
    with pytest.raises(OptionError, match="mapping=auto needs groups of 2 or more"):
        SSN({"mapping": "auto"})
    with pytest.raises(OptionError, match="leave groups out"):
        SSN({"groups": 3})
    with pytest.raises(OptionError, match="search_share has no effect with mapping=single"):
        SSN({"search_share": 0.5})
    for idle in ({"embedding": 3}, {"combine": "rr", "templates": 2}, {"upsample": "inter", "mask_window": 3}):
        with pytest.raises(OptionError, match=r"^method ssn: \w+ has no effect with \w+=\w+$"):
            SSN(idle)
