"""The contents of a folder of images in `train/CLASS/` and `val/CLASS/`."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.errors import DataError
from npas_bench.tasks.classification.decoding import refused
from npas_bench.tasks.classification.labels import common_classes, normal
from npas_bench.tasks.classification.names import enumerate_names, shown
from npas_bench.tasks.classification.scanning import Scan, scan_split

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
    there = {split: folder / name for split, name in SPLITS.items() if (folder / name).is_dir()}
    if "test" not in there:
        what = "has no val/" if folder.is_dir() else "does not exist"
        raise DataError(f"task {task}: the data folder {folder} {what}; it should hold train/CLASS/ and val/CLASS/")
    try:
        scans = {split: scan_split(place) for split, place in there.items()}
        classes = common_classes(folder, {SPLITS[split]: scan.classes for split, scan in scans.items()})
    except (OSError, DataError) as error:
        raise DataError(f"task {task}: {error}") from None
    found = {split: _files(scan, classes) for split, scan in scans.items()}
    for scan in scans.values():
        _report_left_out(task, scan)
    digest, total = _digest(folder, [file.path for split in found for file in found[split]])
    return Listing(tuple(classes), found, digest, _side(task, found), total)


def _files(scan: Scan, classes: Sequence[str]) -> tuple[File, ...]:
    """The files of a split in the order of its class folders' names, with the numbers of their classes."""
    numbers = {normal(name): number for number, name in enumerate(classes)}
    return tuple(File(path, numbers[normal(name)]) for name, paths in scan.classes.items() for path in paths)


def _digest(folder: Path, paths: list[str]) -> tuple[str, int]:
    """The sha256 over names and sizes, and over the contents of a small data set; and the bytes of all files."""
    digest = hashlib.sha256()
    sizes = [_size(Path(path)) for path in paths]
    read = sum(sizes) <= _READ_BYTES
    for path, size in zip(paths, sizes, strict=True):
        # Names may hold bytes that are no UTF-8.
        name = Path(path).relative_to(folder).as_posix().encode("utf-8", "surrogateescape")
        digest.update(name + f":{size};".encode())
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


def _report_left_out(task: str, scan: Scan) -> None:
    """Warn about what lies in a split and is left out."""
    for reason, paths in scan.left_out.items():
        log.warning("task %s: %s: %s", task, reason.told(len(paths)), enumerate_names(sorted(paths)))


def _side(task: str, splits: Mapping[str, Sequence[File]]) -> int:
    """The side of the images that a network is given: the largest side of a sample of small images, or `LARGE_SIDE`.

    Raises:
        DataError: if no image of the sample can be read, if one is of a mode that is refused, or if some are small and
            others large.
    """
    from PIL import Image

    files = [file for split in splits.values() for file in split]
    sides, refusals = [], []
    for file in files[:: max(1, len(files) // _SAMPLE)]:
        # Decoders may raise any exception on damaged bytes.
        with contextlib.suppress(Exception), Image.open(file.path) as image:
            sides.append((max(image.size), shown(file.path)))
            refusals.append((shown(file.path), refused(image)))
    for path, refusal in refusals:
        if refusal is not None:
            raise DataError(f"task {task}: {path} {refusal}")
    if not sides:
        raise DataError(f"task {task}: {shown(files[0].path)} is no image that can be read, nor is any of a sample")
    smallest, largest = min(sides), max(sides)
    if smallest[0] <= SMALL_SIDE < largest[0]:
        raise DataError(
            f"task {task}: {smallest[1]} has {smallest[0]} pixels a side and {largest[1]} {largest[0]}: images are "
            f"either all small (at most {SMALL_SIDE}) or all larger"
        )
    return largest[0] if largest[0] <= SMALL_SIDE else LARGE_SIDE
