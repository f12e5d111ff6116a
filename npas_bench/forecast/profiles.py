"""Profiles of cells that take equally long for an epoch, and what past runs of each profile took."""

from __future__ import annotations

import json
import statistics
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npas_bench.cells.cell import Cell
    from npas_bench.database.queries.timings import Timing
    from npas_bench.runner.work import Engine

# These fields of a recipe do not change how long an epoch takes; any other field may, also one that is added later.
_FREE = {
    *("name", "epochs", "learning_rate", "learning_rate_factors", "schedule", "milestones", "iteration_milestones"),
    *("gamma", "warmup", "warmup_iterations", "warmup_factors", "momentum", "nesterov", "betas", "epsilon"),
    *("weight_decay", "weight_decay_factors", "label_smoothing", "min_delta", "patience"),
}
# The forecast reads these fields of every recipe.
_ALWAYS = ("batch_size", "threads")


class Profile(NamedTuple):
    """What cells have in common that take equally long for an epoch: all but their seeds and what costs no time.

    Attributes:
        options: the method's options as sorted JSON.
        recipe: the fields of the recipe that may cost time, as sorted JSON.
        engine: names of the switches that are on.
    """

    task: str
    architecture: str
    method: str
    options: str
    budget: int
    recipe: str
    engine: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str]:
        """The task and the architecture."""
        return self.task, self.architecture


class ProfileRuns(NamedTuple):
    """The past runs of a profile on one machine.

    Attributes:
        epochs: each run's seconds of an epoch, over which the time of the search is spread.
        examples: number of examples that an epoch seems to have; None if no run tells.
        evaluation: time of an evaluation relative to an epoch.
        memory: bytes at the largest peak.
    """

    profile: Profile
    machine: str
    epochs: tuple[float, ...]
    examples: float | None
    evaluation: float | None
    memory: int | None


def profile_of(cell: Cell, engine: Engine) -> Profile:
    """The profile of a cell."""
    return Profile(
        cell.task,
        cell.architecture,
        cell.method,
        _sorted(json.dumps(dict(cell.options))),
        cell.budget,
        _costly(json.dumps(cell.recipe.model_dump(mode="json"))),
        tuple(engine.names()),
    )


def grouped(timings: Iterable[Timing], device_class: str) -> list[ProfileRuns]:
    """Past runs grouped by profile and machine, in the order of each group's first run.

    Runs that earlier versions imported with a recipe that nothing can be trained by are left out.

    Args:
        timings: timings of runs on one class of devices.
        device_class: `cpu`, whose machines are told apart by the class of their host, or `cuda`, by the GPU's name.
    """
    found: dict[tuple[Profile, str], list[Timing]] = {}
    for timing in timings:
        if not _can_train(timing.recipe):
            continue
        profile = Profile(
            timing.task,
            timing.architecture,
            timing.method,
            _sorted(timing.options),
            timing.budget,
            _costly(timing.recipe),
            tuple(json.loads(timing.engine)) if timing.engine else (),
        )
        machine = timing.device if device_class == "cuda" else timing.host or timing.device
        found.setdefault((profile, machine), []).append(timing)
    return [_group(profile, machine, runs) for (profile, machine), runs in found.items()]


def _group(profile: Profile, machine: str, runs: list[Timing]) -> ProfileRuns:
    batch = json.loads(profile.recipe)["batch_size"]
    epochs = tuple(run.train_seconds / (run.trained_epochs or _fields(run.recipe)["epochs"]) for run in runs)
    steps = [seconds / run.seconds_per_step for seconds, run in zip(epochs, runs, strict=True) if run.seconds_per_step]
    evaluations = [
        run.evaluate_seconds / seconds for seconds, run in zip(epochs, runs, strict=True) if run.evaluate_seconds
    ]
    return ProfileRuns(
        profile,
        machine,
        epochs,
        statistics.median(steps) * batch if steps else None,
        statistics.median(evaluations) if evaluations else None,
        max((run.peak_memory for run in runs if run.peak_memory), default=None),
    )


@lru_cache(maxsize=1000)
def _fields(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text)
    return fields


@lru_cache(maxsize=1000)
def _can_train(recipe: str) -> bool:
    from npas_bench.recipe.stored import refusal

    return refusal(_fields(recipe)) is None


@lru_cache(maxsize=1000)
def _sorted(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


@lru_cache(maxsize=1000)
def _costly(text: str) -> str:
    """The fields of a stored recipe that may cost time, whichever fields existed when it was stored."""
    from npas_bench.recipe.stored import defaults, differing

    fields = _fields(text)
    kept = {name: value for name, value in differing(fields).items() if name not in _FREE}
    always = {name: fields.get(name, defaults().get(name)) for name in _ALWAYS}
    return json.dumps(kept | always, sort_keys=True)
