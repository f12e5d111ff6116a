"""The contents of a folder of images in `train/CLASS/` and `val/CLASS/`."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)
# The largest side of small images, and the side of what a network is given of larger images.
SMALL_SIDE, LARGE_SIDE = 64, 224
SPLITS = {"train": "train", "test": "val"}
# Data sets of at most so many bytes are told apart by their contents, larger ones by names and sizes alone.
_READ_BYTES = 2**30
# The size of a data set's images is taken from so many of them.
_SAMPLE = 100
# A message names at most so many files.
NAMED = 5


class File(NamedTuple):
    """An image's path, and the number of its class."""

    path: str
    label: int


class Listing(NamedTuple):
    """The contents of a folder of images.

    Attributes:
        classes: names of the classes, in the order of their labels.
        splits: files of each split that is there.
        digest: sha256 over the files' names and sizes, and over their contents where these are small.
        side: side in pixels of the images that a network is given.
        bytes: number of bytes of all files together.
    """

    classes: tuple[str, ...]
    splits: dict[str, tuple[File, ...]]
    digest: str
    side: int
    bytes: int


def list_folder(task: str, folder: Path) -> Listing:
    """The contents of a folder, which is read again if one of its class folders has changed.

    Args:
        task: name of the task, for messages.
        folder: the folder with `train/` and `val/`; the former may be missing.

    Raises:
        DataError: if the folder is missing or damaged, or if its splits have different classes.
    """
    try:
        times = tuple(path.stat().st_mtime_ns for path in sorted(folder.glob("*/*")) if path.is_dir())
    except OSError as error:
        raise DataError(f"task {task}: {folder} cannot be read: {error}") from None
    return _list_once(task, folder, times)


@lru_cache(maxsize=4)
def _list_once(task: str, folder: Path, times: tuple[int, ...]) -> Listing:
    """The contents of a folder; `times`, those of its class folders, differ if the folder has changed."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    there = {split: folder / name for split, name in SPLITS.items() if (folder / name).is_dir()}
    if "test" not in there:
        what = "has no val/" if folder.is_dir() else "does not exist"
        raise DataError(f"task {task}: the data folder {folder} {what}; it should hold train/CLASS/ and val/CLASS/")
    found, classes = {}, {}
    for split, place in there.items():
        try:
            names, numbers = find_classes(place)
            found[split] = tuple(File(*file) for file in make_dataset(place, numbers, IMG_EXTENSIONS))
        except OSError as error:
            raise DataError(f"task {task}: {error}") from None
        classes[split] = tuple(names)
        _report_foreign(task, place, {file.path for file in found[split]})
    if len({*classes.values()}) > 1:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise DataError(
            f"task {task}: train/ and val/ of {folder} differ in {len(odd)} classes: {', '.join(odd[:NAMED])}"
            f"{', ...' if len(odd) > NAMED else ''}"
        )
    if len(classes["test"]) < 2:
        raise DataError(f"task {task}: val/ of {folder} has one class alone, which nothing can be told from")
    digest, total = _digest(folder, [file.path for split in found for file in found[split]])
    return Listing(classes["test"], found, digest, _side(task, found), total)


def _digest(folder: Path, paths: list[str]) -> tuple[str, int]:
    """The sha256 over names and sizes, and over the contents of a small data set; and the bytes of all files."""
    digest = hashlib.sha256()
    sizes = [_size(Path(path)) for path in paths]
    read = sum(sizes) <= _READ_BYTES
    for path, size in zip(paths, sizes, strict=True):
        digest.update(f"{Path(path).relative_to(folder).as_posix()}:{size};".encode())
        if read and size:
            # A file that cannot be opened counts as an unreadable image when all images are read.
            with contextlib.suppress(OSError):
                digest.update(Path(path).read_bytes())
    return digest.hexdigest(), sum(sizes)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _report_foreign(task: str, place: Path, images: set[str]) -> None:
    """Warn about files of a split that are left out because their names are not those of images."""
    foreign = sorted(
        path
        for path in (os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names)  # noqa: PTH118
        if path not in images and not Path(path).name.startswith(".")
    )
    if foreign:
        names = ", ".join(foreign[:NAMED]) + (", ..." if len(foreign) > NAMED else "")
        log.warning("task %s: %s files are no images by their names and are left out: %s", task, len(foreign), names)


def _side(task: str, splits: Mapping[str, Sequence[File]]) -> int:
    """The side of the images that a network is given: the largest side of a sample of small images, or `LARGE_SIDE`.

    Raises:
        DataError: if no image of the sample can be read, or if some are small and others large.
    """
    from PIL import Image

    files = [file for split in splits.values() for file in split]
    sides = []
    for file in files[:: max(1, len(files) // _SAMPLE)]:
        # Decoders may raise any exception on damaged bytes.
        with contextlib.suppress(Exception), Image.open(file.path) as image:
            sides.append((max(image.size), file.path))
    if not sides:
        raise DataError(f"task {task}: {files[0].path} is no image that can be read, nor is any other of a sample")
    smallest, largest = min(sides), max(sides)
    if smallest[0] <= SMALL_SIDE < largest[0]:
        raise DataError(
            f"task {task}: {smallest[1]} has {smallest[0]} pixels a side and {largest[1]} {largest[0]}: images are "
            f"either all small (at most {SMALL_SIDE}) or all larger"
        )
    return largest[0] if largest[0] <= SMALL_SIDE else LARGE_SIDE
