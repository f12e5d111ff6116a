"""Which fields of a recipe go with which optimiser, schedule and stop rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping


class _Users(NamedTuple):
    """The values of a field, `optimiser` or `schedule`, that make use of a setting."""

    field: str
    values: tuple[str, ...]


class _Need(NamedTuple):
    """A field that a setting needs.

    Attributes:
        field: the field.
        unused: its value where it is not in use, and the setting means nothing.
        remedy: what to do about it.
    """

    field: str
    unused: Any
    remedy: str


_ADAMS = ("adam", "adamw", "adamax")
_USERS = {
    "momentum": _Users("optimiser", ("sgd",)),
    "nesterov": _Users("optimiser", ("sgd",)),
    "betas": _Users("optimiser", _ADAMS),
    "epsilon": _Users("optimiser", _ADAMS),
    "milestones": _Users("schedule", ("step",)),
    "iteration_milestones": _Users("schedule", ("step",)),
    "gamma": _Users("schedule", ("step", "exponential")),
    "warmup": _Users("schedule", ("one-cycle", "linear")),
}
_NEEDS = {
    "warmup_factors": _Need("warmup_iterations", 0, "set warmup_iterations, the number of iterations that it takes"),
    "weight_decay_factors": _Need("weight_decay", 0.0, "set weight_decay, which the factors multiply"),
    "min_delta": _Need("stop_metric", None, "set stop_metric, the metric that must improve"),
    "patience": _Need("stop_metric", None, "set stop_metric, the metric that must improve"),
}
# There are results of recipes that have these settings and one of these schedules, which makes no use of them.
_TOLERATED = {"milestones", "gamma", "warmup"}
_TOLERANT = ("step", "cosine", "one-cycle")


def misfit(fields: Mapping[str, Any], written: Container[str]) -> str | None:
    """A message that names a setting which does not fit the rest of a recipe, and what would work; None if all fit.

    Args:
        fields: every field of the recipe.
        written: the fields to check: those that somebody wrote down, or those that differ from their defaults.
    """
    for setting, users in _USERS.items():
        chosen = fields[users.field]
        if setting not in written or chosen in users.values:
            continue
        own = [name for name, other in _USERS.items() if other.field == users.field and chosen in other.values]
        takes = f"; {chosen} takes {', '.join(own)}" if own else ""
        return f"{setting} does not fit {users.field} {chosen}: it is for {_either(users.values)}{takes}"
    for setting, need in _NEEDS.items():
        if setting in written and fields[need.field] == need.unused:
            return f"{setting} means nothing without {need.field}: {need.remedy}"
    return None


def tolerated(fields: Mapping[str, Any]) -> set[str]:
    """The settings that a recipe may have though its schedule makes no use of them, as it always could."""
    return _TOLERATED if fields["schedule"] in _TOLERANT else set()


def left_behind(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> Iterator[str]:
    """The settings that lose their meaning when a recipe is changed: those of an optimiser or schedule it had before.

    A setting that is itself among the changes is not one of them.

    Args:
        fields: every field of the recipe.
        changes: new values, by field.
    """
    replaced = {field for field, value in changes.items() if value != fields[field]}
    for setting, users in _USERS.items():
        if setting not in changes and users.field in replaced and changes[users.field] not in users.values:
            yield setting
    for setting, need in _NEEDS.items():
        if setting not in changes and need.field in replaced and changes[need.field] == need.unused:
            yield setting


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
