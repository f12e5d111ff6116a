"""Checkpoints: written at epoch ends by atomic rename, read as weights only.

Every attempt at a run writes and reads a file of its own, named by its token. Before a new one begins, the driver
hands it what its predecessor had reached; whatever that one computes afterwards, should it still live, is neither
read nor kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import pickle
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from npas_bench.budget import count_scalars
from npas_bench.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

log = logging.getLogger(__name__)

FORMAT = 2
_DIGEST_BYTES = 32


class Checkpoint(NamedTuple):
    """A training after some whole epochs.

    Attributes:
        identity: of the cell it belongs to.
        source: digest of the data it was trained on.
        epoch: whole epochs trained.
        network: state dict of the network.
        state: tensors that the state dict leaves out and training may change.
        optimiser: state dict of the optimiser.
        before: copies of the tensors that only count if training changes them, from before training.
        structure: what the method's search or refinement decided.
        search_seconds: that the search took.
        history: one entry per epoch.
    """

    identity: str
    source: str
    epoch: int
    network: dict[str, Tensor]
    state: dict[str, Tensor]
    optimiser: dict[str, Any]
    before: dict[str, Tensor]
    structure: dict[str, Any]
    search_seconds: float
    history: list[dict[str, float]]


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: of this run alone; made when the first checkpoint is saved.
        identity: of the cell; a file of another cell is not taken.
        source: digest of the data; a file of other data is not taken.
        token: of this attempt.
    """

    def __init__(self, folder: Path, identity: str, source: str, token: str) -> None:
        self._folder = folder
        self._identity = identity
        self._source = source
        self.path = folder / f"{token}.pt"

    def save(self, checkpoint: Checkpoint) -> None:
        """Write this attempt's file anew; a crash leaves the one before or this one, whole.

        Raises:
            StorageError: if it cannot be written.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **checkpoint._asdict()}, buffer)
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
        """What this attempt has reached, or was handed; None if it is unreadable, of another cell or of other data."""
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
        """Count the trained scalars in this attempt's file, from the file alone.

        Args:
            statistics: names of normalisation statistics.
            unchanged: names of other tensors that training left as they were.

        Raises:
            CheckpointError: if the file cannot be read.
        """
        checkpoint = self._read(self.path)
        if checkpoint is None:
            raise CheckpointError(f"{self.path} cannot be read back as a checkpoint of this run")
        held = checkpoint.network | checkpoint.state
        counted = [item for item in held.items() if item[0] not in statistics | unchanged]
        return sum(count_scalars(counted, {}).values())


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint in a file; None if there is no whole one of this format."""
    try:
        content = path.read_bytes()
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        fields = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return Checkpoint(**fields) if fields.pop("format") == FORMAT else None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        return None


def hand_over(folder: Path, superseded: str | None, token: str) -> None:
    """Give a new attempt what the one before it had reached, and remove what other attempts left.

    A crash in between leaves the old file, the new one, or both.

    Args:
        folder: of the run.
        superseded: token of the attempt before; None for the first.
        token: of the new one.

    Raises:
        StorageError: if what there is cannot be handed over; it is kept then.
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
        # A later save of the old attempt puts another file in the place of its own, and leaves this one alone.
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        # Not every file system has links.
        partial = target.with_suffix(".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)


def remove_checkpoints(folder: Path) -> None:
    """Remove a finished run's checkpoints; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
