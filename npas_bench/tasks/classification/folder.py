"""`image-folder:FOLDER` and `imagenet`: images in one folder for each class, `train/CLASS/` and `val/CLASS/`.

Small images (of at most 64 pixels) are decoded once and stay on the device. Larger images are read as they are needed,
by processes that run ahead of the training.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from typing_extensions import override

from npas_bench.architectures import ImageSignature
from npas_bench.errors import DataError, NpasBenchError
from npas_bench.recipe import ImageRecipe
from npas_bench.tasks.base import DataVersion, data_folder
from npas_bench.tasks.classification.base import ClassificationTask
from npas_bench.tasks.classification.files import ImageFiles, resident
from npas_bench.tasks.classification.listing import LARGE_SIDE, SMALL_SIDE, SPLITS, Listing, list_folder
from npas_bench.tasks.classification.names import is_storable, shown
from npas_bench.tasks.classification.recipes import large_images, small_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from npas_bench.recipe import Recipe
    from npas_bench.tasks.base import Examples, Part

# A split of small images stays on the device if it has at most so many bytes.
_RESIDENT_BYTES = 2**31
# The names that results on known data sets are reported under, by digest.
_KNOWN = {"28e819859625abbb4125479be2fdef00992a45dd173949b7b1519f28085d582b": "Tiny-ImageNet-100c"}


class ImageFolder(ClassificationTask):
    """Any set of images in `train/CLASS/` and `val/CLASS/`.

    Args:
        folder: an absolute path, or one relative to the folder of data sets.
    """

    name = "image-folder"
    argument: ClassVar[str | None] = "FOLDER"
    architecture = "wrn-16-2"

    def __init__(self, folder: str) -> None:
        if not is_storable(folder):
            raise DataError(
                f"task image-folder: the name of the folder '{shown(folder)}' has line breaks, control characters or "
                "bytes that are no UTF-8, which no database holds: rename it, or link to it by another name"
            )
        self._folder = Path(os.path.normpath(data_folder() / Path(folder).expanduser()))
        # The name is the same however the folder is written, since identities and seeds depend on it.
        root = Path(os.path.normpath(data_folder()))
        inside = self._folder.is_relative_to(root)
        self.name = f"image-folder:{(self._folder.relative_to(root) if inside else self._folder).as_posix()}"

    @classmethod
    @override
    def of(cls, argument: str | None) -> Self:
        """The task for the images in the folder that follows the name."""
        if not argument:
            raise NpasBenchError(
                f"task '{cls.name}' takes a folder behind its name, as {cls.name}:tiny-imagenet does: absolute, or in "
                "the folder of data sets, with train/ and val/ and in them a folder for each class"
            )
        return cls(argument)

    @property
    @override
    def signature(self) -> ImageSignature:  # type: ignore[override]
        """A class for each folder, and images of their own size up to 64 pixels, or else of 224 pixels."""
        listing = self._list()
        return ImageSignature((3, listing.side, listing.side), len(listing.classes))

    @override
    def splits(self) -> tuple[str, ...]:
        """The names of the splits whose folders are there."""
        return tuple(self._list().splits)

    @override
    def source(self) -> DataVersion:
        """The version of the folder's images; none is official."""
        digest = self._list().digest
        label = _KNOWN.get(digest, f"{self._folder.name} (image folder {digest[:8]})")
        return DataVersion(self._folder.name, digest, official=False, label=label)

    @override
    def data(self, split: str) -> Examples:
        """The images of `train`, or those of `val/` for `test`."""
        if split not in SPLITS:
            raise DataError(f"task {self.name} has no {split} split: it has train and test")
        listing = self._list()
        if split not in listing.splits:
            raise DataError(f"task {self.name}: {self._folder} has no {SPLITS[split]}/, which {split} is read from")
        files = listing.splits[split]
        if self._is_resident(listing, split):
            return resident(self.name, files, listing.side)
        return ImageFiles(self.name, files, listing.side, torch.device("cpu"))

    @override
    def recipes(self, architecture: str) -> Mapping[str, ImageRecipe]:
        """CIFAR's recipes for small images, with windows and holes as much larger as they are; else ImageNet's."""
        side = self._list().side
        return small_images(architecture, side) if side <= SMALL_SIDE else large_images(architecture)

    @override
    def batches(self, examples: Examples, parts: Sequence[Part], recipe: Recipe) -> Iterator[Any]:
        """Windows of images are cut while these are read; the rest happens on the device, where resident ones lie."""
        if not isinstance(examples, ImageFiles):
            yield from super().batches(examples, parts, recipe)
            return
        zoom = None
        if isinstance(recipe, ImageRecipe):
            zoom, recipe = recipe.zoom, recipe.model_copy(update={"zoom": None})
        for part, batch in zip(parts, examples.training(parts, zoom), strict=True):
            yield self.augment(batch, recipe, part.draws)

    @override
    def recipe_refusal(self, recipe: Recipe) -> str | None:
        """What is wrong with zooming into images that were scaled to one size when they were decoded."""
        zooms = isinstance(recipe, ImageRecipe) and recipe.zoom is not None
        return self._no_zoom() if zooms and self._is_resident(self._list(), "train") else None

    @override
    def count(self, split: str) -> int:
        """The number of files of a split, whether or not they can be read."""
        return len(self._list().splits.get(split, ()))

    @override
    def download(self, folder: Path) -> None:
        """Refuse, and say which folders the images are read from."""
        raise DataError(f"task {self.name} cannot be downloaded: {self._wanted()}")

    def _wanted(self) -> str:
        """What must lie where, as a clause that can follow a colon."""
        return (
            f"bring your images to {self._folder}/train/CLASS/ and {self._folder}/val/CLASS/, in a folder for each "
            "class; docs/classification.md says which files are read and which are left out"
        )

    def _is_resident(self, listing: Listing, split: str) -> bool:
        size = len(listing.splits.get(split, ())) * 3 * listing.side**2
        return listing.side <= SMALL_SIDE and size <= _RESIDENT_BYTES

    def _list(self) -> Listing:
        return list_folder(self.name, self._folder)


