"""Every method on every kind of architecture at random budgets between a thousandth and four times of it.

A sample runs with the whole suite; all of it with `pytest -m exhaustive tests/methods/test_every_budget.py`.
"""

import functools
import math

import pytest
import torch

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import UnsupportedBudget
from npas_bench.methods import Problem
from npas_bench.seeding import generator, seeded
from npas_bench.testing.architectures import DENSELY_CONNECTED, GRU, MLP, TRANSFORMER

IMAGES = ImageSignature((3, 8, 8), 10)
ARCHITECTURES = {
    "wrn-16-2": (plugins.architecture("wrn-16-2"), IMAGES),
    "wrn-28-10": (plugins.architecture("wrn-28-10"), IMAGES),
    **{a.name: (a, a.signature) for a in (DENSELY_CONNECTED, MLP, GRU, TRANSFORMER)},
}
VARIANTS = {
    "ssn in groups": ("ssn", {"mapping": "auto", "groups": 3}),
    "ssn emb inter": ("ssn", {"combine": "emb", "upsample": "inter"}),
    "ssn avg repeat": ("ssn", {"combine": "avg", "upsample": "repeat", "templates": 3}),
    "superweights single": ("superweights", {"clustering": "single", "refinement": "none"}),
}
METHODS = {name: (name, {}) for name in plugins.methods.names() if not plugins.methods.load(name).whole} | VARIANTS
PAIRS = [
    (method, architecture)
    for method in METHODS
    for architecture in ARCHITECTURES
    # The small examples have no smaller versions of themselves.
    if method != "reduced" or architecture.startswith("wrn")
]


def problems(method, name, count):
    """Problems at random budgets; where the method cannot meet one, at the bound that it names."""
    architecture, signature = ARCHITECTURES[name]
    draw = generator("budgets", method, name)
    full = architecture.size(signature)
    for exponent in torch.rand(count, generator=draw).tolist():
        budget = max(1, int(full * math.exp(math.log(0.001) + exponent * math.log(4000))))
        yield Problem(architecture, signature, budget)


def supported(make, problem):
    """The problem, or the nearest one that the method says it can solve, which it then must."""
    try:
        make().preview(problem)
    except UnsupportedBudget as unsupported:
        bound = unsupported.smallest or unsupported.largest
        assert bound is not None
        assert bound != problem.budget
        assert (unsupported.smallest is None) == (bound < problem.budget)
        return Problem(problem.architecture, problem.signature, bound)
    return problem


def check_counts(make, problem):
    ledger = make().preview(problem).check("preview")
    spoken_for = ledger.total + ledger.reserved
    assert ledger.remark is not None or spoken_for >= 0.99 * problem.budget, (problem.budget, spoken_for)
    return ledger


def check_network(make, problem):
    ledger = check_counts(make, problem)
    with seeded("every budget"):
        network = make().build(problem)
    built = network.ledger(problem.budget).check("network")
    assert (built.total, built.remark) == (ledger.total, ledger.remark)
    assert built.reach in (None, 1.0) or "no weight" in built.remark
    network(torch.randn(2, *problem.signature.input_shape)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.timeout(1800)  # of the whole; a sample takes a second
@pytest.mark.parametrize(("method", "architecture"), PAIRS)
@pytest.mark.parametrize(
    ("counted", "run"), [(3, 1), pytest.param(200, 200, marks=pytest.mark.exhaustive)], ids=["sample", "whole"]
)
def test_any_budget(method, architecture, counted, run):
    name, options = METHODS[method]
    make = functools.partial(plugins.methods.load(name), options)
    large = architecture == "wrn-28-10"
    run = (0 if run == 1 else 12) if large else run
    for number, problem in enumerate(problems(method, architecture, counted)):
        check = check_network if number < run else check_counts
        check(make, supported(make, problem))
