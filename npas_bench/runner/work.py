"""What is to run, and how it ended: what driver, executors and workers tell each other."""

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
    from npas_bench.tasks import DataVersion


class Engine(NamedTuple):
    """Switches that change what a run costs, and its result at most by rounding: no part of a cell's identity.

    Attributes:
        regenerate: make generated weights again in the backward pass instead of keeping them for it.
        compiled: let torch compile the network.
        processes: how many train a cell together, each with a device of its own.
    """

    regenerate: bool = False
    compiled: bool = False
    processes: int = 1

    def names(self) -> list[str]:
        """The switches that are on."""
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
    """A cell to run, with what a worker must know beside it.

    Attributes:
        cell: what to run.
        source: the data the driver saw; a worker that sees other data refuses.
        device: `cpu`, `cuda` or `cuda:N`.
        engine: switches.
        deadline: seconds that an attempt may take; None for no limit.
        memory: bytes that the cell is expected to need at its peak; None where nothing is known.
        keep: the folder to keep the weights in once the cell is done; None to let them go with the checkpoints.
        repeats: uid of the finished run that this one repeats; None where it repeats none.
    """

    cell: Cell
    source: DataVersion
    device: str
    engine: Engine = Engine()
    deadline: float | None = None
    memory: int | None = None
    keep: Path | None = None
    repeats: str | None = None


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
    """What a run cost.

    Attributes:
        train_seconds: spent on training, the search and what came before an interruption included.
        search_seconds: of these, spent on the method's search.
        seconds_per_step: median over epochs of each epoch's median, warm-up left out.
        seconds_per_epoch: median over epochs, an attempt's first left out where there are more.
        evaluate_seconds: spent on the test split.
        peak_memory: bytes; allocated for the run on a GPU, on a CPU the highest resident set of the process while it
            ran, the libraries included (where the system cannot start the mark anew, also what the process ran
            before); the largest of several processes'.
        forward_flops: floating-point operations of one example's forward pass, weights as they are; None where they
            cannot be counted.
        generation_flops: that make all weights once; None where the method has no closed form.
        engine: switches that were on.
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
        ledger: what the network trains; None where none was built.
        metrics: what ranks the run, measured on the whole test split; the primary one first.
        evaluations: what else was measured, of which subject and on which split.
        subjects: what was evaluated by itself.
        reported_epoch: the epoch whose network was evaluated, counted from 1; None if it is simply the last one.
        history: one entry per epoch.
        cost: where the run is done.
        sharing: which layers read which parameters.
        structure: what the method's search or refinement decided.
        weights: the files of weights that were kept.
        message: why it failed or is unsupported, in a line or two.
        detail: the traceback of an error that nobody expected.
        resumable: whether a failed run was getting on and had better go on from its checkpoints.
        cause: what a failed run lacked, where that was not the cell's own fault alone: it may be tried otherwise.
        smallest: the smallest budget the method can meet here, where it said so.
        largest: the largest, likewise.
        versions: of Python and of the packages that determine results.
        host: processor and system, without the host's name.
        device: name of the device that it ran on; empty where nothing was run.
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
    """How far an attempt is.

    Attributes:
        report: of its last epoch.
        memory: bytes at its peak so far.
    """

    report: EpochReport
    memory: int


def write_progress(attempt: Attempt, progress: Progress) -> None:
    """Leave word of an attempt's last epoch where the driver, perhaps on another machine, finds it."""
    path = attempt.folder / f"{attempt.token}.progress"
    partial = path.with_suffix(".progress-partial")
    with contextlib.suppress(OSError):  # the display can do without it
        content = {"report": progress.report.entry(), "memory": progress.memory}
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)


def read_progress(attempt: Attempt) -> Progress | None:
    """The last that this attempt left word of; None before its first epoch is over."""
    try:
        content = json.loads((attempt.folder / f"{attempt.token}.progress").read_text(encoding="utf-8"))
        return Progress(EpochReport(**content["report"]), int(content["memory"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
