"""Each optimiser and schedule against a training loop that is written out by hand, in double precision."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from npas_bench.budget import Role
from npas_bench.cells.cell import Cell
from npas_bench.errors import RecipeError
from npas_bench.generation.engine import Replaced
from npas_bench.methods.ssn import SSN
from npas_bench.network import PlainNetwork
from npas_bench.recipe import Recipe
from npas_bench.runner.build import problem_of
from npas_bench.tasks.classification.digits import Digits
from npas_bench.training.optimisers import make_optimiser, replace_parameter, set_learning_rate
from npas_bench.training.schedule import learning_rate

STEPS, EPOCHS = 20, 4
OPTIMISERS = {
    "sgd": {},
    "sgd without momentum": {"momentum": 0.0},
    "sgd without Nesterov": {"nesterov": False, "momentum": 0.8},
    "adam": {"betas": (0.8, 0.95), "epsilon": 1e-6},
    "adamw": {},
    "adamax": {"epsilon": 1e-7},
}
SCHEDULES = {
    "step": {"milestones": (0.25, 0.7), "iteration_milestones": (3, 12), "gamma": 0.25},
    "cosine": {},
    "one-cycle": {"warmup": 0.25},
    "exponential": {"gamma": 0.794},
    "linear": {"warmup": 0.1},
}
WARM_UPS = {"no warm-up": {}, "warm-up": {"warmup_iterations": 8, "warmup_factors": (0.5, 2.0)}}


class Branches(nn.Module):
    """Two branches that are compared, one of them with an embedding and a norm."""

    def __init__(self):
        super().__init__()
        self.image = nn.Linear(5, 4)
        self.text = nn.Sequential(nn.Embedding(7, 5), nn.LayerNorm(5), nn.Linear(5, 4))

    def forward(self, pixels, words):
        return (self.image(pixels) * self.text(words)).sum(1)


def network():
    torch.manual_seed(0)
    return PlainNetwork(Branches()).double()


def gradients(net, step):
    """Gradients of one step's batch, which depend on the parameters."""
    draw = torch.Generator().manual_seed(step)
    pixels = torch.randn(6, 5, generator=draw, dtype=torch.float64)
    words = torch.randint(0, 7, (6,), generator=draw)
    target = torch.randn(6, generator=draw, dtype=torch.float64)
    loss = functional.mse_loss(net(pixels, words), target)
    return torch.autograd.grad(loss, list(net.parameters()))


def rate_by_hand(recipe, step):
    epoch, done, peak = step // (STEPS // EPOCHS), step / STEPS, recipe.learning_rate
    if recipe.schedule == "step":
        falls = sum(done >= share for share in recipe.milestones) + sum(step >= n for n in recipe.iteration_milestones)
        rate = peak * recipe.gamma**falls
    elif recipe.schedule == "cosine":
        rate = peak * 0.5 * (1 + math.cos(math.pi * done))
    elif recipe.schedule == "exponential":
        rate = peak
        for _ in range(epoch):
            rate *= recipe.gamma
    else:
        rising = int(recipe.warmup * STEPS)
        if recipe.schedule == "linear":
            rate = peak * (step / rising if step < rising else (STEPS - step) / (STEPS - rising))
        elif step < rising:
            rate = peak * (step + 1) / rising
        else:
            rate = peak * 0.5 * (1 + math.cos(math.pi * (step + 1 - rising) / (STEPS - rising)))
    if recipe.warmup_iterations:
        first, last = recipe.warmup_factors
        rate *= first + (last - first) * min(step, recipe.warmup_iterations) / recipe.warmup_iterations
    return rate


