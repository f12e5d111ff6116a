"""What is to run and how it ended: the objects that driver, executors and workers pass to each other."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from npas_bench.budget import Ledger
from npas_bench.database.states import RunState
from npas_bench.tasks.measuring import Measured, Subject
from npas_bench.training.loop import EpochReport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from npas_bench.cells.cell import Cell
    from npas_bench.plugin_code import PluginCode
    from npas_bench.tasks import DataVersion


class Engine(NamedTuple):
    """Switches that change the cost of a run, and its result at most by rounding. They are not part of the identity.

    Attributes:
        regenerate: whether generated weights are made again in the backward pass instead of being kept for it.
        compiled: whether torch compiles the network.
        processes: number of processes that train a cell together, each on a device of its own.
    """

    regenerate: bool = False
    compiled: bool = False
    processes: int = 1

    def names(self) -> list[str]:
        """The names of the switches that are on."""
        switches = [name for name, on in (("regenerate", self.regenerate), ("compile", self.compiled)) if on]
        return switches + ([f"processes={self.processes}"] if self.processes > 1 else [])


class Keep(NamedTuple):
    """Where the weights of a run are kept.

    Attributes:
        folder: the folder, which driver and workers see.
        run: uid of the run.
    """

    folder: Path
    run: str


def weights_folder(checkpoints: Path) -> Path:
    """The folder of the weights that runs kept, beside the folder of their checkpoints."""
    return checkpoints.with_name(f"{checkpoints.name.removesuffix('.work')}.weights")


class Work(NamedTuple):
    """A cell to run, with everything else that a worker must know.

    Attributes:
        cell: what to run.
        source: the version of the data that the driver saw; a worker that sees other data refuses to run.
        device: `cpu`, `cuda` or `cuda:N`.
        engine: the engine's switches.
        deadline: seconds that an attempt may take; None for no limit.
        memory: bytes that the cell is expected to need at its peak; None if that is not known.
        keep: the folder to keep the weights in once the cell is done; None to let them go with the checkpoints.
        repeats: uid of the finished run that this one repeats; None where it repeats none.
        plugins: the code of its third-party plugins that the driver has; a worker with other code refuses to run.
    """

    cell: Cell
    source: DataVersion
    device: str
    engine: Engine = Engine()
    deadline: float | None = None
    memory: int | None = None
    keep: Path | None = None
    repeats: str | None = None
    plugins: tuple[PluginCode, ...] = ()


class Attempt(NamedTuple):
    """An attempt at a cell, which has begun.

    Attributes:
        work: the cell and what a worker must know beside it.
        token: tells this attempt from all others at the same run.
        folder: the folder of the run's checkpoints, which driver and worker see.
        keep: where to keep the run's weights; None to let them go with the checkpoints.
    """

    work: Work
    token: str
    folder: Path
    keep: Keep | None = None

    @property
    def cell(self) -> Cell:
        """The cell that is attempted."""
        return self.work.cell


class Cost(BaseModel):
    """The cost of a run.

    Attributes:
        train_seconds: seconds of training, including the search and the time before an interruption.
        search_seconds: the part of `train_seconds` that the method's search took.
        seconds_per_step: seconds of a training step: the median over epochs of each epoch's median, without warm-up.
        seconds_per_epoch: median of the seconds of an epoch, without an attempt's first one where there are more.
        evaluate_seconds: seconds of the evaluation on the test split.
        peak_memory: bytes at the peak: on a GPU those allocated for the run, on a CPU the largest resident set of the
            process during the run, libraries included. Where the system cannot reset that mark, it includes what the
            process ran before. With several processes it is the largest of their peaks.
        forward_flops: floating-point operations of one example's forward pass, without making the weights; None if
            they cannot be counted.
        generation_flops: floating-point operations that make all weights once; None if the method has no closed form.
        engine: names of the switches that were on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train_seconds: float
    search_seconds: float = 0.0
    seconds_per_step: float
    seconds_per_epoch: float | None = None
    evaluate_seconds: float
    peak_memory: int
    forward_flops: int | None = None
    generation_flops: int | None = None
    engine: list[str] = []


