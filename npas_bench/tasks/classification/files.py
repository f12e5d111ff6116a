"""Images in files, which are read all at once, or as they are needed by processes that run ahead of the training."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from npas_bench.errors import DataError
from npas_bench.seeding import derive_seed
from npas_bench.tasks.base import Examples, Normalisation
from npas_bench.tasks.classification.base import Images, ImageSet, laid_out
from npas_bench.tasks.classification.decoding import Alteration, decode
from npas_bench.tasks.classification.listing import SMALL_SIDE, File
from npas_bench.tasks.classification.names import enumerate_names, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

    from npas_bench.tasks.base import Part

log = logging.getLogger(__name__)
# The mean and the deviation of ImageNet's training split, as in torchvision, in units of uint8.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# In evaluation, the shorter side of an image, as a multiple of the side of the central square that is cut out of it.
_MARGIN = 256 / 224
# One in so many images may be unreadable.
TOLERATED = 1000
# In place of an image that cannot be read, so many of the next ones are tried.
_STAND_INS = 20


class _Read(NamedTuple):
    """What became of an image.

    Attributes:
        pixels: (3, side, side), uint8; None if it could not be read.
        label: number of its class.
        unreadable: the names of the images that were tried in vain.
        changes: what decoding changed, with the name of the image.
        refusal: why the image is of a kind that no data set may have; None if it is not.
    """

    pixels: Tensor | None
    label: int
    unreadable: list[str]
    changes: Mapping[Alteration, str] = {}
    refusal: str | None = None


class _Batch(NamedTuple):
    """Pixels and labels of the images that were read, and what is to be told about these and the others."""

    pixels: Tensor
    labels: Tensor
    unreadable: list[str]
    changes: Mapping[Alteration, str]
    refusal: str | None


@dataclass(frozen=True)
class ImageFiles(Examples):
    """A split whose images are read as they are needed.

    Attributes:
        task: name of the task, for messages.
        files: paths and labels of the images.
        side: side in pixels of the square that a network is given.
        device: the device that batches are moved to.
        failed: files that could not be read so far, in any epoch.
        told: the changes by decoding that were told so far.
    """

    task: str
    files: tuple[File, ...]
    side: int
    device: torch.device
    failed: set[str] = field(default_factory=set, compare=False)
    told: set[Alteration] = field(default_factory=set, compare=False)

    @property
    @override
    def unreadable(self) -> tuple[str, ...]:  # type: ignore[override]
        """The files that could not be read and are left out."""
        return tuple(sorted(self.failed))

    @override
    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    @override
    def to(self, device: torch.device) -> ImageFiles:
        """The same images, with batches on another device."""
        return replace(self, device=device)

    @override
    def subset(self, indices: Tensor) -> ImageFiles:
        """The images at `indices` alone."""
        return replace(self, files=tuple(self.files[index] for index in indices.tolist()), failed=set())

    @override
    def batch(self, indices: Tensor) -> Images:
        """The normalised central squares of the images at `indices`, and their labels."""
        return next(self.batches([indices]))

    @override
    def batches(self, orders: Sequence[Tensor]) -> Iterator[Images]:
        """The batches of several lists of indices, which are read ahead."""
        return self._load([[(index, None) for index in order.tolist()] for order in orders])

    def training(self, parts: Sequence[Part], zoom: float | None) -> Iterator[Images]:
        """Batches of training images; an image that cannot be read is replaced by the next one.

        Args:
            parts: the parts to read; the draws of an image follow from the part's generator and the image's index.
            zoom: zoom of the recipe; None takes central squares.
        """
        orders = [
            [(index, derive_seed("image", part.draws.initial_seed(), index)) for index in part.indices.tolist()]
            for part in parts
        ]
        return self._load(orders, training=True, zoom=zoom)

    def _load(
        self, orders: Sequence[Sequence[tuple[int, int | None]]], *, training: bool = False, zoom: float | None = None
    ) -> Iterator[Images]:
        on_gpu = self.device.type == "cuda"
        loader: DataLoader[Any] = DataLoader(
            _Decoded(self.files, self.side, zoom, stand_ins=training),
            batch_sampler=orders,  # type: ignore[arg-type]
            collate_fn=_collate,
            num_workers=_loaders() if len(orders) > 1 else 0,
            pin_memory=on_gpu,
            # Without it the loader would draw from the generator that modules draw from.
            generator=torch.Generator(),
        )
        shift, scale = (torch.tensor(values, device=self.device).view(-1, 1, 1) for values in (MEAN, DEVIATION))
        batch: _Batch
        for batch in loader:
            self._tell(batch)
            if not len(batch.labels):
                continue
            moved = batch.pixels.to(self.device, non_blocking=on_gpu).float()
            yield Images(laid_out((moved - shift) / scale), batch.labels.to(self.device, non_blocking=on_gpu))

    def _tell(self, batch: _Batch) -> None:
        """Warn about what was not told before.

        Raises:
            DataError: if an image is refused, or if more than one in a thousand cannot be read.
        """
        _refuse(self.task, batch)
        tell_changes(self.task, {change: name for change, name in batch.changes.items() if change not in self.told})
        self.told.update(batch.changes)
        if not self.failed.issuperset(batch.unreadable):
            self.failed.update(batch.unreadable)
            tolerate(self.task, sorted(self.failed), len(self.files))

    @override
    def normalisation(self) -> Normalisation:
        """The mean and the deviation of ImageNet's training split."""
        return Normalisation(MEAN, DEVIATION)


