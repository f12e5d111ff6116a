"""`image-folder:FOLDER` and `imagenet`: images in a folder per class, `train/CLASS/` and `val/CLASS/`.

Small images (at most 64 pixels) are decoded once and stay on the device. Larger ones are read as they are needed by
processes that run ahead of the training.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from npas_bench.architectures import Signature
from npas_bench.errors import DataError, NpasBenchError
from npas_bench.seeding import derive_seed
from npas_bench.tasks.base import Examples, Source, data_folder
from npas_bench.tasks.classification.base import ClassificationTask, Images, ImageSet, laid_out
from npas_bench.tasks.classification.recipes import large_images, small_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from npas_bench.recipe import Recipe
    from npas_bench.tasks.base import Part

log = logging.getLogger(__name__)
# Statistics of ImageNet's training split, as torchvision has them, in units of uint8.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_SMALL_SIDE, _LARGE_SIDE = 64, 224
# The shorter side in evaluation over the side of the central square that is cut out of it.
_MARGIN = 256 / 224
# A split of small images up to this many bytes stays on the device.
_RESIDENT_BYTES = 2**31
# Files of up to this many bytes in all are told apart by their content, larger sets by names and sizes.
_READ_BYTES = 2**30
# Of so many images one may be unreadable.
_TOLERATED = 1000
_NAMED = 5
# So many of the next images are tried in the place of one that cannot be read.
_STAND_INS = 20
# So many images tell how large a set's images are.
_SAMPLE = 100
_SPLITS = {"train": "train", "test": "val"}
# Known sets by their digest, and the name their results go under.
_KNOWN = {"28e819859625abbb4125479be2fdef00992a45dd173949b7b1519f28085d582b": "Tiny-ImageNet-100c"}


class _File(NamedTuple):
    path: str
    label: int


class _Read(NamedTuple):
    pixels: Tensor | None
    label: int
    unreadable: list[str]


class _Listing(NamedTuple):
    """What lies in a folder.

    Attributes:
        classes: names, in the order of their labels.
        splits: files of each split that is there.
        digest: over names and, of small sets, contents.
        side: of the images a network is given.
        bytes: of all files together.
    """

    classes: tuple[str, ...]
    splits: dict[str, tuple[_File, ...]]
    digest: str
    side: int
    bytes: int


class ImageFolder(ClassificationTask):
    """Any set of images in `train/CLASS/` and `val/CLASS/`.

    Args:
        folder: relative to the folder of data sets, or an absolute path.
    """

    name = "image-folder"
    argument: ClassVar[str | None] = "FOLDER"
    architecture = "wrn-16-2"

    def __init__(self, folder: str) -> None:
        self._folder = Path(os.path.normpath(data_folder() / Path(folder).expanduser()))
        # However the folder is written, the name is one: identities and seeds depend on it.
        root = Path(os.path.normpath(data_folder()))
        inside = self._folder.is_relative_to(root)
        self.name = f"image-folder:{(self._folder.relative_to(root) if inside else self._folder).as_posix()}"

    @classmethod
    def of(cls, argument: str | None) -> Self:
        """Images in the folder that is written behind the name."""
        if not argument:
            raise NpasBenchError(
                f"task '{cls.name}' takes a folder behind its name, as {cls.name}:tiny-imagenet does: absolute, or in "
                "the folder of data sets, with train/ and val/ and in them a folder for each class"
            )
        return cls(argument)

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """As many classes as folders; images of at most 64 pixels as they are, others of 224."""
        listing = self._list()
        return Signature((3, listing.side, listing.side), len(listing.classes))

    def splits(self) -> tuple[str, ...]:
        """Those whose folders are there."""
        return tuple(self._list().splits)

    def source(self) -> Source:
        """The folder's name; nothing is official here."""
        digest = self._list().digest
        label = _KNOWN.get(digest, f"{self._folder.name} (image folder {digest[:8]})")
        return Source(self._folder.name, digest, official=False, label=label)

    def data(self, split: str) -> Examples:
        """The images of `train`, or for `test` those of `val/`."""
        if split not in _SPLITS:
            raise DataError(f"task {self.name} has no {split} split: it has train and test")
        listing = self._list()
        if split not in listing.splits:
            raise DataError(f"task {self.name}: {self._folder} has no {_SPLITS[split]}/, which {split} is read from")
        files = listing.splits[split]
        if listing.side <= _SMALL_SIDE and len(files) * 3 * listing.side**2 <= _RESIDENT_BYTES:
            return _resident(self.name, files, listing.side)
        return ImageFiles(self.name, files, listing.side, torch.device("cpu"))

    def recipes(self, architecture: str) -> Mapping[str, Recipe]:
        """CIFAR's recipes for small images, with windows and holes as much larger as they are; else ImageNet's."""
        side = self._list().side
        return small_images(architecture, side) if side <= _SMALL_SIDE else large_images(architecture)

    def batches(self, examples: Examples, parts: Sequence[Part], recipe: Recipe) -> Iterator[Any]:
        """Windows of images are cut while these are read; the rest happens on the device, where resident ones lie."""
        if not isinstance(examples, ImageFiles):
            yield from super().batches(examples, parts, recipe)
            return
        rest = recipe.model_copy(update={"zoom": None})
        for part, batch in zip(parts, examples.training(parts, recipe.zoom), strict=True):
            yield self.augment(batch, rest, part.draws)

    def _list(self) -> _Listing:
        return _list(self.name, self._folder)


