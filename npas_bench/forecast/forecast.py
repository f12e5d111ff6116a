"""Forecasts of time and memory of cells, learned from finished runs.

The logarithm of the seconds of an epoch is what the operations of the plain network would take (`demand`) plus
effects of the machine, task, architecture, recipe, method, options and budget, each of which is drawn from a normal
distribution around zero. This is ridge regression in its dual form. A cell whose profile was run before is forecast
from those runs; a cell of another budget, method or task from the effects that are known; and all others from their
operations. The seconds are proportional to the epochs. The same equations tell, without a second fit, what the
forecast of each past run would have been if its own profile had never been run.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from typing_extensions import override

from npas_bench.database.bounds import LONGEST
from npas_bench.database.queries.timings import read_timings
from npas_bench.forecast.demand import Demands, step_seconds
from npas_bench.forecast.profiles import Profile, ProfileRuns, grouped, profile_of
from npas_bench.runner.device import describe_device, device_class
from npas_bench.runner.work import Engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.database.opening import Database
    from npas_bench.database.queries.timings import Timing
    from npas_bench.forecast.demand import Demand
    from npas_bench.runner.planned import PlannedCell

Basis = Literal["runs", "neighbours", "operations"]

# The assumed spread of the effects, as standard deviations of the logarithm of seconds.
_SPREADS = {
    "all": 2.0,
    "machine": 0.7,
    "engine": 0.3,
    "task": 0.5,
    "architecture": 0.4,
    "task and architecture": 0.3,
    "recipe": 0.5,
    "task, architecture and recipe": 0.2,
    "method": 0.5,
    "options": 0.2,
    "method on architecture": 0.15,
    "method on machine": 0.1,
    "profile": 0.15,
}
# The assumed spread of the runs of a profile around its median, used if there are too few runs to estimate it.
_NOISE = 0.15
# At most so many profiles are learned from, since the time of the equations grows with their cube.
_MOST_PROFILES = 1500
# Operations are counted for at most so many pairs of task and architecture of past runs.
_MOST_COUNTED = 12
WITHIN = 1.5
# Bytes that a process takes besides its network: on a CPU with all libraries, on a GPU without them.
_LIBRARIES = {"cpu": 900 * 2**20, "cuda": 64 * 2**20}
# No forecast is longer than a run can be.
_LONGEST_LOG = math.log(LONGEST)
# The assumed time of an evaluation relative to an epoch of training, used if no run tells.
_EVALUATION = 0.2


class Estimate(NamedTuple):
    """The forecast for a cell.

    Attributes:
        seconds: seconds of training and evaluation.
        memory: bytes at its peak; None if that is not known.
        basis: what the forecast rests on: `runs` of its profile; `neighbours`, other runs on its task and architecture
            or of its method; or else `operations`, at the speed of other runs.
        measured: whether the memory was measured in such runs, and not only counted.
    """

    seconds: float
    memory: int | None
    basis: Basis
    measured: bool


class HitRate(NamedTuple):
    """How many forecasts of past runs were right within a factor of `WITHIN`."""

    right: int
    of: int

    @override
    def __str__(self) -> str:
        return f"{100 * self.right / self.of:.0f} % of {self.of:,}" if self.of else "none"


class Hindcast(NamedTuple):
    """How right forecasts of past runs would have been.

    Attributes:
        known: forecasts of each run whose profile has other runs, from all runs but itself.
        new: forecasts of each run from the runs of other profiles.
        factor: the factor within which a forecast counts as right.
    """

    known: HitRate
    new: HitRate
    factor: float = WITHIN


class Forecast:
    """Estimates from past runs.

    Args:
        timings: timings of past runs on one class of devices, the newest first.
        device: the device that cells will run on: `cpu`, `cuda` or `cuda:N`.
        machine: the label of this machine; see `machine_label`.
        demands: demands of networks that were counted before; None counts all anew.
    """

    def __init__(self, timings: Iterable[Timing], device: str, machine: str, demands: Demands | None = None) -> None:
        self._class = device_class(device)
        self._machine = machine
        self._demands = demands or Demands()
        self._groups = grouped(timings, self._class)[:_MOST_PROFILES]
        self._logs = [[math.log(seconds) for seconds in group.epochs] for group in self._groups]
        self._examples = _medians((group.profile.task, group.examples) for group in self._groups)
        self._evaluation = _medians((group.profile.task, group.evaluation) for group in self._groups)
        self._memory = _largest_memory(self._groups)
        self._profiles = {group.profile for group in self._groups}
        self._near = {near for group in self._groups for near in _near(group.profile)}
        self._offsets = self._offsets_of_groups()
        self._fit()

    @classmethod
    def learn(cls, databases: Sequence[Database], device: str) -> Forecast:
        """Learn from finished runs on the device's class in several databases; a run in several of them counts once."""
        timings: dict[str, Timing] = {}
        for database in databases:
            for timing in read_timings(database, device_class(device)):
                timings.setdefault(timing.uid, timing)
        return cls(timings.values(), device, machine_label(device))

    @property
    def runs(self) -> int:
        """The number of past runs that it was learned from."""
        return sum(map(len, self._logs))

    def of(self, one: PlannedCell, engine: Engine = Engine()) -> Estimate:  # noqa: B008 (immutable)
        """The forecast for a cell."""
        return self.all([one], engine)[0]

    def all(self, planned: Sequence[PlannedCell], engine: Engine = Engine()) -> list[Estimate]:  # noqa: B008 (immutable)
        """The forecasts for several cells; cells of the same kind share one."""
        # Cells of a grid share these objects, whose contents take long to compare.
        alike: dict[tuple[Any, ...], Estimate] = {}
        found = []
        for one in planned:
            cell = one.cell
            key = (cell.task, cell.architecture, cell.method, id(cell.options), cell.budget, id(cell.recipe))
            if key not in alike:
                alike[key] = self._estimate(one, engine)
            found.append(alike[key])
        return found

    def hindcast(self) -> Hindcast:
        """How right forecasts of past runs would have been: those of this machine, if it has any."""
        bar = math.log(WITHIN)
        known, new = [], []
        here = [row for row, group in enumerate(self._groups) if group.machine == self._machine]
        alike: dict[Profile, list[int]] = defaultdict(list)
        for row, group in enumerate(self._groups):
            alike[group.profile].append(row)
        for row in here or range(len(self._groups)):
            logs, offset = self._logs[row], self._offsets[row]
            without, _ = self._without(alike[self._groups[row].profile], row)
            mean, variance = self._without([row], row)
            spread = max(variance - self._noise**2 / len(logs), 1e-6)
            for index, log in enumerate(logs):
                new.append(bool(abs(log - offset - without) <= bar))
                others = logs[:index] + logs[index + 1 :]
                if others:
                    own = statistics.median(others) - offset - mean
                    share = spread / (spread + self._noise**2 / len(others))
                    known.append(bool(abs(log - offset - mean - share * own) <= bar))
        return Hindcast(HitRate(sum(known), len(known)), HitRate(sum(new), len(new)))

    def _without(self, rows: list[int], row: int) -> tuple[float, float]:
        """Each row's forecast from all other groups, and its variance, which follow from the inverse of the fit."""
        covariance = np.linalg.inv(self._inverse[np.ix_(rows, rows)])
        place = rows.index(row)
        mean = self._values[row] - covariance[place] @ self._solved[rows]
        return float(mean), float(covariance[place, place])

    def _estimate(self, one: PlannedCell, engine: Engine) -> Estimate:
        cell = one.cell
        profile = profile_of(cell, engine)
        demand = self._demands.of(cell)
        offset = None
        if profile.place not in self._uncounted:
            offset = self._offset(demand, profile, self._examples.get(cell.task) or self._count_examples(cell.task))
        if offset is None:
            offset = self._like(profile)
        # Effects that were learned from odd runs may add up to more than a floating-point number can hold.
        epoch = math.exp(min(offset + self._effect(profile), _LONGEST_LOG))
        evaluation = self._evaluation.get(cell.task, _EVALUATION)
        seconds = min(epoch * (cell.recipe.epochs + evaluation), LONGEST)
        for part in (profile, (*profile.place, profile.recipe)):
            if part in self._memory:
                return Estimate(seconds, self._memory[part], self._basis(profile), True)
        return Estimate(seconds, self._counted_peak(one, demand), self._basis(profile), False)

    def _count_examples(self, task: str) -> int:
        from npas_bench import plugins

        made = plugins.task(task)
        with plugins.tasks.asked(task.partition(":")[0]):
            self._examples[task] = len(made.data("train"))
        return int(self._examples[task])

    def _basis(self, profile: Profile) -> Basis:
        if profile in self._profiles:
            return "runs"
        return "neighbours" if any(part in self._near for part in _near(profile)) else "operations"

    def _counted_peak(self, one: PlannedCell, demand: Demand | None) -> int | None:
        if demand is None:
            return None
        # It is the sum of weights with gradients, trained scalars with gradient and momentum, and what a part keeps.
        recipe = one.cell.recipe
        kept = demand.kept * math.ceil(recipe.batch_size / recipe.parts) * (0.6 if recipe.precision == "bf16" else 1)
        return int(_LIBRARIES[self._class] + 8 * demand.scalars + 12 * one.cell.budget + 1.3 * kept)

    def _fit(self) -> None:
        """Solve for the weights that past groups have in every forecast."""
        values = np.array([statistics.median(logs) for logs in self._logs]) - self._offsets
        deviations = [abs(log - statistics.median(logs)) for logs in self._logs if len(logs) > 2 for log in logs]
        # For a normal distribution, 1.48 times the median absolute deviation is the standard deviation.
        self._noise = min(0.5, max(0.05, 1.48 * statistics.median(deviations))) if len(deviations) > 9 else _NOISE
        self._values = values
        self._codes: dict[str, dict[Any, int]] = {name: {} for name in _SPREADS}
        self._levels = np.array(
            [self._levels_of(group.profile, group.machine, grow=True) for group in self._groups], dtype=np.int64
        ).reshape(len(self._groups), len(_SPREADS))
        noise = np.diag([self._noise**2 / len(logs) for logs in self._logs])
        self._inverse = np.linalg.inv(self._kernel(self._levels) + noise)
        self._solved = self._inverse @ values

    def _effect(self, profile: Profile) -> float:
        if not self._groups:
            return 0.0
        levels = np.array([self._levels_of(profile, self._machine, grow=False)], dtype=np.int64)
        return float((self._kernel(levels) @ self._solved)[0])

    def _kernel(self, levels: Any) -> Any:
        kernel = np.zeros((len(levels), len(self._levels)))
        for column, spread in enumerate(_SPREADS.values()):
            kernel += spread**2 * (levels[:, None, column] == self._levels[None, :, column])
        return kernel

    def _levels_of(self, profile: Profile, machine: str, *, grow: bool) -> list[int]:
        """The index of each effect's level; -1 for a level that no past run has."""
        where, method = profile.place, (profile.method, profile.options)
        levels: dict[str, Any] = {
            "all": "",
            "machine": machine,
            "engine": profile.engine,
            "task": profile.task,
            "architecture": profile.architecture,
            "task and architecture": where,
            "recipe": profile.recipe,
            "task, architecture and recipe": (*where, profile.recipe),
            "method": profile.method,
            "options": method,
            "method on architecture": (profile.architecture, *method),
            "method on machine": (machine, *method),
            "profile": profile,
        }
        if grow:
            return [self._codes[name].setdefault(level, len(self._codes[name])) for name, level in levels.items()]
        return [self._codes[name].get(level, -1) for name, level in levels.items()]

    def _offsets_of_groups(self) -> Any:
        """For each group, the logarithm of an epoch's seconds by its operations alone."""
        frequent = Counter(group.profile.place for group in self._groups)
        self._uncounted = {place for place, _ in frequent.most_common()[_MOST_COUNTED:]}
        offsets = []
        for group in self._groups:
            profile, demand = group.profile, None
            if profile.place not in self._uncounted:
                demand = self._demands.find(*profile[:3], json.loads(profile.options), profile.budget)
            offsets.append(self._offset(demand, profile, self._examples.get(profile.task)))
        # If operations cannot be counted, runs on a task and architecture inform only forecasts for the same two.
        usual = _medians(
            (group.profile.place, statistics.median(logs)) for group, logs in zip(self._groups, self._logs, strict=True)
        )
        return np.array(
            [
                usual[g.profile.place] if offset is None else offset
                for g, offset in zip(self._groups, offsets, strict=True)
            ]
        )

    def _offset(self, demand: Demand | None, profile: Profile, examples: float | None) -> float | None:
        if demand is None or not examples:
            return None
        recipe = json.loads(profile.recipe)
        step = step_seconds(demand, recipe["batch_size"], recipe["threads"], self._class)
        return math.log(step * math.ceil(examples / recipe["batch_size"]))

    def _like(self, profile: Profile) -> float:
        """The offset of the most similar past runs, for a cell whose operations cannot be counted."""
        rows = [row for row, group in enumerate(self._groups) if group.profile.place == profile.place]
        chosen = self._offsets[rows] if rows else self._offsets
        return float(np.median(chosen)) if len(chosen) else 0.0


def machine_label(device: str) -> str:
    """A label that tells machines of different speed apart: the GPU's name, or the class of a host without a GPU."""
    if device_class(device) == "cuda":
        return describe_device(device)
    from npas_bench.runner.machine import host_class

    return host_class()


def _near(profile: Profile) -> tuple[tuple[str, ...], ...]:
    """The facts that make two profiles neighbours if they share one of them."""
    return (profile.place, ("method", profile.method))


def _medians(pairs: Iterable[tuple[Any, float | None]]) -> dict[Any, float]:
    found: dict[Any, list[float]] = defaultdict(list)
    for key, value in pairs:
        if value is not None:
            found[key].append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def _largest_memory(groups: Iterable[ProfileRuns]) -> dict[tuple[Any, ...], int]:
    """The largest peak of each profile, and of all profiles with the same task, architecture and recipe."""
    found: dict[tuple[Any, ...], int] = {}
    for group in groups:
        for part in (group.profile, (*group.profile.place, group.profile.recipe)):
            found[part] = max(found.get(part, 0), group.memory or 0)
    return {part: memory for part, memory in found.items() if memory}
