"""What lies in one split of a folder of images: its class folders, the images in them, and what is left out.

A class is a folder of the split; its images are all files below it whose names are those of images. Left out are

- names that begin with a dot, and those of what operating systems leave behind (`OF_SYSTEMS`);
- files whose names are not those of images, and what is no file, such as a FIFO;
- images that lie in no class folder.

Links to files and folders are followed. A folder that cannot be read, or that leads into itself, is an error.
"""

from __future__ import annotations

import os
from collections import defaultdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.errors import DataError
from npas_bench.tasks.classification.names import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# How the names of images end, as in torchvision.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# What macOS, Windows, Synology's system and Linux write beside a user's files.
OF_SYSTEMS = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
    | {"@eadir", "lost+found"}
)


class LeftOut(Enum):
    """Why something that lies in a split is not one of its images; the value says so of one, and of several."""

    hidden = (
        "image or folder is hidden, or an operating system's, and is left out",
        "images or folders are hidden, or an operating system's, and are left out",
    )
    foreign = (
        "file is no image by its name and is left out",
        "files are no images by their names and are left out",
    )
    special = (
        "image by its name is no file and is left out",
        "images by their names are no files and are left out",
    )
    loose = ("image lies in no class folder and is left out", "images lie in no class folder and are left out")

    def told(self, number: int) -> str:
        """The reason, told of a number of files."""
        one, several = self.value
        return f"1 {one}" if number == 1 else f"{number:,} {several}"


class Scan(NamedTuple):
    """The contents of a split.

    Attributes:
        classes: paths of the images of each class, by the class folder's name, both in the order of their names.
        left_out: paths of what is left out, by the reason.
    """

    classes: Mapping[str, Sequence[str]]
    left_out: Mapping[LeftOut, Sequence[str]]


def scan_split(place: Path) -> Scan:
    """Look for the images of a split.

    Raises:
        DataError: if a link leads to a folder that it lies in.
        OSError: if a folder cannot be read.
    """
    left_out: dict[LeftOut, list[str]] = defaultdict(list)
    classes = {}
    for entry in _entries(str(place)):
        if _is_hidden(entry.name):
            _tell_hidden(entry, left_out)
        elif _is_folder(entry):
            folders: dict[str, list[str]] = {}
            _scan_folder(entry.path, (_place_of(str(place)),), folders, left_out)
            classes[entry.name] = tuple(path for _, paths in sorted(folders.items()) for path in paths)
        else:
            left_out[LeftOut.loose if _is_image(entry.name) else LeftOut.foreign].append(entry.path)
    return Scan(classes, left_out)


def _scan_folder(
    folder: str,
    above: tuple[tuple[int, int], ...],
    folders: dict[str, list[str]],
    left_out: dict[LeftOut, list[str]],
) -> None:
    """Add the images of a folder and of those in it to `folders`, by the folder that each lies in."""
    here = _place_of(folder)
    if here in above:
        raise DataError(f"{shown(folder)} is a link to a folder that it lies in itself: remove it")
    images = folders.setdefault(folder, [])
    for entry in _entries(folder):
        if _is_hidden(entry.name):
            _tell_hidden(entry, left_out)
        elif _is_folder(entry):
            _scan_folder(entry.path, (*above, here), folders, left_out)
        elif not _is_image(entry.name):
            left_out[LeftOut.foreign].append(entry.path)
        # A link to nothing counts as an image that cannot be read.
        elif Path(entry.path).is_file() or not Path(entry.path).exists():
            images.append(entry.path)
        else:
            left_out[LeftOut.special].append(entry.path)


def _tell_hidden(entry: os.DirEntry[str], left_out: dict[LeftOut, list[str]]) -> None:
    """Record what somebody might miss: images and folders, but not the files of settings that lie in every folder."""
    if _is_image(entry.name) or _is_folder(entry):
        left_out[LeftOut.hidden].append(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # Unlike the entry's own method, this one says no of a link to itself.
    return Path(entry.path).is_dir()


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _place_of(folder: str) -> tuple[int, int]:
    found = Path(folder).stat()
    return found.st_dev, found.st_ino


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_ENDINGS)
