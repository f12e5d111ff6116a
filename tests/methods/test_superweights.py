from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import OptionError, UnsupportedBudget
from npas_bench.layers import Kind, Layer, Place
from npas_bench.methods import Problem
from npas_bench.methods.superweights import SuperWeights
from npas_bench.methods.superweights.clustering import cosine, gradient_similarity, group_by_similarity
from npas_bench.methods.superweights.construction import compose
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import EXAMPLES
from npas_bench.testing.methods import MethodConformance

C10 = ImageSignature((3, 32, 32), 10)


class TestSearched(MethodConformance):
    method = SuperWeights
    # At one of the budgets a last tile is narrower than its mask.
    explains_dead = True


class TestRandom(MethodConformance):
    method = SuperWeights
    options: ClassVar = {"clustering": "random", "clusters": 3}


class TestSingle(MethodConformance):
    method = SuperWeights
    options: ClassVar = {"clustering": "single", "refinement": "all"}


def layer(name, *shape):
    return Layer(name, Kind.CONVOLUTION, shape, Place())


def test_a_layer_larger_in_one_dimension_has_one_superweight_more_and_in_two_dimensions_two():
    layers = [layer("c", 8, 6, 3, 3), layer("a", 4, 4, 3, 3), layer("b", 8, 4, 3, 3), layer("d", 8, 4, 3, 3)]
    composition = compose(layers)
    assert [len(composition.parts[name]) for name in "abcd"] == [1, 2, 3, 2]
    assert composition.parts["b"] == composition.parts["d"] == composition.parts["c"][:2]
    shapes = {s.name: s.shape for s in composition.superweights}
    assert [shapes[part.superweight] for part in composition.parts["c"]] == [(4, 4, 9), (4, 4, 9), (8, 2, 9)]
    users = {s.name: s.users for s in composition.superweights}
    assert users[composition.parts["a"][0].superweight] == ("c", "a", "b", "d")
    both = compose([layer("a", 4, 4), layer("b", 8, 8)])
    assert [part[1:] for part in both.parts["b"]] == [(0, 0, 4, 4), (0, 4, 4, 4), (4, 0, 4, 8)]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (1, 1), (3, 3)])), min_size=1))
def test_parts_cover_every_weight_once_and_are_whole_superweights(shapes):
    layers = [layer(f"l{i}", out, into, *kernel) for i, (out, into, kernel) in enumerate(shapes)]
    composition = compose(layers)
    superweights = {s.name: s for s in composition.superweights}
    for member in layers:
        covered = torch.zeros(*member.shape[:2])
        for part in composition.parts[member.name]:
            assert superweights[part.superweight].shape == (part.rows, part.columns, member.kernel)
            assert member.name in superweights[part.superweight].users
            covered[part.row : part.row + part.rows, part.column : part.column + part.columns] += 1
        assert (covered == 1).all()


def test_layers_of_several_networks_are_composed_together():
    wide = plugins.architecture("wrn-10-2").layers(C10)
    narrow = plugins.architecture("wrn-16-1").layers(C10)
    members = [
        Layer(f"{i}.{x.name}", x.kind, x.shape, x.place) for i, layers in enumerate((wide, narrow)) for x in layers
    ]
    composition = compose(members)
    assert any(len({user[0] for user in s.users}) == 2 for s in composition.superweights)
    assert set(composition.parts) == {member.name for member in members}


def test_groups_merge_when_two_of_their_members_are_alike():
    alike = {("a", "b"): 0.9, ("c", "d"): 0.8, ("b", "c"): 0.5, ("a", "e"): 0.05}
    names = list("abcde")
    assert group_by_similarity(names, lambda i, j: alike.get((i, j)), 0.1) == [list("abcd"), ["e"]]
    assert group_by_similarity(names, lambda i, j: alike.get((i, j)), 0.6) == [list("ab"), list("cd"), ["e"]]
    assert group_by_similarity(names, lambda i, j: None, -1) == [[name] for name in names]