class KeptWeights(BaseModel):
    """A file of a run's weights.

    Attributes:
        kind: `trained` for the parameters that the method trained, `plain` for the network that they generate.
        file: the file's name, without its folder.
        sha256: digest of the file's content, in hexadecimal.
        bytes: the file's size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["trained", "plain"]
    file: str
    sha256: str
    bytes: int


def remove_unlisted(keep: Keep, files: Sequence[KeptWeights], *, stored: bool) -> None:
    """Remove files of a run's weights that the database does not list; what cannot be removed stays.

    Args:
        keep: where the run's weights are.
        files: what the attempt that ended kept.
        stored: whether the database lists these files. Then those of earlier attempts go, else these.
    """
    listed = {file.file for file in files}
    with contextlib.suppress(OSError):
        for path in keep.folder.glob(f"{keep.run}-*.safetensors"):
            if (path.name in listed) != stored:
                path.unlink()


class Outcome(BaseModel):
    """How a run ended.

    Attributes:
        state: done, failed or unsupported.
        ledger: what the network trains; None if no network was built.
        metrics: what ranks the run, measured on the whole test split; the primary one first.
        evaluations: what else was measured, of which subject and on which split.
        subjects: what was evaluated by itself.
        reported_epoch: the epoch whose network was evaluated, counted from 1; None if it is simply the last one.
        history: one entry per epoch.
        cost: the cost of a run that is done; None otherwise.
        sharing: which layers read which parameters.
        structure: what the method's search or refinement decided.
        weights: the files of weights that were kept.
        message: why the run failed or is unsupported, in a line or two.
        detail: the traceback of an error that nobody expected.
        resumable: whether a failed run made progress, so that it should go on from its checkpoints.
        cause: what a failed run lacked, if it may succeed with more of it; None if the cell itself is at fault.
        smallest: the smallest budget that the method can meet here, if it told.
        largest: the largest budget that the method can meet here, if it told.
        versions: versions of Python and of the packages that determine results.
        host: processor and system, without the host's name.
        device: name of the device that the cell ran on; empty if nothing was run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal[RunState.DONE, RunState.FAILED, RunState.UNSUPPORTED]
    ledger: Ledger | None = None
    metrics: list[Measured] = []
    evaluations: list[Measured] = []
    subjects: list[Subject] = []
    reported_epoch: int | None = None
    history: list[dict[str, float | str]] = []
    cost: Cost | None = None
    sharing: list[list[Any]] = []
    structure: dict[str, Any] = {}
    weights: list[KeptWeights] = []
    message: str | None = None
    detail: str | None = None
    resumable: bool = False
    cause: Literal["memory", "storage", "time"] | None = None
    smallest: int | None = None
    largest: int | None = None
    versions: dict[str, str] = {}
    host: str = ""
    device: str = ""


class Progress(NamedTuple):
    """The progress of an attempt.

    Attributes:
        report: the report of its last epoch.
        memory: bytes at its peak so far.
    """

    report: EpochReport
    memory: int


def write_progress(attempt: Attempt, progress: Progress) -> None:
    """Write the last epoch's report to a file that the driver can read, even from another machine."""
    path = attempt.folder / f"{attempt.token}.progress"
    partial = path.with_suffix(".progress-partial")
    with contextlib.suppress(OSError):  # only the display needs it
        content = {"report": progress.report.entry(), "memory": progress.memory}
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)


def read_progress(attempt: Attempt) -> Progress | None:
    """The last progress that an attempt has written; None before its first epoch is over."""
    try:
        content = json.loads((attempt.folder / f"{attempt.token}.progress").read_text(encoding="utf-8"))
        return Progress(EpochReport(**content["report"]), int(content["memory"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
