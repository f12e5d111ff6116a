"""What one line of an exchange file holds: an ended run with its cell and metrics, in format 5.

`docs/record.schema.json` is made of this model.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from npas_bench.database.bounds import MOST_SCALARS
from npas_bench.database.exchange.fields import (
    Bytes,
    Count,
    Digest,
    Moment,
    Name,
    RecordPart,
    Scalars,
    Seconds,
    Small,
    Table,
    Uid,
)
from npas_bench.database.exchange.parts import (
    AttemptRecord,
    CostRecord,
    EpochRecord,
    EvaluationRecord,
    LedgerRecord,
    MetricRecord,
    PluginRecord,
    SharingRecord,
    SubjectRecord,
    WeightsRecord,
)
from npas_bench.database.schema import RANKING_SPLIT, RANKING_SUBJECT
from npas_bench.recipe.stored import differing, known_fields, refusal

if TYPE_CHECKING:
    from collections.abc import Collection

FORMAT = 5
# The versions of cells' identities that this code can compute.
_IDENTITY_VERSIONS = (1,)


class CellRecord(RecordPart):
    """The cell, with everything that its identity was made from.

    Attributes:
        identity: sha256 of `canonical`, in hexadecimal.
        identity_version: how `canonical` is made.
        canonical: sorted JSON of all that determines the result; the fields below say the same.
        task: name of the task.
        architecture: name of the architecture.
        method: name of the method.
        task_version: version of the task.
        method_version: version of the method.
        options: the method's options that differ from their defaults.
        budget: trainable scalars that the network may have.
        budget_text: the budget as it was asked for.
        full: trainable scalars of the full architecture.
        recipe: how the network was trained, every field of it.
        recipe_name: the recipe's name.
        seed: seed of initial values, order and augmentation.
    """

    identity: Digest
    identity_version: Small
    canonical: Annotated[str, StringConstraints(max_length=100_000)]
    task: Name
    architecture: Name
    method: Name
    task_version: Small
    method_version: Small
    options: Table
    budget: Annotated[int, Field(ge=1, le=MOST_SCALARS)]
    budget_text: Annotated[str, StringConstraints(max_length=64)]
    full: Annotated[int, Field(ge=1, le=MOST_SCALARS)]
    recipe: Table
    recipe_name: Name
    seed: Count

    @model_validator(mode="after")
    def _is_what_its_identity_says(self) -> Self:
        if self.identity_version not in _IDENTITY_VERSIONS:
            raise ValueError(
                f"has an identity of version {self.identity_version}, made by a newer npas-bench: update this one"
            )
        if hashlib.sha256(self.canonical.encode()).hexdigest() != self.identity:
            raise ValueError("has an identity that is not the sha256 of its canonical form")
        if self.recipe.get("name") != self.recipe_name:
            raise ValueError("has another recipe_name than its recipe")
        said = self.determining()
        if json.dumps(said, sort_keys=True, separators=(",", ":")) != self.canonical:
            raise ValueError(f"does not agree with its canonical form{_difference(said, self.canonical)}")
        problem = refusal(self.recipe)
        if problem is not None:
            raise ValueError(f"has a recipe that nothing can be trained by: {problem}")
        return self

    def determining(self) -> dict[str, Any]:
        """What the canonical form has to hold, according to the other fields.

        Of the recipe it is every field that differs from its default. A field that this version does not know, or a
        record of another version did not have, is at its default exactly if the canonical form leaves it out.
        """
        known, named = known_fields(), _recipe_entries(self.canonical)
        recipe = {name: value for name, value in differing(self.recipe).items() if name in known or name in named}
        names = ("identity_version", "task", "task_version", "architecture", "method", "method_version", "options")
        return {name: getattr(self, name) for name in (*names, "budget", "seed")} | {"recipe": recipe}


def _recipe_entries(canonical: str) -> Collection[str]:
    """The names of the recipe's fields in a canonical form; none where it is no such thing."""
    try:
        recipe = json.loads(canonical)["recipe"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()
    return recipe.keys() if isinstance(recipe, dict) else ()


def _difference(said: dict[str, Any], canonical: str) -> str:
    try:
        written = json.loads(canonical)
        fields = sorted(name for name in said.keys() | written.keys() if said.get(name) != written.get(name))
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f": {', '.join(fields[:3])}" if fields else ""


class RunRecord(RecordPart):
    """The run: how it ended, where it ran, and what it cost.

    Attributes:
        uid: name of the run, the same in every database that it was brought to.
        repeats: uid of the run that this one repeats; none where it repeats nothing.
        state: how it ended.
        attempt: number of attempts that it took.
        attempts: how the attempts before the last one ended.
        origin: name of the file that the run first came from; none where it was exported by the database it ran in.
        grid: name of the grid that it was run for.
        created: when it was asked for.
        started: when its first attempt began.
        finished: when it ended.
        data_name: name of the data that the task asks for.
        data_label: name of the data that was used.
        data_digest: digest of that data.
        data_official: whether it is the official data.
        device_class: `cpu` or `cuda`.
        device: model of the processor or GPU.
        host: kind of the machine, never its name.
        versions: versions of Python and of the packages that determine results.
        commit: commit of the code.
        dirty: whether the code differed from that commit.
        plugins: code of the third-party plugins that it used; none where it used none, or where it is not known.
        parameters: number of trainable scalars.
        ledger: what these scalars are.
        sharing: which layers read which parameters.
        structure: what the method's search or refinement decided.
        history: one entry per epoch.
        reported_epoch: epoch whose network was evaluated; none where it is the last one.
        seconds_per_step: median time of a training step.
        train_seconds: time of training.
        peak_memory: bytes at the peak.
        cost: everything that is known of what the run cost.
        message: why it failed or is unsupported.
        detail: the traceback of an unexpected error.
        smallest: the smallest budget that the method can meet, where it said so.
        largest: the largest budget that the method can meet, where it said so.
    """

    uid: Uid
    repeats: Uid | None = None
    state: Literal["done", "failed", "unsupported"]
    attempt: Small
    attempts: Annotated[list[AttemptRecord], Field(max_length=10_000)] | None = None
    origin: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    grid: Annotated[str, StringConstraints(max_length=1000)] | None = None
    created: Moment
    started: Moment | None = None
    finished: Moment

    data_name: Name
    data_label: Name
    data_digest: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    data_official: bool
    device_class: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
    device: Annotated[str, StringConstraints(max_length=200)]
    host: Annotated[str, StringConstraints(max_length=200)] | None = None
    versions: Annotated[dict[Name, Name], Field(max_length=1000)] | None = None
    commit: Annotated[str, StringConstraints(max_length=64)] | None = None
    dirty: bool | None = None
    plugins: Annotated[list[PluginRecord], Field(max_length=100)] | None = None

    parameters: Scalars | None = None
    ledger: LedgerRecord | None = None
    sharing: Annotated[list[SharingRecord], Field(max_length=100_000)] | None = None
    structure: Table | None = None
    history: Annotated[list[EpochRecord], Field(max_length=100_000)] | None = None
    reported_epoch: Small | None = None
    seconds_per_step: Seconds | None = None
    train_seconds: Seconds | None = None
    peak_memory: Bytes | None = None
    cost: CostRecord | None = None
    message: Annotated[str, StringConstraints(max_length=20_000)] | None = None
    detail: Annotated[str, StringConstraints(max_length=200_000)] | None = None
    smallest: Count | None = None
    largest: Count | None = None


class Record(RecordPart):
    """One line of an exchange file: an ended run with its cell and all that it measured.

    Attributes:
        format: format of the record.
        cell: what was run.
        run: how it went.
        metrics: what ranks the run; at least one of a run that is done, none of others.
        subjects: parts of what was evaluated that have results of their own; only of a run that is done.
        evaluations: everything else that was measured, in order; only of a run that is done.
        weights: files of weights that were kept; only of a run that is done.
    """

    format: Literal[5]
    cell: CellRecord
    run: RunRecord
    metrics: Annotated[list[MetricRecord], Field(max_length=1000)]
    subjects: list[SubjectRecord] = Field(default_factory=list, max_length=10_000)
    evaluations: list[EvaluationRecord] = Field(default_factory=list, max_length=100_000)
    weights: list[WeightsRecord] = Field(default_factory=list, max_length=2)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        self._check_times()
        self._check_metrics()
        self._check_evaluations()
        self._check_counts()
        if self.run.repeats == self.run.uid:
            raise ValueError("a run does not repeat itself")
        return self

    def _check_times(self) -> None:
        run = self.run
        if not run.created <= (run.started or run.created) <= run.finished:
            raise ValueError("a run is created, then started, then finished")

    def _check_metrics(self) -> None:
        metrics = self.metrics
        if [metric.position for metric in metrics] != list(range(len(metrics))):
            raise ValueError(f"metrics have positions 0 to {len(metrics) - 1}, in order")
        if len({metric.name for metric in metrics}) != len(metrics):
            raise ValueError("metrics have names of their own")
        if (self.run.state == "done") != bool(metrics):
            raise ValueError("a run has metrics if and only if it is done")

    def _check_evaluations(self) -> None:
        if self.run.state != "done" and (self.subjects or self.evaluations or self.weights):
            raise ValueError("only a run that is done has subjects, evaluations or weights")
        names = {subject.name for subject in self.subjects}
        keys = {one.key for one in self.evaluations}
        if len(names) != len(self.subjects) or RANKING_SUBJECT in names:
            raise ValueError(f"subjects have names of their own, other than '{RANKING_SUBJECT}'")
        if len(keys) != len(self.evaluations):
            raise ValueError("a metric of a subject on a split is told once")
        if any((RANKING_SUBJECT, RANKING_SPLIT, metric.name) in keys for metric in self.metrics):
            raise ValueError("what ranks the run is among the metrics alone, not among the evaluations")
        strange = next((one.subject for one in self.evaluations if one.subject not in names | {RANKING_SUBJECT}), None)
        if strange is not None:
            raise ValueError(f"the evaluations' subject '{strange}' is none of the subjects")
        if len({file.kind for file in self.weights}) != len(self.weights):
            raise ValueError("there is one file of weights of each kind")

    def _check_counts(self) -> None:
        run = self.run
        if run.state == "done" and run.parameters is None:
            raise ValueError("a run that is done tells its parameters")
        if run.ledger is not None and (run.parameters, self.cell.budget) != (run.ledger.total, run.ledger.budget):
            raise ValueError("parameters and budget are what the ledger says")
        if run.state == "done" and run.parameters is not None and run.parameters > self.cell.budget:
            raise ValueError(f"{run.parameters:,} parameters are more than the budget of {self.cell.budget:,}")


def schema_text() -> str:
    """The JSON schema of a record, as `docs/record.schema.json` has it."""
    schema = Record.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"