def test_similarity_is_the_cosine_over_the_shared_superweights_alone():
    layers = [layer("a", 2, 2, 3, 3), layer("b", 4, 2, 3, 3), layer("c", 5, 5)]
    first, second = torch.randn(2, 2, 3, 3), torch.randn(4, 2, 3, 3)
    similarity = gradient_similarity(compose(layers), {"a": first, "b": second, "c": torch.randn(5, 5)})
    assert similarity("a", "b") == pytest.approx(cosine(first, second[:2]))
    assert similarity("a", "c") is None
    assert cosine(first, torch.zeros_like(first)) == 0


def problem_of(name, share, **fields):
    architecture = plugins.architecture(name)
    signature = ImageSignature((1, 8, 8), 10)
    return Problem(architecture, signature, int(share * architecture.size(signature)), **fields)


def step(network):
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    nn.functional.cross_entropy(network(x), torch.arange(6)).backward()


def trained_once(network, share, *, milestones=(), gradients=False):
    """A trial that looks at one batch."""
    with network.weight_gradients() as sums:
        step(network)
    return sums


def test_the_search_puts_together_layers_whose_gradients_agree_and_is_the_same_every_time():
    with seeded("search"):
        problem = problem_of("wrn-16-1", 0.5, trial=trained_once)
        first = SuperWeights().build(problem)
        again = SuperWeights().build(problem)
        clusters = first.structure()["clusters"]
        assert again.structure()["clusters"] == clusters
        assert 1 < len(clusters) < len(problem.layers)
        known = problem_of("wrn-16-1", 0.5, structure=first.structure())
        resumed = SuperWeights().build(known)
    assert {name: p.shape for name, p in resumed.named_parameters()} == {
        n: p.shape for n, p in first.named_parameters()
    }


def test_layers_share_until_the_refinement_and_go_on_where_their_gradients_agree():
    with seeded("refinement"):
        network = SuperWeights({"clustering": "single"}).build(problem_of("wrn-16-1", 1.0))
    before = {layer.name: network.allocation.weight(layer.name).detach() for layer in network.layers}
    block = [f"stages.0.{b}.conv{c}.weight" for b in (0, 1) for c in (1, 2)]
    assert all(torch.equal(before[block[0]], before[name]) for name in block)
    reserved, held = network.reserved(), sum(p.numel() for p in network.parameters())
    assert reserved > 0
    assert network.after_epoch(0, 40) == []
    network.before_epoch(1, 40)
    step(network)
    replaced = network.after_epoch(1, 40)
    assert replaced
    for change in replaced:
        assert torch.equal(change.new, change.old[change.rows])
    after = {layer.name: network.allocation.weight(layer.name).detach() for layer in network.layers}
    assert all(torch.equal(before[name], after[name]) for name in before)
    grown = sum(p.numel() for p in network.parameters()) - held
    assert 0 < grown <= reserved
    assert network.reserved() == 0
    resumed = SuperWeights({"clustering": "single"}).build(problem_of("wrn-16-1", 1.0, structure=network.structure()))
    resumed.load_state_dict(network.state_dict())
    with torch.no_grad():
        for p in network.allocation.groups[0].coefficients.values():
            p += torch.randn(p.shape, generator=torch.Generator().manual_seed(3))
    resumed.load_state_dict(network.state_dict())
    rows = next(r for r in network.structure()["rows"].values() if max(r.values()) > 0)
    one, other = (next(user for user, row in rows.items() if row == wanted) for wanted in (0, 1))
    corner = [network.allocation.weight(name)[:8, :1] for name in (one, other)]
    assert not torch.equal(*corner)
    for member in network.layers:
        assert torch.equal(resumed.allocation.weight(member.name), network.allocation.weight(member.name))


