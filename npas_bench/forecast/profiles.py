"""Kinds of cells that take the same time an epoch, and what past runs of each took."""

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

# What of a recipe does not change how long an epoch takes; whatever else there is, or will be, may.
_FREE = {
    *("name", "epochs", "learning_rate", "learning_rate_factors", "schedule", "milestones", "iteration_milestones"),
    *("gamma", "warmup", "warmup_iterations", "warmup_factors", "momentum", "nesterov", "betas", "epsilon"),
    *("weight_decay", "weight_decay_factors", "label_smoothing", "min_delta", "patience"),
}
# What the forecast reads of every recipe.
_ALWAYS = ("batch_size", "threads")


class Profile(NamedTuple):
    """Cells that take the same time an epoch: they differ in their seed alone, or in what costs no time.

    Attributes:
        options: of the method, as sorted JSON.
        recipe: what of it may cost time, as sorted JSON.
        engine: switches that are on.
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
    """Past runs of a profile on one machine.

    Attributes:
        epochs: seconds of an epoch of each, the search shared out among the epochs.
        examples: that an epoch seems to have; None where nothing tells.
        evaluation: seconds of evaluation, beside an epoch's.
        memory: bytes at the largest peak.
    """

    profile: Profile
    machine: str
    epochs: tuple[float, ...]
    examples: float | None
    evaluation: float | None
    memory: int | None


def profile_of(cell: Cell, engine: Engine) -> Profile:
    """The profile that a cell is of."""
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
    """Past runs by profile and machine, in the order of their first.

    Args:
        timings: of one class of devices.
        device_class: `cpu`, whose machines are told apart by the class of their host, or `cuda`, by the GPU's name.
    """
    found: dict[tuple[Profile, str], list[Timing]] = {}
    for timing in timings:
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
def _sorted(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


@lru_cache(maxsize=1000)
def _costly(text: str) -> str:
    """What of a recipe may cost time, whatever fields there were when it was stored."""
    from npas_bench.recipe.stored import defaults, differing

    fields = _fields(text)
    kept = {name: value for name, value in differing(fields).items() if name not in _FREE}
    always = {name: fields.get(name, defaults().get(name)) for name in _ALWAYS}
    return json.dumps(kept | always, sort_keys=True)
