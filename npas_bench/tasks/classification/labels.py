"""Which classes the splits of a folder of images have, and why some sets of folders are refused."""

from __future__ import annotations

import logging
import shlex
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

from npas_bench.errors import DataError
from npas_bench.tasks.classification.names import enumerate_names, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)
# Where Tiny-ImageNet, as it is given out, has all images of `val/`, and the file with their classes.
_UNSORTED, _ANNOTATIONS = "images", "val_annotations.txt"
# What NFKC evens out, as messages call it.
_VARIANTS = "variants of letters (ligatures, widths, raised digits)"


def normal(name: str) -> str:
    """The name of a class in the form in which names that look alike are equal (Unicode's NFC).

    File systems and archives hand on the same name in different forms, so that those of two splits may differ in that.
    """
    return unicodedata.normalize("NFC", name)


def common_classes(folder: Path, splits: Mapping[str, Mapping[str, Sequence[str]]]) -> Sequence[str]:
    """The names of the classes that all splits have, in the order of their numbers.

    Args:
        folder: the folder of images, for messages.
        splits: the images of each class by the name of its folder, for each split that is there, by its folder.

    Raises:
        DataError: if a split has no class, two that look alike or an empty one; if the splits differ; or if there is
            one class alone.
    """
    for split, classes in splits.items():
        if not classes:
            raise DataError(f"{split}/ of {folder} has no folder of a class: it should hold {split}/CLASS/")
        _refuse_twins(folder, split, classes)
    _refuse_differences(folder, splits)
    for split, classes in splits.items():
        empty = [name for name, images in classes.items() if not images]
        if empty:
            raise DataError(
                f"{split}/ of {folder} has no image in {len(empty)} of its class folders: {enumerate_names(empty)}"
            )
    first = list(next(iter(splits.values())))
    if len(first) < 2:
        raise DataError(f"val/ of {folder} has one class alone, which nothing can be told from")
    _tell_resemblance(folder, first)
    return first


def _refuse_twins(folder: Path, split: str, classes: Iterable[str]) -> None:
    for names in _alike(classes, normal):
        raise DataError(
            f"{split}/ of {folder} has class folders whose names differ in their Unicode form alone: "
            f"{', '.join(map(ascii, names))}; merge them, or rename one"
        )


def _tell_resemblance(folder: Path, classes: Iterable[str]) -> None:
    """Warn about classes that a reader, or another file system, may take for one."""
    for names in _alike(classes, lambda name: _compatible(_compatible(name).casefold())):
        if all(_compatible(name) == normal(name) for name in names):
            log.warning("%s has classes whose names differ in their case alone: %s", folder, enumerate_names(names))
            continue
        one_case = len({_compatible(name) for name in names}) == 1
        log.warning(
            "%s has classes whose names differ %s alone: %s",
            folder,
            f"in {_VARIANTS}" if one_case else f"in their case and in {_VARIANTS}",
            ", ".join(map(ascii, names)),
        )


def _compatible(name: str) -> str:
    """The name with a plain letter for each of its variants, such as ligatures and wide letters (Unicode's NFKC)."""
    return unicodedata.normalize("NFKC", name)


def _alike(names: Iterable[str], form: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[form(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _refuse_differences(folder: Path, splits: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    known = {normal(name): name for classes in splits.values() for name in classes}
    lacking = {split: sorted(known.keys() - {*map(normal, classes)}) for split, classes in splits.items()}
    in_one_folder = set(splits["val"]) == {_UNSORTED}
    if in_one_folder and (any(lacking.values()) or (folder / "val" / _ANNOTATIONS).is_file()):
        raise DataError(_unsorted(folder))
    if not any(lacking.values()):
        return
    number = len({name for names in lacking.values() for name in names})
    said = "; ".join(
        f"{split}/ lacks {enumerate_names([known[name] for name in names])}"
        for split, names in lacking.items()
        if names
    )
    raise DataError(f"train/ and val/ of {folder} differ in {number} {'class' if number == 1 else 'classes'}: {said}")


def _unsorted(folder: Path) -> str:
    """What is wrong with a split whose images lie in one folder, and how to sort those of Tiny-ImageNet."""
    said = f"val/ of {folder} has its images in val/{_UNSORTED}/ and not in a folder for each class"
    if not (folder / "val" / _ANNOTATIONS).is_file():
        return f"{said}: sort them into val/CLASS/"
    return (
        f"{said}. Sort them as {_ANNOTATIONS} says:\n"
        f'  (cd {shlex.quote(shown(str(folder / "val")))} && while read -r image class box; do mkdir -p "$class" && '
        f'mv "{_UNSORTED}/$image" "$class/"; done < {_ANNOTATIONS} && rmdir {_UNSORTED})'
    )
