"""Tables of the results database.

A cell is stored once, by its identity. A run of it, on some data and device class, may take several attempts. The
metrics that rank a run are rows of their own, so that boards aggregate in SQL; whatever else was measured is kept by
subject and split, apart from them. A run that is under way belongs to a driver, which has a row of its own whose
heartbeat says whether the process lives. The numbers that papers print are kept apart from all runs.

**Repetitions.** A run whose `repeats` is set repeats another run, which has that uid and need not be in the same
database. It shows whether a result comes out again, and nothing else:

- It is never `current`, so no board, rank, mean or frontier takes it up, as a seed or otherwise. A board's row only
  says that its run was reproduced, as it does of every further finished run of a cell.
- It is never taken for the finished run of its cell: `newest_runs` does not see it, and a claim of another run of the
  cell is not refused because of it. Nor does one go on from the other's checkpoints.
- There is at most one open repetition of a run. It does not count as the one open run of its cell.
- It is claimed, cancelled, exported and imported like other runs, `status` counts it among the runs of its grid, and
  forecasts learn from how long it took.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import DateTime, TypeDecorator
from typing_extensions import override

from npas_bench.database.states import ENDED, RunState
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Dialect

# The revisions in migrations/versions, oldest first; the newest is what this code reads and writes.
REVISIONS = ("0001", "0002", "0003", "0004", "0005")
REVISION = REVISIONS[-1]
VERSION_TABLE = "npas_bench_version"

# There is at most one open run of a cell, data and device class, and one open repetition of each run.
_IS_OPEN = f"state NOT IN ({', '.join(repr(state.value) for state in ENDED)})"
_OPEN = text(f"{_IS_OPEN} AND repeats IS NULL")
_OPEN_REPETITION = text(f"{_IS_OPEN} AND repeats IS NOT NULL")
_REPETITION = text("repeats IS NOT NULL")
# The subject and the split whose metrics rank a run; they are rows of `metrics`, not of `evaluations`.
RANKING_SUBJECT = "all"
RANKING_SPLIT = "test"


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC, on SQLite too, which stores no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the moment its time zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class RunStateText(TypeDecorator[RunState]):
    """A run's state, stored as its name."""

    impl = String(16)
    cache_ok = True

    @override
    def process_bind_param(self, value: RunState | None, dialect: Dialect) -> str | None:
        """Give the plain name: database drivers may treat the members of an enumeration in ways of their own."""
        return None if value is None else str(value)

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> RunState | None:
        """Turn the name into the state.

        Raises:
            DatabaseError: If there is no such state.
        """
        if value is None:
            return None
        try:
            return RunState(value)
        except ValueError:
            raise DatabaseError(
                f"a run is in the state '{value}', which does not exist: put back a copy of the database"
            ) from None


