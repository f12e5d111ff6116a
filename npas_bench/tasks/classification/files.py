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
from npas_bench.tasks.classification.listing import NAMED, SMALL_SIDE, File

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    pixels: Tensor | None
    label: int
    unreadable: list[str]


@dataclass(frozen=True)
class ImageFiles(Examples):
    """A split whose images are read as they are needed.

    Attributes:
        task: name of the task, for messages.
        files: paths and labels of the images.
        side: side in pixels of the square that a network is given.
        device: the device that batches are moved to.
        failed: files that could not be read so far, in any epoch.
    """

    task: str
    files: tuple[File, ...]
    side: int
    device: torch.device
    failed: set[str] = field(default_factory=set, compare=False)

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
        for pixels, labels, unreadable in loader:
            if not self.failed.issuperset(unreadable):
                self.failed.update(unreadable)
                tolerate(self.task, sorted(self.failed), len(self.files))
            if not len(labels):
                continue
            moved = pixels.to(self.device, non_blocking=on_gpu).float()
            yield Images(laid_out((moved - shift) / scale), labels.to(self.device, non_blocking=on_gpu))

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
                return _Read(_decode(path, self._side, self._zoom, seed), label, unreadable)
            # Decoders may raise any exception on damaged bytes.
            except Exception:
                unreadable.append(path)
        return _Read(None, -1, unreadable)


def _decode(path: str, side: int, zoom: float | None, seed: int | None) -> Tensor:
    """An image (3, side, side), uint8: its central square, or a random window if there are a zoom and a seed."""
    from PIL import Image
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    with Image.open(path) as file:
        image: Tensor = functional.pil_to_tensor(file.convert("RGB"))
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


def _collate(images: list[_Read]) -> tuple[Tensor, Tensor, list[str]]:
    """The pixels and labels of the images that were read, and the paths of the others."""
    pixels = [image.pixels for image in images if image.pixels is not None]
    labels = [image.label for image in images if image.pixels is not None]
    unreadable = [path for image in images for path in image.unreadable]
    return torch.stack(pixels) if pixels else torch.empty(0), torch.tensor(labels, dtype=torch.int64), unreadable


def _loaders() -> int:
    """How many processes read images ahead: one for each core except the one that trains."""
    return max(1, min(16, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 4))


@lru_cache(maxsize=4)
def resident(task: str, files: tuple[File, ...], side: int) -> ImageSet:
    """A split whose images, squares of `side` pixels, are all decoded at once.

    Raises:
        DataError: if more than one in a thousand images cannot be read.
    """
    with ThreadPoolExecutor(_loaders() + 1) as pool:
        decoded = list(pool.map(_Decoded(files, side).__getitem__, [(i, None) for i in range(len(files))]))
    pixels, labels, unreadable = _collate(decoded)
    tolerate(task, unreadable, len(files))
    return ImageSet(pixels, labels, MEAN, DEVIATION, tuple(unreadable))


def tolerate(task: str, unreadable: list[str], count: int) -> None:
    """Warn about images that are left out because they cannot be read.

    Raises:
        DataError: if there is more than one in a thousand.
    """
    if not unreadable:
        return
    names = ", ".join(unreadable[:NAMED]) + (", ..." if len(unreadable) > NAMED else "")
    said = f"task {task}: {len(unreadable):,} of {count:,} images cannot be read: {names}"
    if len(unreadable) * TOLERATED > count:
        raise DataError(f"{said}. More than one in a thousand: the data is damaged, fetch or unpack it again")
    log.warning("%s; they are left out", said)
