import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import UnsupportedBudget
from npas_bench.methods import Problem
from npas_bench.methods.hashednets import HashedAllocation, HashedNets
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import DENSELY_CONNECTED, EXAMPLES, MLP
from npas_bench.testing.methods import MethodConformance


class TestHashedNets(MethodConformance):
    method = HashedNets


def test_buckets_are_read_equally_often_and_signs_are_even():
    layers = MLP.layers(MLP.signature)
    total = sum(layer.size for layer in layers)
    allocation = HashedAllocation(layers, 100, torch.Generator().manual_seed(0))
    hashes = torch.cat(list(allocation._hashes.values()))
    counts = torch.bincount(hashes >> 1, minlength=100)
    assert counts.sum() == total
    assert counts.max() - counts.min() <= 1
    assert abs((hashes & 1 == 1).float().mean() - 0.5) < 0.03
    weight = allocation.weight(layers[0].name).detach()
    sign = 1 - 2 * (allocation._hashes[layers[0].name] & 1).float()
    looked_up = allocation.store.detach()[allocation._hashes[layers[0].name].long() >> 1] * sign
    assert torch.equal(weight.flatten(), looked_up)


def test_with_a_bucket_for_each_weight_every_layer_has_its_own_scale():
    layers = DENSELY_CONNECTED.layers(DENSELY_CONNECTED.signature)
    total = sum(layer.size for layer in layers)
    with seeded("scale"):
        allocation = HashedAllocation(layers, total, torch.Generator().manual_seed(0))
    for layer in layers:
        spread = allocation.weight(layer.name).std().item()
        assert abs(spread / layer.deviation - 1) < 5 / layer.size**0.5


def test_the_hash_depends_on_the_seed_alone():
    def hashes(seed):
        problem = Problem(MLP, MLP.signature, 900, seed=seed)
        return torch.cat(list(HashedNets().allocate(problem)._hashes.values()))

    assert torch.equal(hashes(1), hashes(1))
    assert not torch.equal(hashes(1), hashes(2))


@given(st.sampled_from(["wrn-10-1", *EXAMPLES]), st.floats(-3, 0.6))
def test_any_budget_is_spent_to_the_last_scalar_or_capped(name, magnitude):
    architecture = plugins.architecture(name) if isinstance(name, str) else name
    signature = ImageSignature((3, 8, 8), 5) if isinstance(name, str) else architecture.signature
    problem = Problem(architecture, signature, max(1, int(10**magnitude * architecture.size(signature))))
    if problem.available < 1:
        with pytest.raises(UnsupportedBudget) as caught:
            HashedNets().build(problem)
        assert caught.value.smallest == problem.fixed + 1
        problem = Problem(architecture, signature, problem.fixed + 1)
    ledger = HashedNets().build(problem).ledger(problem.budget).check("network")
    assert ledger.total == min(problem.budget, problem.full)
    assert ledger.reach == 1.0
    assert (ledger.remark is not None) == (problem.budget > problem.full)


def test_no_hash_enters_the_state_dict():
    network = HashedNets().build(Problem(MLP, MLP.signature, 900))
    assert [name for name in network.state_dict() if name.startswith("allocation")] == ["allocation.store"]


def test_values_that_cancel_once_are_not_taken_for_dead():
    problem = Problem(MLP, MLP.signature, 400)
    network = HashedNets().build(problem)
    probes = []
    measured = network._probe

    def cancelling(stores, draw):
        found = measured(stores, draw)
        if not probes:
            found[0][7] = 0
        probes.append(found)
        return found

    network._probe = cancelling
    assert network.reach() == 1.0
    assert len(probes) == 2