class ByHand:
    """The update of one parameter, as the papers write it."""

    def __init__(self, recipe, decay, factor):
        self.recipe, self.decay, self.factor = recipe, decay, factor
        self.first = self.second = self.velocity = None
        self.step = 0

    @torch.no_grad()
    def update(self, parameter, gradient, rate):
        rate, self.step = rate * self.factor, self.step + 1
        if self.recipe.optimiser == "adamw":
            parameter -= rate * self.decay * parameter
        else:
            gradient = gradient + self.decay * parameter
        if self.recipe.optimiser == "sgd":
            parameter -= rate * self.direction(gradient)
            return
        low, high = self.recipe.betas
        self.first = (1 - low) * gradient + (0 if self.first is None else low * self.first)
        mean = self.first / (1 - low**self.step)
        if self.recipe.optimiser == "adamax":
            size = gradient.abs() + self.recipe.epsilon
            self.second = size if self.second is None else torch.maximum(high * self.second, size)
            parameter -= rate * mean / self.second
        else:
            self.second = (1 - high) * gradient**2 + (0 if self.second is None else high * self.second)
            parameter -= rate * mean / ((self.second / (1 - high**self.step)).sqrt() + self.recipe.epsilon)

    def direction(self, gradient):
        momentum = self.recipe.momentum
        if not momentum:
            return gradient
        self.velocity = gradient if self.velocity is None else momentum * self.velocity + gradient
        return gradient + momentum * self.velocity if self.recipe.nesterov else self.velocity


def train_by_hand(recipe, decays, factors):
    net = network()
    names = [name.removeprefix("architecture.") for name, _ in net.named_parameters()]
    updates = [ByHand(recipe, decays.get(name, recipe.weight_decay), factors.get(name, 1)) for name in names]
    for step in range(STEPS):
        rate = rate_by_hand(recipe, step)
        for update, parameter, gradient in zip(updates, net.parameters(), gradients(net, step), strict=True):
            update.update(parameter, gradient, rate)
    return net


def train(recipe):
    net = network()
    optimiser = make_optimiser(net, recipe)
    for step in range(STEPS):
        set_learning_rate(optimiser, learning_rate(recipe, step, STEPS))
        for parameter, gradient in zip(net.parameters(), gradients(net, step), strict=True):
            parameter.grad = gradient
        optimiser.step()
    return net


def assert_equal(one, other):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def recipe_of(**fields):
    return Recipe(**{"epochs": EPOCHS, "batch_size": 6, "learning_rate": 0.02, "weight_decay": 0.05} | fields)


@pytest.mark.parametrize(
    ("optimiser", "schedule", "warm_up"),
    list(itertools.product(OPTIMISERS, SCHEDULES, WARM_UPS)),
    ids=lambda value: value.replace(" ", "-"),
)
def test_twenty_steps_equal_a_loop_written_by_hand(optimiser, schedule, warm_up):
    fields = OPTIMISERS[optimiser] | SCHEDULES[schedule] | WARM_UPS[warm_up]
    recipe = recipe_of(optimiser=optimiser.split()[0], schedule=schedule, **fields)
    trained = train(recipe)
    assert_equal(trained, train_by_hand(recipe, {}, {}))
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), network().parameters(), strict=True))


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "adamax"])
def test_factors_by_role_kind_and_branch_multiply(optimiser):
    recipe = recipe_of(
        optimiser=optimiser,
        learning_rate_factors={"text": 2.0, "biases": 0.5, "image.weight": 3.0},
        weight_decay_factors={"norms": 0.0, "biases": 0.0, "embeddings": 0.5, "store": 4.0, "text": 0.1},
    )
    factors = {
        **{"image.weight": 3.0, "image.bias": 0.5, "text.2.bias": 1.0},
        **dict.fromkeys(("text.0.weight", "text.1.weight", "text.1.bias", "text.2.weight"), 2.0),
    }
    decays = {
        **dict.fromkeys(("image.bias", "text.1.weight", "text.1.bias", "text.2.bias"), 0.0),
        # The embedding's table is fixed, linear layers' weights are stores of their own.
        **{"image.weight": 0.05 * 4, "text.2.weight": 0.05 * 0.4, "text.0.weight": 0.05 * 0.05},
    }
    assert_equal(train(recipe), train_by_hand(recipe, decays, factors))