class ImageNet(ImageFolder):
    """ImageNet (ILSVRC 2012): a thousand classes in the order of their WordNet ids.

    Its `train/` may be missing where nothing is trained.
    """

    name = "imagenet"
    argument = None
    architecture = "wrn-50-2"
    _CLASSES: ClassVar[int] = 1000
    _IMAGES: ClassVar[dict[str, int]] = {"train": 1_281_167, "test": 50_000}
    # Copies with smaller images have less.
    _OFFICIAL_BYTES: ClassVar[int] = 140_000_000_000

    def __init__(self) -> None:
        super().__init__("imagenet")
        self.name = "imagenet"

    @classmethod
    def of(cls, argument: str | None) -> Self:
        """Nothing is written behind its name."""
        if argument is not None:
            raise NpasBenchError(f"task 'imagenet' takes nothing behind its name: use image-folder:{argument}")
        return cls()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """Known without data."""
        return Signature((3, _LARGE_SIDE, _LARGE_SIDE), self._CLASSES)

    def source(self) -> Source:
        """Official where counts are, and files are as large as the official ones."""
        listing = self._list()
        counts = {split: len(files) for split, files in listing.splits.items()}
        official = counts == self._IMAGES and listing.bytes > self._OFFICIAL_BYTES
        part = " + ".join(f"{count:,}" for count in counts.values())
        label = "ImageNet" if official else f"ImageNet ({part} images, unofficial data {listing.digest[:8]})"
        return Source("ImageNet", listing.digest, official, label)

    def recipes(self, architecture: str) -> Mapping[str, Recipe]:
        """The usual recipe: 90 epochs in three steps; for EfficientNets 100 without steps."""
        return large_images(architecture)

    def _list(self) -> _Listing:
        try:
            listing = super()._list()
        except DataError as error:
            raise DataError(
                f"{error}\nThe images are given out at https://image-net.org/download; unpack them to "
                f"{self._folder}/train/WNID/ and {self._folder}/val/WNID/"
            ) from None
        if len(listing.classes) != self._CLASSES:
            raise DataError(
                f"task imagenet: {self._folder} has {len(listing.classes):,} classes, not 1,000; for other sets there "
                f"is --task image-folder:{self._folder.name}"
            )
        return listing._replace(side=_LARGE_SIDE)


