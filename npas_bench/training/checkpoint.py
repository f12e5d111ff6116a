"""Checkpoints, which are written at the end of epochs by an atomic rename, and read as weights only.

Every attempt at a run writes and reads a file of its own, which is named by its token. Before a new attempt begins, the
driver hands it what its predecessor had reached. Whatever the predecessor computes after that, in case it still lives,
is neither read nor kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import pickle
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from npas_bench.budget import count_scalars
from npas_bench.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

log = logging.getLogger(__name__)

FORMAT = 3
# Before there were stages and best epochs. Such a file is read as one of the only stage that there was.
_FORMAT_WITHOUT_STAGES = 2
_DIGEST_BYTES = 32

# The name of the stage that every ordinary training consists of.
FIT = "fit"

T = TypeVar("T")


class BestEpoch(NamedTuple):
    """A network as it was after the best epoch of its stage so far.

    Attributes:
        epoch: the number of the epoch within its stage, from 1.
        network: the state dict of the network.
        state: the tensors that the state dict leaves out and training may change.
        structure: what the method's search or refinement had decided by then.
    """

    epoch: int
    network: dict[str, Tensor]
    state: dict[str, Tensor]
    structure: dict[str, Any]


class Checkpoint(NamedTuple):
    """A training after some whole epochs of one of its stages.

    Attributes:
        identity: the identity that the draws of the training follow from.
        source: the digest of the data that the network is trained on.
        stage: the name of the stage.
        epoch: the number of whole epochs of the stage.
        network: the state dict of the network.
        state: the tensors that the state dict leaves out and training may change.
        optimiser: the state dict of the optimiser.
        before: copies of the tensors that count only if training changes them, from before the training.
        structure: what the method's search or refinement has decided.
        search_seconds: the seconds that the search took.
        history: an entry for each epoch, those of earlier stages included.
        best: the network after the best epoch of the stage; None unless the recipe reports the best epoch.
    """

    identity: str
    source: str
    stage: str
    epoch: int
    network: dict[str, Tensor]
    state: dict[str, Tensor]
    optimiser: dict[str, Any]
    before: dict[str, Tensor]
    structure: dict[str, Any]
    search_seconds: float
    history: list[dict[str, Any]]
    best: BestEpoch | None = None

    def reported(self) -> dict[str, Tensor]:
        """The tensors of the network that is reported if the training is over."""
        held = self if self.best is None else self.best
        return held.network | held.state


def copied(value: T) -> T:
    """A copy on the CPU of what a checkpoint may hold; tensors that share their storage go on sharing it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    copy: T = torch.load(buffer, map_location="cpu", weights_only=True)
    return copy


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: the folder of this run alone, which is made when the first checkpoint is saved.
        identity: the identity that draws follow from; a file of another training is passed over.
        source: the digest of the data; a file of other data is passed over.
        token: the token of this attempt.
    """

    def __init__(self, folder: Path, identity: str, source: str, token: str) -> None:
        self._folder = folder
        self._identity = identity
        self._source = source
        self.path = folder / f"{token}.pt"

    def save(self, checkpoint: Checkpoint) -> None:
        """Write this attempt's file anew; a crash leaves either the old file or the new one, and either is whole.

        Raises:
            StorageError: if it cannot be written.
        """
        buffer = io.BytesIO()
        best = None if checkpoint.best is None else checkpoint.best._asdict()
        torch.save({"format": FORMAT, **checkpoint._asdict(), "best": best}, buffer)
        payload = buffer.getbuffer()
        partial = self.path.with_suffix(".partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                # torch does not look at its archive's own checksums.
                file.write(hashlib.sha256(payload).digest())
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise StorageError(f"the checkpoint {self.path} cannot be written: {error}") from error

    def latest(self) -> Checkpoint | None:
        """What this attempt has reached or was handed; None if there is nothing that can be read and belongs to it."""
        return self._read(self.path)

    def _read(self, path: Path) -> Checkpoint | None:
        if not path.exists():
            return None
        checkpoint = read_checkpoint(path)
        if checkpoint is not None and (checkpoint.identity, checkpoint.source) == (self._identity, self._source):
            return checkpoint
        what = "damaged" if checkpoint is None else "of another cell or other data"
        log.warning("the checkpoint %s is %s: the training starts afresh", path, what)
        return None

    def recount(self, statistics: set[str], unchanged: set[str]) -> int:
        """Count the trained scalars of the network that is reported, from this attempt's file alone.

        Args:
            statistics: the names of normalisation statistics.
            unchanged: the names of other tensors that training left as they were.

        Raises:
            CheckpointError: if the file cannot be read.
        """
        checkpoint = self._read(self.path)
        if checkpoint is None:
            raise CheckpointError(f"{self.path} cannot be read back as a checkpoint of this run")
        counted = [item for item in checkpoint.reported().items() if item[0] not in statistics | unchanged]
        return sum(count_scalars(counted, {}).values())


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint in a file; None if the file is not whole, or of a format that this version cannot read."""
    try:
        content = path.read_bytes()
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        fields = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        number = fields.pop("format")
        if number == _FORMAT_WITHOUT_STAGES:
            return Checkpoint(stage=FIT, **fields)
        if fields["best"] is not None:
            fields["best"] = BestEpoch(**fields["best"])
        return Checkpoint(**fields) if number == FORMAT else None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        return None


def hand_over(folder: Path, superseded: str | None, token: str) -> None:
    """Give a new attempt what the attempt before it had reached, and remove what other attempts have left.

    A crash in between leaves the old file, the new one, or both.

    Args:
        folder: the folder of the run.
        superseded: the token of the attempt before; None for the first attempt.
        token: the token of the new attempt.

    Raises:
        StorageError: if the old file cannot be handed over; it is kept in that case.
    """
    mine = folder / f"{token}.pt"
    try:
        if not folder.is_dir():
            return
        if superseded is not None and not mine.exists():
            with contextlib.suppress(FileNotFoundError):
                _copy(folder / f"{superseded}.pt", mine)
        paths = list(folder.iterdir())
    except OSError as error:
        raise StorageError(f"the checkpoints in {folder} cannot be handed over: {error}") from error
    for path in paths:
        if path != mine:
            with contextlib.suppress(OSError):
                path.unlink()


def _copy(source: Path, target: Path) -> None:
    try:
        # A later save of the old attempt replaces the file under its own name, and leaves this one as it is.
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        # Not every file system has links.
        partial = target.with_suffix(".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished run; those that cannot be removed stay."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
