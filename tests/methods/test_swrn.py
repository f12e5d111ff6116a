import pytest
import torch

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import UnsupportedBudget
from npas_bench.methods import Problem
from npas_bench.methods.swrn import SWRN, Albert
from npas_bench.network import PlainNetwork
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import GRU, MLP, TRANSFORMER
from npas_bench.testing.methods import MethodConformance

C10 = ImageSignature((3, 32, 32), 10)


class TestSWRN(MethodConformance):
    method = SWRN
    architectures = ("wrn-16-1", MLP, TRANSFORMER)


class TestAlbert(MethodConformance):
    method = Albert
    architectures = ("wrn-22-1", MLP, TRANSFORMER)


@pytest.mark.parametrize(("templates", "total"), [(1, 12_287_212), (2, 17_125_630), (4, 26_802_466), (6, 36_479_302)])
def test_counts_are_the_papers(templates, total):
    problem = Problem(plugins.architecture("wrn-28-10"), C10, total)
    assert SWRN({"templates": templates}).preview(problem).total == total
    assert SWRN().preview(problem).total == total
    with pytest.raises(UnsupportedBudget) as caught:
        SWRN({"templates": templates}).preview(Problem(problem.architecture, C10, total - 1))
    assert caught.value.smallest == total


def test_the_bounds_of_the_range_are_named():
    architecture = plugins.architecture("wrn-28-10")
    with pytest.raises(UnsupportedBudget) as caught:
        SWRN().preview(Problem(architecture, C10, 1000))
    assert caught.value.smallest == 12_287_212
    with pytest.raises(UnsupportedBudget) as caught:
        SWRN().preview(Problem(architecture, C10, 10**9))
    assert caught.value.largest == 36_479_302


def test_with_as_many_templates_as_layers_and_alpha_one_it_is_the_plain_network():
    problem = Problem(plugins.architecture("wrn-28-1"), C10, 10**6)
    smallest = SWRN({"templates": 6})
    problem = Problem(problem.architecture, C10, problem.full + 3 * 36)
    network = smallest.build(problem).double().eval()
    for alphas in network.allocation.coefficients.values():
        assert alphas.shape == (6, 6)
        torch.nn.init.eye_(alphas)
    plain = network.materialise(problem.module().double())
    templates = network.allocation.templates[0].view(6, 16, 16, 3, 3)
    # Every layer reads its own row of coefficients.
    repeated = [reading.layer for reading in network.allocation.sharing() if reading.group == 0]
    weights = dict(plain.named_parameters())
    assert len(repeated) == 6
    for row, name in enumerate(repeated):
        assert torch.equal(weights[name], templates[row]), name
    x, y = torch.randn(2, 3, 32, 32).double(), PlainNetwork(plain).eval()
    assert torch.equal(network(x), y(x))


def test_one_template_of_albert_is_the_weight_of_the_same_place_in_every_block():
    problem = Problem(TRANSFORMER, TRANSFORMER.signature, TRANSFORMER.size(TRANSFORMER.signature))
    with seeded("albert"):
        network = Albert().build(problem)
    weights = {layer.name: network.allocation.weight(layer.name) for layer in network.layers}
    first = {name: w for name, w in weights.items() if ".layers.0." in name}
    assert len(first) == 4
    for name, weight in first.items():
        assert torch.equal(weight, weights[name.replace(".0.", ".1.")])
    blocks = sum(layer.size for layer in problem.layers if layer.place.block) // 2
    assert network.ledger(problem.budget).total == problem.full - blocks


@pytest.mark.parametrize("method", [SWRN, Albert])
def test_without_repeated_layers_there_is_only_the_plain_network(method):
    full = GRU.size(GRU.signature)
    for budget, bound in ((full - 1, "smallest"), (full + 1, "largest")):
        with pytest.raises(UnsupportedBudget, match="gru has none") as caught:
            method().preview(Problem(GRU, GRU.signature, budget))
        assert getattr(caught.value, bound) == full
    assert method().preview(Problem(GRU, GRU.signature, full)).total == full