@dataclass(frozen=True)
class ImageFiles(Examples):
    """A split whose images are read as they are needed.

    Attributes:
        task: name, for messages.
        files: paths and labels.
        side: of the square that a network is given.
        device: that batches go to.
        failed: files that could not be read so far, in whichever epoch.
    """

    task: str
    files: tuple[_File, ...]
    side: int
    device: torch.device
    failed: set[str] = field(default_factory=set, compare=False)

    @property
    def unreadable(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those that are left out."""
        return tuple(sorted(self.failed))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def to(self, device: torch.device) -> ImageFiles:
        """The same images, read to another device."""
        return replace(self, device=device)

    def batch(self, indices: Tensor) -> Images:
        """The central squares of images, normalised."""
        return next(self.batches([indices]))

    def batches(self, orders: Sequence[Tensor]) -> Iterator[Images]:
        """The same of several lists, read ahead."""
        return self._load([[(index, None) for index in order.tolist()] for order in orders])

    def training(self, parts: Sequence[Part], zoom: float | None) -> Iterator[Images]:
        """Batches of training images; for one that cannot be read the next one stands in.

        Args:
            parts: which; an image's own draws follow from the part's generator and its index.
            zoom: of the recipe; None takes central squares.
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
            # Otherwise it would draw from the generator that modules draw from.
            generator=torch.Generator(),
        )
        shift, scale = (torch.tensor(values, device=self.device).view(-1, 1, 1) for values in (MEAN, DEVIATION))
        for pixels, labels, unreadable in loader:
            if not self.failed.issuperset(unreadable):
                self.failed.update(unreadable)
                _tolerate(self.task, sorted(self.failed), len(self.files))
            if not len(labels):
                continue
            moved = pixels.to(self.device, non_blocking=on_gpu).float()
            yield Images(laid_out((moved - shift) / scale), labels.to(self.device, non_blocking=on_gpu))


class _Decoded(Dataset[Any]):
    """Decoded images by (index, seed), uint8, with their labels, and the paths of those that cannot be read."""

    def __init__(self, files: tuple[_File, ...], side: int, zoom: float | None = None, *, stand_ins: bool = False):
        self._files, self._side, self._zoom, self._stand_ins = files, side, zoom, stand_ins

    def __getitem__(self, wanted: tuple[int, int | None]) -> _Read:
        index, seed = wanted
        unreadable: list[str] = []
        for place in range(index, index + (_STAND_INS if self._stand_ins else 1)):
            path, label = self._files[place % len(self._files)]
            try:
                return _Read(_decode(path, self._side, self._zoom, seed), label, unreadable)
            # Decoders raise whatever the bytes make them.
            except Exception:
                unreadable.append(path)
        return _Read(None, -1, unreadable)


def _decode(path: str, side: int, zoom: float | None, seed: int | None) -> Tensor:
    """An image (3, side, side), uint8: its central square, or a random window where there are a zoom and a seed."""
    from PIL import Image
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    with Image.open(path) as file:
        image: Tensor = functional.pil_to_tensor(file.convert("RGB"))
    if seed is None or zoom is None:
        if image.shape[1:] == (side, side):
            return image
        shorter = side if side <= _SMALL_SIDE else round(side * _MARGIN)
        image = functional.center_crop(functional.resize(image, [shorter], antialias=True), [side, side])
        return image
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = v2.RandomResizedCrop(side, scale=(zoom, 1.0), antialias=True)(image)
    return image


def _collate(images: list[_Read]) -> tuple[Tensor, Tensor, list[str]]:
    """Pixels and labels of those that were read, and the others' paths."""
    pixels = [image.pixels for image in images if image.pixels is not None]
    labels = [image.label for image in images if image.pixels is not None]
    unreadable = [path for image in images for path in image.unreadable]
    return torch.stack(pixels) if pixels else torch.empty(0), torch.tensor(labels, dtype=torch.int64), unreadable


def _loaders() -> int:
    """Processes that read images ahead: the cores that are left beside the one that trains."""
    return max(1, min(16, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 4))


@lru_cache(maxsize=4)
def _resident(task: str, files: tuple[_File, ...], side: int) -> ImageSet:
    with ThreadPoolExecutor(_loaders() + 1) as pool:
        decoded = list(pool.map(_Decoded(files, side).__getitem__, [(i, None) for i in range(len(files))]))
    pixels, labels, unreadable = _collate(decoded)
    _tolerate(task, unreadable, len(files))
    return ImageSet(pixels, labels, MEAN, DEVIATION, tuple(unreadable))


def _tolerate(task: str, unreadable: list[str], count: int) -> None:
    """Say which images are left out.

    Raises:
        DataError: if they are more than one in a thousand.
    """
    if not unreadable:
        return
    names = ", ".join(unreadable[:_NAMED]) + (", ..." if len(unreadable) > _NAMED else "")
    said = f"task {task}: {len(unreadable):,} of {count:,} images cannot be read: {names}"
    if len(unreadable) * _TOLERATED > count:
        raise DataError(f"{said}. More than one in a thousand: the data is damaged, fetch or unpack it again")
    log.warning("%s; they are left out", said)


