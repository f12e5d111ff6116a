"""Random cells: any method with any options on any architecture at any budget, and every refusal followed to its bound.

A sample runs with the whole suite; all of it with `pytest -m exhaustive tests/methods/test_random_cells.py`.
"""

import math
from functools import cache
from typing import Literal, get_args, get_origin

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import OptionError, UnsupportedBudget
from npas_bench.methods import Problem
from npas_bench.seeding import generator, seeded
from npas_bench.testing.architectures import EXAMPLES

SMALL = ("wrn-10-1", "wrn-16-1", "densenet-bc-10-2", "densenet-bc-22-4")
LARGE = ("wrn-16-2", "wrn-22-4", "resnet-10", "resnet-18", "efficientnet-b0", "efficientnet-nd", "densenet-121")
# The methods with most options are drawn most often.
METHODS = (*plugins.methods.names(), *("ssn",) * 8, *("superweights",) * 4, *("hypernetwork", "swrn") * 2)
# Whole networks are built, besides being counted, up to so many scalars.
BUILT = 60_000


@cache
def places(name, channels, classes):
    """An architecture with the signature that it is built for."""
    example = {a.name: a for a in EXAMPLES}.get(name)
    if example is not None:
        return example, example.signature
    return plugins.architecture(name), ImageSignature((channels, 8, 8), classes)


@cache
def full_size(architecture, signature):
    return architecture.size(signature)


def whole_numbers(low, high):
    """Mostly small ones, and now and then one of any size."""
    return st.one_of(st.integers(low, min(high, low + 12)), st.integers(low, high))


def values(field):
    """Values that the type and the bounds of an option allow."""
    choices = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    if get_origin(field.annotation) is Literal:
        return st.sampled_from(choices)
    kind = choices[0] if choices else field.annotation
    bounds = {name: getattr(limit, name) for limit in field.metadata for name in ("ge", "gt", "le", "lt")
              if hasattr(limit, name)}  # fmt: skip
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if kind is int:
        # Sizes in the thousands are allowed, and would only make the largest networks larger.
        return whole_numbers(low, min(high, 3000))
    return st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds)


@st.composite
def methods(draw):
    """A method with options that fit each other."""
    cls = plugins.methods.load(draw(st.sampled_from(METHODS)))
    given_options = {name: draw(values(f)) for name, f in cls.Options.model_fields.items() if draw(st.booleans())}
    while True:
        try:
            return cls(given_options)
        except OptionError:
            # What has no effect with the others is left out, one option after the other.
            given_options.pop(draw(st.sampled_from(sorted(given_options))))


@st.composite
def cells(draw, names):
    """A method and a problem at a budget between a two-thousandth and twenty times of the architecture's size."""
    name = draw(st.sampled_from((*(a.name for a in EXAMPLES), *names)))
    architecture, signature = places(name, draw(st.sampled_from((1, 3))), draw(st.sampled_from((2, 5, 10))))
    share = math.exp(draw(st.floats(math.log(0.0005), math.log(20))))
    budget = max(1, int(share * full_size(architecture, signature)))
    return draw(methods()), Problem(architecture, signature, budget, draw(st.integers(0, 2**32)))


def at(problem, budget):
    return Problem(problem.architecture, problem.signature, budget, problem.seed)


def counted(method, problem):
    """The ledger, which keeps the budget; or how the cell is refused."""
    try:
        return method.preview(problem).check("preview")
    except (UnsupportedBudget, OptionError) as refusal:
        return refusal


def check_bound(method, problem, refusal):
    """The bound that a refusal names works, and it is the bound: next to it, the same refusal names the same bound."""
    smallest, largest = refusal.smallest, refusal.largest
    assert (smallest is None) != (largest is None), refusal
    bound, beyond = (smallest, smallest - 1) if largest is None else (largest, largest + 1)
    assert beyond >= problem.budget if largest is None else beyond <= problem.budget, refusal
    assert not isinstance(counted(method, at(problem, bound)), Exception), counted(method, at(problem, bound))
    again = counted(method, at(problem, beyond))
    if beyond > 0:
        assert isinstance(again, UnsupportedBudget), f"{beyond} works, though {refusal}"
        assert (again.smallest, again.largest) == (smallest, largest)
    return bound


def check_network(method, problem, ledger):
    with seeded("random cells"):
        network = method.build(problem)
    built = network.ledger(problem.budget).check("network")
    assert (built.total, built.remark) == (ledger.total, ledger.remark)
    dead = dead_scalars(network)
    assert (built.reach == 1.0) == (dead == 0), (built.reach, dead)
    if dead:
        assert f"{dead:,} parameter" in (built.remark or ""), (dead, built.remark)


def dead_scalars(network):
    """The number of trained scalars that no weight depends on, found by ordinary autograd, without the engine."""
    allocation = getattr(network, "allocation", None)
    trained = [] if allocation is None else [p for p in allocation.parameters() if p.requires_grad]
    draw, alive = generator("dead"), [torch.zeros_like(p, dtype=torch.bool) for p in trained]
    for _ in range(3 if trained else 0):
        weights = [allocation.weight(layer.name) for layer in network.layers]
        objective = sum((w * torch.rand(w.shape, generator=draw)).sum() for w in weights)
        for reached, gradient in zip(alive, torch.autograd.grad(objective, trained, allow_unused=True), strict=True):
            reached |= torch.zeros(()) != (0 if gradient is None else gradient)
    return sum(int((~reached).sum()) for reached in alive)


def check_cell(cell):
    method, problem = cell
    found = counted(method, problem)
    if isinstance(found, OptionError):
        # What is refused for its options is refused at any budget, and no bound is named for it.
        for budget in (1, problem.full, 40 * problem.full):
            assert isinstance(counted(method, at(problem, budget)), OptionError), budget
        return
    if isinstance(found, UnsupportedBudget):
        problem = at(problem, check_bound(method, problem, found))
        found = counted(method, problem)
    assert found.remark is not None or method.whole or found.total + found.reserved >= 0.99 * problem.budget
    if problem.full < BUILT and problem.budget < BUILT:
        check_network(method, problem, found)


def known(method, options, name, budget, channels=3, classes=10):
    return plugins.methods.load(method)(options), Problem(*places(name, channels, classes), budget)


@example(known("ssn", {"mapping": "random", "groups": 40}, "wrn-10-1", 500))
@example(known("ssn", {"mapping": "manual"}, "mlp", 50))
@example(known("ssn", {}, "densenet-bc-10-2", 286, 1, 2))
@example(known("ssn", {"mask_window": 40}, "densenet-bc-10-2", 280, 1, 2))
@example(known("superweights", {}, "densenet-bc-10-2", 27, 1, 2))
@example(known("reduced", {}, "gru", 100))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cells(SMALL))
def test_a_random_cell_keeps_its_budget_or_names_the_bound_that_works(cell):
    check_cell(cell)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(cells(SMALL + LARGE))
def test_a_thousand_random_cells_keep_their_budgets_or_name_the_bounds_that_work(cell):
    check_cell(cell)
