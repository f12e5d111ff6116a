"""What an evaluation yields: metrics of a whole network, and of the subjects and splits that a task tells apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The whole network, and the split that ranks it.
ALL = "all"
TEST = "test"


class Metric(NamedTuple):
    """A number that an evaluation yields.

    Attributes:
        name: name of the metric in the papers' tables, such as `error@1`.
        unit: `%` or empty.
        higher_is_better: whether a higher value is better.
        lowest: the lowest possible value; None for 0 in %, and for no bound in other units.
        highest: the highest possible value; None for 100 in %, and for no bound in other units.
    """

    name: str
    unit: str
    higher_is_better: bool
    lowest: float | None = None
    highest: float | None = None


class Measured(BaseModel):
    """The value of one metric, with what is needed to show and rank it.

    Attributes:
        name: name of the metric.
        value: a finite number.
        unit: `%` or empty.
        higher_is_better: whether a higher value is better.
        subject: what was evaluated: `all` for the whole network on all examples, otherwise for example a member of an
            ensemble, the unanswerable questions, or a kind of corruption.
        split: the split, or a named part of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    value: float
    unit: str = Field(max_length=16)
    higher_is_better: bool
    subject: str = Field(default=ALL, min_length=1, max_length=200)
    split: str = Field(default=TEST, min_length=1, max_length=100)

    @property
    def ranks(self) -> bool:
        """Tell whether the value ranks a run, as those of the whole network on the test split do."""
        return (self.subject, self.split) == (ALL, TEST)


class Subject(BaseModel):
    """Facts about something that was evaluated by itself.

    Attributes:
        name: the name that evaluations call it by, unique within a run.
        parameters: trainable scalars that it needs.
        forward_flops: floating-point operations of the forward pass of one example.
        latency_seconds: seconds that the forward pass of one example takes.
        detail: whatever else describes it, as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=200)
    parameters: int | None = Field(default=None, ge=0)
    forward_flops: int | None = Field(default=None, ge=0)
    latency_seconds: float | None = Field(default=None, ge=0)
    detail: dict[str, Any] | None = None


class Evaluation(NamedTuple):
    """Everything that a task measured of a network.

    Attributes:
        measured: values; those of subject `all` on the test split rank the run, and are the task's metrics.
        subjects: facts about the subjects of the other values, where there are any to tell.
    """

    measured: Sequence[Measured]
    subjects: Sequence[Subject] = ()

    @classmethod
    def of(cls, found: Mapping[str, float] | Evaluation, metrics: Sequence[Metric]) -> Evaluation:
        """The evaluation that a task's `evaluate` returned, which may be a plain dictionary of its metrics.

        Args:
            found: what `evaluate` returned: values by the names of the task's metrics, or an evaluation.
            metrics: the task's metrics, the primary one first; the values that rank a run come in their order.

        Raises:
            NpasBenchError: if a metric of the task is missing, something is measured twice, a value would rank runs
                though the task's metrics do not name it, or a subject has the name of everything together.
        """
        values = dict(found) if isinstance(found, Mapping) else _ranking_values(found, metrics)
        missing = [metric.name for metric in metrics if metric.name not in values]
        if missing:
            raise NpasBenchError(f"the task's evaluation lacks its metrics {', '.join(missing)}")
        # Unchecked: a value that is not finite is told by its name, by whoever stores it.
        ranking = [
            Measured.model_construct(
                name=metric.name,
                value=values[metric.name],
                unit=metric.unit,
                higher_is_better=metric.higher_is_better,
                subject=ALL,
                split=TEST,
            )
            for metric in metrics
        ]
        if isinstance(found, Mapping):
            return cls(ranking)
        return cls([*ranking, *found.others], _all_subjects(found))

    @property
    def ranking(self) -> list[Measured]:
        """The values that rank a run, the primary one first."""
        return [one for one in self.measured if one.ranks]

    @property
    def others(self) -> list[Measured]:
        """All other values."""
        return [one for one in self.measured if not one.ranks]


def _ranking_values(found: Evaluation, metrics: Sequence[Metric]) -> dict[str, float]:
    _refuse_repeats(found)
    values = {one.name: one.value for one in found.ranking}
    unknown = sorted(values.keys() - {metric.name for metric in metrics})
    if unknown:
        raise NpasBenchError(
            f"the task's evaluation tells {', '.join(unknown)}, which its metrics do not name: add it to those, "
            "by which runs are ranked, or give it a subject or a split of its own"
        )
    if any(subject.name == ALL for subject in found.subjects):
        raise NpasBenchError(f"the task's evaluation describes a subject '{ALL}', which is everything together")
    return values


def _all_subjects(found: Evaluation) -> tuple[Subject, ...]:
    """The subjects as the task describes them, and then those that it only names."""
    subjects = {subject.name: subject for subject in found.subjects}
    for one in found.others:
        if one.subject != ALL:
            subjects.setdefault(one.subject, Subject(name=one.subject))
    return tuple(subjects.values())


def _refuse_repeats(found: Evaluation) -> None:
    keys = [(one.subject, one.split, one.name) for one in found.measured]
    for what, names in (("metric", keys), ("subject", [subject.name for subject in found.subjects])):
        repeated = _first_repeated(names)
        if repeated is not None:
            raise NpasBenchError(f"the task's evaluation tells {what} {repeated} twice")


def _first_repeated(names: Iterable[object]) -> object | None:
    seen: set[object] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