def test_layers_that_share_all_their_superweights_have_one_weight_until_the_refinement():
    with seeded("shared"):
        network = SuperWeights({"clustering": "single"}).build(problem_of("wrn-16-1", 1.0))
    names = [f"stages.0.{b}.conv{c}.weight" for b in (0, 1) for c in (1, 2)]
    with network._source.forward_pass():
        assert len({id(network._source.weight(name)) for name in names}) == 1
    soft = SuperWeights({"clustering": "single", "refinement": "all"}).build(problem_of("wrn-16-1", 1.0))
    with soft._source.forward_pass():
        assert len({id(soft._source.weight(name)) for name in names}) == 4


def test_superweights_upsampled_from_one_store_begin_apart_and_at_full_size():
    with seeded("upsampled"):
        network = SuperWeights({"clustering": "single", "refinement": "none"}).build(problem_of("wrn-16-1", 0.03))
    group = network.allocation.groups[0]
    tiled = [share for share in group.shares.values() if share.tiles > 1]
    assert len({share.start for share in tiled}) == len(tiled) == len(group.masks) > 1
    store = group.store.detach().abs().sort().values
    for share, masks in zip(tiled, group.masks, strict=True):
        assert set(masks.flatten().tolist()) == {-1.0, 1.0}
        made = group.generation(share.reader.name).make().detach().flatten()
        assert made[0] == group.store[share.start]
        for tile in made.split(len(store))[:-1]:
            assert torch.equal(tile.abs().sort().values, store)


def test_a_training_too_short_for_a_refinement_ends_with_nothing_reserved():
    network = SuperWeights({"clustering": "single"}).build(problem_of("wrn-16-1", 1.0))
    assert network.reserved() > 0
    network.before_epoch(0, 1)
    assert network.after_epoch(0, 1) == []
    assert network.reserved() == 0
    assert {max(rows.values()) for rows in network.structure()["rows"].values()} == {0}


def test_coefficients_gradients_are_summed_layer_by_layer():
    with seeded("sums"):
        network = SuperWeights({"clustering": "single"}).build(problem_of("wrn-10-1", 1.0)).double()
    allocation = network.allocation
    allocation._sums = {}
    x = torch.randn(4, 1, 8, 8).double()
    network(x).square().sum().backward()
    whole = torch.cat([g.flatten() for g in (p.grad for p in allocation.groups[0].coefficients.values())])
    sums = sum(g.sum() for g in allocation._sums.values())
    torch.testing.assert_close(sums, whole.sum())


VARIANTS = st.sampled_from(
    [
        {},
        {"clustering": "single", "refinement": "none"},
        {"clustering": "depth", "clusters": 3},
        {"clustering": "random", "clusters": 5, "refinement": "all", "templates": 3},
    ]
)


@settings(max_examples=60)
@given(st.sampled_from(["wrn-10-1", *EXAMPLES]), VARIANTS, st.floats(-3, 0.7))
def test_any_budget_is_kept_and_used_or_its_bound_named(name, options, magnitude):
    architecture = plugins.architecture(name) if isinstance(name, str) else name
    signature = ImageSignature((3, 8, 8), 5) if isinstance(name, str) else architecture.signature
    method = SuperWeights(options)
    problem = Problem(architecture, signature, max(1, int(10**magnitude * architecture.size(signature))))
    try:
        network = method.build(problem)
    except UnsupportedBudget as unsupported:
        assert unsupported.smallest > problem.budget
        problem = Problem(architecture, signature, unsupported.smallest)
        network = method.build(problem)
        with pytest.raises(UnsupportedBudget):
            method.preview(Problem(architecture, signature, unsupported.smallest - 1))
    ledger = network.ledger(problem.budget).check("network")
    assert ledger.reach == 1.0 or "no weight" in ledger.remark
    assert ledger.remark is not None or ledger.total + ledger.reserved >= 0.99 * problem.budget


def test_contradictory_options_are_refused():
    with pytest.raises(OptionError, match="clustering=depth needs to know how many"):
        SuperWeights({"clustering": "depth"})
    with pytest.raises(OptionError, match="threshold has no effect"):
        SuperWeights({"clustering": "single", "threshold": 0.5})
    with pytest.raises(OptionError, match="agreement"):
        SuperWeights({"agreement": 2.0})