class Base(DeclarativeBase):
    """Base class of the tables. It names their constraints, which migrations need."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        list[Any]: JSON,
        datetime: UtcTime,
        RunState: RunStateText,
    }


class CellRow(Base):
    """A cell, with everything that its identity was made from."""

    __tablename__ = "cells"

    identity: Mapped[str] = mapped_column(String(64), primary_key=True)
    identity_version: Mapped[int]
    canonical: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(String(200))
    architecture: Mapped[str] = mapped_column(String(200))
    method: Mapped[str] = mapped_column(String(200))
    task_version: Mapped[int]
    method_version: Mapped[int]
    options: Mapped[dict[str, Any]]
    budget: Mapped[int] = mapped_column(BigInteger)
    budget_text: Mapped[str] = mapped_column(String(64))
    full: Mapped[int] = mapped_column(BigInteger)
    recipe: Mapped[dict[str, Any]]
    recipe_name: Mapped[str] = mapped_column(String(200))
    seed: Mapped[int] = mapped_column(BigInteger)

    runs: Mapped[list[RunRow]] = relationship(back_populates="cell")

    __table_args__ = (
        Index("ix_cells_board", "task", "architecture", "budget", "method"),
        Index("ix_cells_task", "task", "task_version"),
        Index("ix_cells_method", "method", "method_version"),
    )


class DriverRow(Base):
    """A process that runs cells and writes their results.

    Attributes:
        id: a random name.
        host: name of the host that it runs on, which never leaves this database.
        pid: number of the process on that host.
        born: when the process began, as its system counts; it tells the process from a later one of the same number.
        version: version of the package.
        code: digest of the package's sources; drivers that are at work on one database at the same time run the same.
        heartbeat: when it was last known to be alive, by the database's clock.
        ended: when it closed the database; None if it has not.
    """

    __tablename__ = "drivers"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int] = mapped_column(BigInteger)
    born: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(32))
    code: Mapped[str] = mapped_column(String(16))
    started: Mapped[datetime]
    heartbeat: Mapped[datetime]
    ended: Mapped[datetime | None]


class RunRow(Base):
    """A run of a cell, with its provenance, history and result.

    Attributes:
        uid: the run's name, the same in every database that it was brought to.
        repeats: uid of the run that this one repeats; None for a run that repeats nothing.
        board: key of the table that the result belongs to: task, architecture, recipe, data and device class.
        current: whether it is the newest ended run of its cell, data and device class.
        superseded: token of the attempt before the last, whose checkpoint the last one was handed.
        driver: the driver that started the last attempt.
        epoch: whole epochs that the last attempt is known to have reached.
        reported_epoch: the epoch whose network was evaluated; None where it is the last one.
        attempts: how the attempts before the last ended, and on what share of a device.
        plugins: the code of the third-party plugins that the last attempt used; None where it used none, or where it is
            not known. See `npas_bench.plugin_code.PluginCode`.
        origin: file that a run from elsewhere came in; None for a run of this database.
    """

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32))
    identity: Mapped[str] = mapped_column(ForeignKey("cells.identity"))
    repeats: Mapped[str | None] = mapped_column(String(32))
    state: Mapped[RunState]
    attempt: Mapped[int] = mapped_column(default=0)
    token: Mapped[str | None] = mapped_column(String(32))
    superseded: Mapped[str | None] = mapped_column(String(32))
    driver: Mapped[str | None] = mapped_column(ForeignKey("drivers.id"))
    epoch: Mapped[int | None]
    reported_epoch: Mapped[int | None]
    attempts: Mapped[list[Any] | None]
    board: Mapped[str] = mapped_column(String(16))
    current: Mapped[bool] = mapped_column(default=False)
    origin: Mapped[str | None] = mapped_column(String(200))
    grid: Mapped[str | None] = mapped_column(Text)
    created: Mapped[datetime]
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]

    data_name: Mapped[str] = mapped_column(String(200))
    data_label: Mapped[str] = mapped_column(String(200))
    data_digest: Mapped[str] = mapped_column(String(64))
    data_official: Mapped[bool]
    device_class: Mapped[str] = mapped_column(String(32))
    device: Mapped[str] = mapped_column(String(200))
    host: Mapped[str | None] = mapped_column(String(200))
    versions: Mapped[dict[str, Any] | None]
    commit: Mapped[str | None] = mapped_column(String(64))
    dirty: Mapped[bool | None]
    plugins: Mapped[list[Any] | None]

    parameters: Mapped[int | None] = mapped_column(BigInteger)
    ledger: Mapped[dict[str, Any] | None]
    sharing: Mapped[list[Any] | None]
    structure: Mapped[dict[str, Any] | None]
    history: Mapped[list[Any] | None]
    seconds_per_step: Mapped[float | None]
    train_seconds: Mapped[float | None]
    peak_memory: Mapped[int | None] = mapped_column(BigInteger)
    cost: Mapped[dict[str, Any] | None]
    message: Mapped[str | None] = mapped_column(Text)
    detail: Mapped[str | None] = mapped_column(Text)
    smallest: Mapped[int | None] = mapped_column(BigInteger)
    largest: Mapped[int | None] = mapped_column(BigInteger)

    cell: Mapped[CellRow] = relationship(back_populates="runs")
    metrics: Mapped[list[MetricRow]] = relationship(
        back_populates="run", cascade="all, delete-orphan", order_by="MetricRow.position"
    )
    subjects: Mapped[list[SubjectRow]] = relationship(cascade="all, delete-orphan", order_by="SubjectRow.id")
    evaluations: Mapped[list[EvaluationRow]] = relationship(
        cascade="all, delete-orphan", order_by="EvaluationRow.position"
    )
    weights: Mapped[list[WeightsRow]] = relationship(cascade="all, delete-orphan", order_by="WeightsRow.kind")

    __table_args__ = (
        Index("ix_runs_cell", "identity", "data_digest", "device_class", "state"),
        Index(
            "ix_runs_open",
            "identity",
            "data_digest",
            "device_class",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
        Index(
            "ix_runs_open_repetition",
            "repeats",
            unique=True,
            sqlite_where=_OPEN_REPETITION,
            postgresql_where=_OPEN_REPETITION,
        ),
        Index("ix_runs_repeats", "repeats", sqlite_where=_REPETITION, postgresql_where=_REPETITION),
        Index("ix_runs_uid", "uid", unique=True),
        # `status` and the boards of many runs are answered from these indices, without reading the rows.
        Index("ix_runs_grid", "grid", "state"),
        Index("ix_runs_board", "current", "board", "finished"),
        Index("ix_runs_driver", "driver", "state"),
    )


class MetricRow(Base):
    """One metric of a finished run on the whole test split; the primary metric is at position 0.

    Unit and direction stand here so that results of a task that is not installed can be shown and ranked.
    """

    __tablename__ = "metrics"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[float]
    position: Mapped[int]
    unit: Mapped[str] = mapped_column(String(16))
    higher_is_better: Mapped[bool]

    run: Mapped[RunRow] = relationship(back_populates="metrics")


class SubjectRow(Base):
    """A part of what a run evaluated that has results of its own: a network of an ensemble, a kind of question.

    Attributes:
        name: the subject's name, one of its kind in a run.
        parameters: trainable scalars of the subject; None where it has none of its own.
        forward_flops: floating-point operations of its forward pass over one example; None where not counted.
        latency_seconds: time of its forward pass over one example; None where not measured.
        detail: whatever else a task tells about the subject.
    """

    __tablename__ = "subjects"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    name: Mapped[str] = mapped_column(String(200))
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    forward_flops: Mapped[int | None] = mapped_column(BigInteger)
    latency_seconds: Mapped[float | None]
    detail: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (Index("ix_subjects_run", "run_id", "name", unique=True),)


class EvaluationRow(Base):
    """One value that a finished run measured and that does not rank it: of another subject, or of another split.

    Attributes:
        subject: name of a subject of the run, or `all`.
        split: what it was measured on: `test`, `validation`, or a name that the task gives.
        position: place in the list of the run's evaluations, from 0.
    """

    __tablename__ = "evaluations"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    subject: Mapped[str] = mapped_column(String(200), primary_key=True)
    split: Mapped[str] = mapped_column(String(100), primary_key=True)
    metric: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[float]
    unit: Mapped[str] = mapped_column(String(16))
    higher_is_better: Mapped[bool]
    position: Mapped[int]


class WeightsRow(Base):
    """A file of a run's weights that was kept.

    Attributes:
        kind: `trained` for the parameters that the method trained, `plain` for the network that they generate.
        file: the file's name, without its folder.
        sha256: digest of the file's content, in hexadecimal.
        bytes: the file's size.
    """

    __tablename__ = "weights"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    file: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)


class PaperRow(Base):
    """A number that a paper prints, which is shown beside results and is never one of them.

    Attributes:
        position: place in the package's list, from 0.
        edition: edition of that list.
        source: key of the paper.
        table: table or figure in which the number is printed.
        task: kind of task.
        dataset: data set that the number is about; empty if it is about none.
        method: name that the paper gives the method.
        variant: variant of the method; empty if it has none.
        budget_percent: budget in per cent of the full architecture's parameters; None if not printed.
        params_millions: parameters in millions, as printed; None if not printed.
        value: the number, as printed.
        spread: what the paper prints after a plus-minus sign, without saying what it means.
        runs: how many it is the mean of; None if not printed.
        method_here: the method of this suite that it can be set against; None if there is none.
        options_here: that method's options.
        budget_here: per cent of the full architecture, where the paper leaves the budget to be inferred.
    """

    __tablename__ = "papers"

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    edition: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(64))
    table: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(64))
    dataset: Mapped[str] = mapped_column(String(64))
    architecture: Mapped[str] = mapped_column(String(200))
    method: Mapped[str] = mapped_column(String(64))
    variant: Mapped[str] = mapped_column(String(200))
    budget_percent: Mapped[float | None]
    params_millions: Mapped[float | None]
    metric: Mapped[str] = mapped_column(String(64))
    value: Mapped[str] = mapped_column(String(32))
    spread: Mapped[str | None] = mapped_column(String(32))
    runs: Mapped[int | None]
    higher_is_better: Mapped[bool]
    note: Mapped[str] = mapped_column(Text)
    method_here: Mapped[str | None] = mapped_column(String(64))
    options_here: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    budget_here: Mapped[float | None]