class ImageNet(ImageFolder):
    """ImageNet (ILSVRC 2012), with a thousand classes in the order of their WordNet ids.

    The folder `train/` may be missing where nothing is trained.
    """

    name = "imagenet"
    argument = None
    architecture = "wrn-50-2"
    _CLASSES: ClassVar[int] = 1000
    _IMAGES: ClassVar[dict[str, int]] = {"train": 1_281_167, "test": 50_000}
    # Copies with smaller images have fewer bytes than the official files.
    _OFFICIAL_BYTES: ClassVar[int] = 140_000_000_000

    def __init__(self) -> None:
        super().__init__("imagenet")
        self.name = "imagenet"

    @classmethod
    @override
    def of(cls, argument: str | None) -> Self:
        """The task; nothing follows its name."""
        if argument is not None:
            raise NpasBenchError(f"task 'imagenet' takes nothing behind its name: use image-folder:{argument}")
        return cls()

    @property
    @override
    def signature(self) -> ImageSignature:  # type: ignore[override]
        """A thousand classes and images of 224 pixels, known without data."""
        return ImageSignature((3, LARGE_SIDE, LARGE_SIDE), self._CLASSES)

    @override
    def source(self) -> DataVersion:
        """The version of the data, which is official if the numbers of images and the size of the files are."""
        listing = self._list()
        counts = {split: len(files) for split, files in listing.splits.items()}
        official = counts == self._IMAGES and listing.bytes > self._OFFICIAL_BYTES
        part = " + ".join(f"{count:,}" for count in counts.values())
        label = "ImageNet" if official else f"ImageNet ({part} images, unofficial data {listing.digest[:8]})"
        return DataVersion("ImageNet", listing.digest, official, label)

    @override
    def recipes(self, architecture: str) -> Mapping[str, ImageRecipe]:
        """The usual recipe: 90 epochs in three steps; for EfficientNets 100 without steps."""
        return large_images(architecture)

    @override
    def _wanted(self) -> str:
        return (
            "the images are given out at https://image-net.org/download; unpack them to "
            f"{self._folder}/train/WNID/ and {self._folder}/val/WNID/"
        )

    @override
    def _list(self) -> Listing:
        try:
            listing = super()._list()
        except DataError as error:
            wanted = self._wanted()
            raise DataError(f"{error}\n{wanted[0].upper()}{wanted[1:]}") from None
        if len(listing.classes) != self._CLASSES:
            raise DataError(
                f"task imagenet: {self._folder} has {len(listing.classes):,} classes, not 1,000; for other sets there "
                f"is --task image-folder:{self._folder.name}"
            )
        return listing._replace(side=LARGE_SIDE)
