"""What an architecture says of its layers' initial deviation holds for every method alike."""

from dataclasses import dataclass, replace

import pytest
import torch

from npas_bench import plugins
from npas_bench.architectures import Architecture, ImageSignature
from npas_bench.architectures.base import initialise_plainly
from npas_bench.layers import Kind, find_layers
from npas_bench.methods import Problem
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import GRU, MLP, TRANSFORMER

IMAGES = ImageSignature((3, 8, 8), 10)
OPTIONS = {
    "ssn in groups": ("ssn", {"mapping": "random", "groups": 3}),
    "ssn emb inter": ("ssn", {"combine": "emb", "upsample": "inter"}),
    "superweights apart": ("superweights", {"clustering": "depth", "clusters": 2, "refinement": "all"}),
}
METHODS = {name: (name, {}) for name in plugins.methods.names()} | OPTIONS


@dataclass(frozen=True)
class Toy(Architecture):
    """Another architecture whose layers start at a multiple of their usual deviation, or at one of their own."""

    inner: Architecture
    factor: float | None = None
    constant: float | None = None

    @property
    def name(self):
        return self.inner.name

    def places(self):
        return self.inner.places()

    def build(self, signature):
        module = self.inner.build(signature)
        initialise_plainly(module, self.initial_deviation)
        return module

    def reduce(self, signature, budget):
        return replace(self, inner=self.inner.reduce(signature, budget))

    def initial_deviation(self, layer):
        return self.constant if self.factor is None else self.factor * layer.deviation


def plain_weights(method, options, architecture, signature, share):
    """Every layer's weight as a method makes it at first, by name."""
    budget = int(share * architecture.size(signature))
    problem = Problem(architecture, signature, budget)
    with seeded("initial deviation"):
        network = plugins.methods.load(method)(options).build(problem)
        into = problem.smaller().build(signature) if method == "reduced" else problem.module()
    plain = network.materialise(into)
    smaller = problem.smaller() if method == "reduced" else architecture
    return {layer.name: plain.get_parameter(layer.name).detach() for layer in smaller.layers(signature)}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scales_its_initial_weights_with_the_deviation_that_the_architecture_sets(method):
    name, options = METHODS[method]
    share = {"full": 1.0, "swrn": 0.8, "albert": 0.9}.get(name, 0.3)
    wrn = plugins.architecture("wrn-22-1")
    usual, quarter = (plain_weights(name, options, Toy(wrn, factor=factor), IMAGES, share) for factor in (None, 0.25))
    assert usual.keys() == quarter.keys()
    for layer, weight in usual.items():
        # A quarter of each value, to the last bit: a power of two changes no rounding.
        assert torch.equal(weight / 4, quarter[layer]), layer


@pytest.mark.parametrize("method", ["full", "ssn", "superweights", "hypernetwork", "hashednets"])
def test_a_transformer_starts_at_the_deviation_of_its_own(method):
    toy = Toy(TRANSFORMER, constant=0.02)
    share = 1.0 if method == "full" else 0.5
    weights = plain_weights(method, {}, toy, TRANSFORMER.signature, share)
    together = torch.cat([weight.flatten() for weight in weights.values()])
    assert together.std().item() == pytest.approx(0.02, rel=0.35)
    assert {layer.deviation for layer in toy.layers(TRANSFORMER.signature)} == {0.02}


@pytest.mark.parametrize("architecture", [MLP, GRU, TRANSFORMER], ids=lambda a: a.name)
def test_an_architecture_that_says_nothing_leaves_the_deviation_to_kind_and_fan_in(architecture):
    for layer in architecture.layers(architecture.signature):
        assert layer.initial_deviation is None
        assert layer.deviation == replace(layer).deviation > 0


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_recurrent_weights_start_with_the_deviation_that_torch_gives_them(kind):
    module = kind(100, 100)
    for layer in find_layers(module):
        assert layer.kind is Kind.RECURRENT
        assert layer.deviation == pytest.approx(module.get_parameter(layer.name).std().item(), rel=0.03)
        assert layer.deviation == pytest.approx((3 * 100) ** -0.5)
