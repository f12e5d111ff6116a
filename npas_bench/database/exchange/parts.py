"""What cell and run of a record of format 5 are made of: ledger, epochs, cost, metrics, evaluations."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from npas_bench.database.bounds import MOST_SCALARS
from npas_bench.database.exchange.fields import (
    Bytes,
    Count,
    Digest,
    Name,
    Operations,
    RecordPart,
    Scalars,
    Seconds,
    ShortName,
    Small,
    Table,
    Unit,
    Value,
)


class LedgerRecord(RecordPart):
    """The trainable scalars of the network by role, and the budget; see `npas_bench.budget.Ledger`."""

    fixed: Scalars
    store: Scalars
    coefficients: Scalars
    masks: Scalars
    generators: Scalars
    state: Scalars
    reserved: Scalars
    budget: Scalars
    reach: Annotated[float, Field(ge=0, le=1)] | None
    remark: Annotated[str, StringConstraints(max_length=10_000)] | None
    deployed: Scalars | None = None

    @property
    def total(self) -> int:
        """The number of all trained scalars."""
        return self.fixed + self.store + self.coefficients + self.masks + self.generators + self.state


class EpochRecord(RecordPart):
    """One epoch of the training.

    Attributes:
        epoch: number of the epoch, from 1.
        loss: mean training loss.
        learning_rate: learning rate of the last step.
        seconds: time that the epoch took.
        seconds_per_step: median time of a step.
        parameters: trainable scalars after the epoch, where the method changed them at its end.
        stage: name of the stage that the epoch belongs to; None where the run has one stage.
        validation: metric of the stop rule on the validation split after the epoch; None where there is no such rule.
    """

    epoch: Annotated[float, Field(ge=0, le=2**31 - 1)]
    loss: Value
    learning_rate: Value
    seconds: Seconds
    seconds_per_step: Seconds
    parameters: Annotated[float, Field(ge=0, le=MOST_SCALARS)] | None = None
    stage: ShortName | None = None
    validation: Value | None = None


class CostRecord(RecordPart):
    """What the run cost; see `npas_bench.runner.work.Cost`."""

    train_seconds: Seconds
    search_seconds: Seconds = 0.0
    seconds_per_step: Seconds
    seconds_per_epoch: Seconds | None = None
    evaluate_seconds: Seconds
    peak_memory: Bytes
    forward_flops: Operations | None = None
    generation_flops: Operations | None = None
    engine: list[Name] = Field(default_factory=list, max_length=100)


class AttemptRecord(RecordPart):
    """How an attempt before the last one ended."""

    why: Annotated[str, StringConstraints(max_length=10_000)]
    seconds: Seconds
    share: Annotated[float, Field(ge=0, le=1000)] | None = None
    memory: Bytes | None = None
    alone: bool | None = None


class SharingRecord(NamedTuple):
    """The part of the method's stores that one layer reads."""

    layer: Annotated[str, StringConstraints(max_length=1000)]
    group: Count
    start: Count
    size: Count
    templates: Count
    rule: Annotated[str, StringConstraints(max_length=1000)]
    coefficients: Annotated[list[Value], Field(max_length=10_000)] | None = None


class MetricRecord(RecordPart):
    """One metric of the whole test split, by which runs are ranked; the primary one is at position 0."""

    name: ShortName
    value: Value
    position: Small
    unit: Unit
    higher_is_better: bool


class SubjectRecord(RecordPart):
    """A part of what was evaluated that has results of its own; see `npas_bench.tasks.Subject`."""

    name: Name
    parameters: Scalars | None = None
    forward_flops: Operations | None = None
    latency_seconds: Seconds | None = None
    detail: Table | None = None


class EvaluationRecord(RecordPart):
    """One value that does not rank the run: of another subject than `all`, or of another split than `test`."""

    subject: Name
    split: ShortName
    metric: ShortName
    value: Value
    unit: Unit
    higher_is_better: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells the evaluations of a run apart."""
        return self.subject, self.split, self.metric


class PluginRecord(RecordPart):
    """The code of a third-party plugin that a run used; see `npas_bench.plugin_code.PluginCode`."""

    kind: Literal["method", "task", "architecture"]
    name: Name
    distribution: Annotated[str, StringConstraints(max_length=200)]
    version: Annotated[str, StringConstraints(max_length=200)]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$")]


class WeightsRecord(RecordPart):
    """A file of weights that was kept where the run was made; it does not travel with the record.

    Attributes:
        kind: `trained` for the parameters that the method trained, `plain` for the network that they generate.
        file: the file's name, without its folder.
        sha256: digest of the file's content.
        bytes: the file's size.
    """

    kind: Literal["trained", "plain"]
    file: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^/\\]+$")]
    sha256: Digest
    bytes: Bytes
