"""The optimiser that a recipe asks for, with a learning rate and a weight decay for each parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from npas_bench.budget import Role
from npas_bench.errors import RecipeError
from npas_bench.torch_internals import is_normalisation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from npas_bench.generation.engine import Replaced
    from npas_bench.network import Network
    from npas_bench.recipe import Recipe

# The entry of a parameter group that holds its learning-rate factor, where that is not 1.
_FACTOR = "learning_rate_factor"
_ARCHITECTURE = "architecture."
_KINDS = ("biases", "norms", "embeddings")
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class _Named(NamedTuple):
    """A trainable parameter with what a recipe's factors may call it.

    Attributes:
        parameter: the parameter.
        role: its role in the ledger.
        kind: `biases`, `norms` or `embeddings` for a fixed parameter that is one; otherwise empty.
        place: its name in the architecture; empty for a parameter of a method.
    """

    parameter: nn.Parameter
    role: Role
    kind: str
    place: str

    def is_called(self, key: str) -> bool:
        """Tell whether a key of a recipe's factors names this parameter."""
        return key in (self.role, self.kind) or _is_within(self.place, key)


def make_optimiser(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser of a network's trainable parameters.

    Coefficients and layer embeddings do not decay, unless the recipe's `weight_decay_factors` name `coefficients`.

    Raises:
        RecipeError: if a learning-rate factor or a weight-decay factor names nothing in the network.
    """
    named = _named_parameters(network)
    check_factors(network, recipe)
    # Results depend on the order: first what decays, then what does not.
    decayed = [one for one in named if one.role is not Role.COEFFICIENTS]
    free = [one for one in named if one.role is Role.COEFFICIENTS]
    groups = [*_groups(decayed, recipe, recipe.weight_decay), *_groups(free, recipe, _decay_of_coefficients(recipe))]
    return _optimiser(groups, recipe, on_gpu=all(one.parameter.is_cuda for one in named))


def names_branches(recipe: Recipe) -> bool:
    """Tell whether a recipe's factors name anything that not every network has."""
    return bool((recipe.learning_rate_factors.keys() | recipe.weight_decay_factors.keys()) - {*Role, *_KINDS})


def check_factors(network: Network, recipe: Recipe) -> None:
    """Refuse a recipe whose factors name something that a network does not have; it may be on the meta device.

    Raises:
        RecipeError: if there is such a factor; the message says what may be named.
    """
    for field in ("learning_rate_factors", "weight_decay_factors"):
        _check_keys(field, getattr(recipe, field), network)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group of parameters, each with its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(_FACTOR, 1)


def replace_parameter(optimiser: torch.optim.Optimizer, replaced: Replaced) -> None:
    """Let an optimiser go on with a parameter's successor, each row of which keeps the state of the row it comes from.

    Args:
        optimiser: the optimiser; changed in place.
        replaced: the parameter, its successor, and which row of the one each row of the other comes from.
    """
    for group in optimiser.param_groups:
        group["params"] = [replaced.new if p is replaced.old else p for p in group["params"]]
    state = optimiser.state.pop(replaced.old, {})
    for key, value in state.items():
        follows = isinstance(value, torch.Tensor) and value.shape == replaced.old.shape
        optimiser.state[replaced.new][key] = value[replaced.rows].clone() if follows else value


def _optimiser(groups: list[dict[str, Any]], recipe: Recipe, *, on_gpu: bool) -> torch.optim.Optimizer:
    # One kernel for all parameters; on a CPU it would round otherwise than in results that are there.
    fused = on_gpu or None
    rate, betas, epsilon = recipe.learning_rate, recipe.betas, recipe.epsilon
    match recipe.optimiser:
        case "sgd":
            nesterov = recipe.nesterov and recipe.momentum > 0
            return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=betas, eps=epsilon, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=epsilon, fused=fused)
        case "adamax":
            return torch.optim.Adamax(groups, lr=rate, betas=betas, eps=epsilon)


def _decay_of_coefficients(recipe: Recipe) -> float:
    # Decay would pull layers' coefficients and embeddings together towards zero.
    return recipe.weight_decay if Role.COEFFICIENTS in recipe.weight_decay_factors else 0.0


def _groups(named: Iterable[_Named], recipe: Recipe, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters with the same learning-rate factor and weight decay, in the order of their first."""
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for one in named:
        decay = weight_decay * _product(one, recipe.weight_decay_factors)
        found.setdefault((_product(one, recipe.learning_rate_factors), decay), []).append(one.parameter)
    return [
        {"params": parameters, "weight_decay": decay} | ({_FACTOR: factor} if factor != 1 else {})
        for (factor, decay), parameters in found.items()
    ]


def _product(one: _Named, factors: Mapping[str, float]) -> float:
    return math.prod((factor for key, factor in factors.items() if one.is_called(key)), start=1.0)


def _named_parameters(network: Network) -> list[_Named]:
    roles, kinds = network.roles(), _kinds(network)
    return [
        _Named(
            parameter,
            roles.get(name, Role.FIXED),
            kinds.get(name, ""),
            name.removeprefix(_ARCHITECTURE) if name.startswith(_ARCHITECTURE) else "",
        )
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]


def _kinds(network: Network) -> dict[str, str]:
    """The kind of each of the architecture's parameters that has one, by its name in the network."""
    return {
        f"{path}.{name}": kind
        for path, module in network.named_modules()
        if path.startswith(_ARCHITECTURE)
        for name, _ in module.named_parameters(recurse=False)
        if (kind := _kind(module, name))
    }


def _kind(module: nn.Module, parameter: str) -> str:
    if is_normalisation(module) or isinstance(module, _NORMS) or hasattr(module, "normalisation_statistics"):
        return "norms"
    if isinstance(module, nn.Embedding):
        return "embeddings"
    # Recurrent layers have several, `bias_ih_l0` and so on.
    return "biases" if parameter.startswith("bias") else ""


def _check_keys(field: str, factors: Mapping[str, float], network: Network) -> None:
    places = _places(network)
    for key in factors:
        if key not in (*Role, *_KINDS) and not any(_is_within(place, key) for place in places):
            branches = sorted({place.partition(".")[0] for place in places})
            raise RecipeError(
                f"{field} names '{key}', which the network does not have: name a role ({', '.join(Role)}), a kind of "
                f"parameter ({', '.join(_KINDS)}) or a branch of the architecture ({', '.join(branches)})"
            )


def _places(network: Network) -> Sequence[str]:
    """The names of the architecture's parameters, weights that a method generates included."""
    own = [name.removeprefix(_ARCHITECTURE) for name, _ in network.named_parameters() if name.startswith(_ARCHITECTURE)]
    return [*own, *(layer.name for layer in getattr(network, "layers", ()))]


def _is_within(place: str, branch: str) -> bool:
    return place == branch or place.startswith(f"{branch}.")