@pytest.mark.parametrize(
    ("fields", "key"),
    [({"learning_rate_factors": {"txt": 2}}, "txt"), ({"weight_decay_factors": {"text.9": 2}}, "text.9")],
)
def test_a_factor_that_names_nothing_is_refused_with_what_there_is(fields, key):
    with pytest.raises(RecipeError) as caught:
        make_optimiser(network(), recipe_of(**fields))
    message = str(caught.value)
    assert f"{next(iter(fields))} names '{key}'" in message
    assert "fixed, store, coefficients, masks, generators" in message
    assert "biases, norms, embeddings" in message
    assert "(image, text)" in message


def test_a_branch_of_generated_weights_is_known_though_its_parameters_are_the_methods():
    cell = Cell("digits", 1, "wrn-10-1", "ssn", 1, {}, 7756, recipe_of(), 0)
    net = SSN().build(problem_of(cell, Digits()))
    generated = {layer.name.partition(".")[0] for layer in net.layers}
    held = {name.split(".")[1] for name, _ in net.named_parameters() if name.startswith("architecture.")}
    (branch, *_) = generated - held
    optimiser = make_optimiser(net, recipe_of(learning_rate_factors={branch: 2.0}))
    assert {group.get("learning_rate_factor", 1) for group in optimiser.param_groups} == {1}


def test_coefficients_decay_only_where_a_recipe_names_them():
    class Mixed(PlainNetwork):
        def roles(self):
            return super().roles() | {"architecture.image.weight": Role.COEFFICIENTS}

    net = Mixed(Branches())
    for factors, decay in (({}, 0.0), ({"coefficients": 1.0}, 0.05), ({"coefficients": 0.5}, 0.025)):
        groups = make_optimiser(net, recipe_of(weight_decay_factors=factors)).param_groups
        (own,) = (g["weight_decay"] for g in groups if any(p is net.architecture.image.weight for p in g["params"]))
        assert own == decay


def test_a_recipe_without_factors_has_the_groups_that_results_were_made_with():
    groups = make_optimiser(network(), recipe_of()).param_groups
    assert len(groups) == 1
    assert "learning_rate_factor" not in groups[0]
    assert (groups[0]["nesterov"], groups[0]["momentum"], groups[0]["fused"]) == (True, 0.9, None)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "adamax"])
def test_a_parameters_successor_goes_on_with_the_state_of_its_rows(optimiser):
    """Rows that come from one row move as it would have moved, as they have its state and see its gradient."""
    old = nn.Parameter(torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    net = PlainNetwork(nn.ParameterList([old]))
    made = make_optimiser(net, recipe_of(optimiser=optimiser))
    for step in range(3):
        old.grad = torch.full_like(old, step - 1.5)
        made.step()
    rows = [2, 0, 0, 1]
    new = nn.Parameter(old.detach()[rows].clone())
    twin, state = nn.Parameter(old.detach().clone()), copy.deepcopy(made.state_dict())
    reference = make_optimiser(PlainNetwork(nn.ParameterList([twin])), recipe_of(optimiser=optimiser))
    reference.load_state_dict(state)
    replace_parameter(made, Replaced(old, new, rows))
    for optimiser_of, parameter in ((made, new), (reference, twin)):
        parameter.grad = torch.ones_like(parameter)
        optimiser_of.step()
    assert torch.equal(new, twin[rows])


def test_an_optimisers_factors_survive_its_state_dict():
    recipe = recipe_of(optimiser="adam", learning_rate_factors={"text": 2.0})
    resumed = make_optimiser(network(), recipe)
    resumed.load_state_dict(copy.deepcopy(make_optimiser(network(), recipe).state_dict()))
    set_learning_rate(resumed, 0.1)
    assert sorted({group["lr"] for group in resumed.param_groups}) == [0.1, 0.2]