class _Decoded(Dataset[Any]):
    """The images by (index, seed), decoded to uint8, with their labels and the paths of those that cannot be read."""

    def __init__(self, files: tuple[File, ...], side: int, zoom: float | None = None, *, stand_ins: bool = False):
        self._files, self._side, self._zoom, self._stand_ins = files, side, zoom, stand_ins

    @override
    def __getitem__(self, wanted: tuple[int, int | None]) -> _Read:
        index, seed = wanted
        unreadable: list[str] = []
        for place in range(index, index + (_STAND_INS if self._stand_ins else 1)):
            path, label = self._files[place % len(self._files)]
            try:
                image, changes = decode(path)
                pixels = _cut(image, self._side, self._zoom, seed)
                return _Read(pixels, label, unreadable, dict.fromkeys(changes, shown(path)))
            except DataError as error:
                return _Read(None, -1, unreadable, refusal=str(error))
            # Decoders may raise any exception on damaged bytes.
            except Exception:
                unreadable.append(shown(path))
        return _Read(None, -1, unreadable)


def _cut(decoded: Image.Image, side: int, zoom: float | None, seed: int | None) -> Tensor:
    """An image (3, side, side), uint8: its central square, or a random window if there are a zoom and a seed."""
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    image: Tensor = functional.pil_to_tensor(decoded)
    if seed is None or zoom is None:
        if image.shape[1:] == (side, side):
            return image
        shorter = side if side <= SMALL_SIDE else round(side * _MARGIN)
        image = functional.center_crop(functional.resize(image, [shorter], antialias=True), [side, side])
        return image
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = v2.RandomResizedCrop(side, scale=(zoom, 1.0), antialias=True)(image)
    return image


def _collate(images: list[_Read]) -> _Batch:
    pixels = [image.pixels for image in images if image.pixels is not None]
    return _Batch(
        torch.stack(pixels) if pixels else torch.empty(0),
        torch.tensor([image.label for image in images if image.pixels is not None], dtype=torch.int64),
        [path for image in images for path in image.unreadable],
        # The first image of each kind is named.
        {change: name for image in reversed(images) for change, name in image.changes.items()},
        next((image.refusal for image in images if image.refusal is not None), None),
    )


def _refuse(task: str, batch: _Batch) -> None:
    if batch.refusal is not None:
        raise DataError(f"task {task}: {batch.refusal}")


def _loaders() -> int:
    """How many processes read images ahead: one for each core except the one that trains."""
    return max(1, min(16, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 4))


@lru_cache(maxsize=4)
def resident(task: str, files: tuple[File, ...], side: int) -> ImageSet:
    """A split whose images, squares of `side` pixels, are all decoded at once.

    Raises:
        DataError: if an image is refused, or if more than one in a thousand cannot be read.
    """
    with ThreadPoolExecutor(_loaders() + 1) as pool:
        decoded = list(pool.map(_Decoded(files, side).__getitem__, [(i, None) for i in range(len(files))]))
    batch = _collate(decoded)
    _refuse(task, batch)
    tell_changes(task, batch.changes)
    tolerate(task, batch.unreadable, len(files))
    return ImageSet(batch.pixels, batch.labels, MEAN, DEVIATION, tuple(batch.unreadable))


def tell_changes(task: str, changes: Mapping[Alteration, str]) -> None:
    """Warn about what decoding changes beyond the usual, with the name of an image that it happens to."""
    for change, name in changes.items():
        log.warning("task %s: %s, such as %s", task, change.value, name)


def tolerate(task: str, unreadable: list[str], count: int) -> None:
    """Warn about images that are left out because they cannot be read.

    Raises:
        DataError: if there is more than one in a thousand.
    """
    if not unreadable:
        return
    said = f"task {task}: {len(unreadable):,} of {count:,} images cannot be read: {enumerate_names(unreadable)}"
    if len(unreadable) * TOLERATED > count:
        raise DataError(f"{said}. More than one in a thousand: the data is damaged, fetch or unpack it again")
    log.warning("%s; %s left out", said, "it is" if len(unreadable) == 1 else "they are")