def _list(task: str, folder: Path) -> _Listing:
    try:
        times = tuple(path.stat().st_mtime_ns for path in sorted(folder.glob("*/*")) if path.is_dir())
    except OSError as error:
        raise DataError(f"task {task}: {folder} cannot be read: {error}") from None
    return _list_once(task, folder, times)


@lru_cache(maxsize=4)
def _list_once(task: str, folder: Path, times: tuple[int, ...]) -> _Listing:
    """List a folder; `times` of its class folders tell whether it changed since."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    there = {split: folder / name for split, name in _SPLITS.items() if (folder / name).is_dir()}
    if "test" not in there:
        what = "has no val/" if folder.is_dir() else "does not exist"
        raise DataError(f"task {task}: the data folder {folder} {what}; it should hold train/CLASS/ and val/CLASS/")
    found, classes = {}, {}
    for split, place in there.items():
        try:
            names, numbers = find_classes(place)
            found[split] = tuple(_File(*file) for file in make_dataset(place, numbers, IMG_EXTENSIONS))
        except OSError as error:
            raise DataError(f"task {task}: {error}") from None
        classes[split] = tuple(names)
        _report_foreign(task, place, {file.path for file in found[split]})
    if len({*classes.values()}) > 1:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise DataError(
            f"task {task}: train/ and val/ of {folder} differ in {len(odd)} classes: {', '.join(odd[:_NAMED])}"
            f"{', ...' if len(odd) > _NAMED else ''}"
        )
    if len(classes["test"]) < 2:
        raise DataError(f"task {task}: val/ of {folder} has one class alone, which nothing can be told from")
    digest, total = _digest(folder, [file.path for split in found for file in found[split]])
    return _Listing(classes["test"], found, digest, _side(task, found), total)


def _digest(folder: Path, paths: list[str]) -> tuple[str, int]:
    """sha256 over names and sizes, and of small sets contents; and the bytes of all files."""
    digest = hashlib.sha256()
    sizes = [_size(Path(path)) for path in paths]
    read = sum(sizes) <= _READ_BYTES
    for path, size in zip(paths, sizes, strict=True):
        digest.update(f"{Path(path).relative_to(folder).as_posix()}:{size};".encode())
        if read and size:
            # A file that cannot be opened is an image that cannot be read, which is counted when they all are.
            with contextlib.suppress(OSError):
                digest.update(Path(path).read_bytes())
    return digest.hexdigest(), sum(sizes)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _report_foreign(task: str, place: Path, images: set[str]) -> None:
    """Say which files of a split are left out because they have no image's name."""
    foreign = sorted(
        path
        for path in (os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names)  # noqa: PTH118
        if path not in images and not Path(path).name.startswith(".")
    )
    if foreign:
        names = ", ".join(foreign[:_NAMED]) + (", ..." if len(foreign) > _NAMED else "")
        log.warning("task %s: %s files are no images by their names and are left out: %s", task, len(foreign), names)


def _side(task: str, splits: Mapping[str, Sequence[_File]]) -> int:
    """The side of what a network is given: the largest of a sample of small images; one for all larger ones.

    Raises:
        DataError: if none can be read, or some are small and others large.
    """
    from PIL import Image

    files = [file for split in splits.values() for file in split]
    sides = []
    for file in files[:: max(1, len(files) // _SAMPLE)]:
        # Decoders raise whatever the bytes make them.
        with contextlib.suppress(Exception), Image.open(file.path) as image:
            sides.append((max(image.size), file.path))
    if not sides:
        raise DataError(f"task {task}: {files[0].path} is no image that can be read, nor is any other of a sample")
    smallest, largest = min(sides), max(sides)
    if smallest[0] <= _SMALL_SIDE < largest[0]:
        raise DataError(
            f"task {task}: {smallest[1]} has {smallest[0]} pixels a side and {largest[1]} {largest[0]}: images are "
            f"either all small (at most {_SMALL_SIDE}) or all larger"
        )
    return largest[0] if largest[0] <= _SMALL_SIDE else _LARGE_SIDE
