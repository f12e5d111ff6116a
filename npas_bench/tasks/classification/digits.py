"""`digits`: the 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn (Alpaydin & Kaynak 1998)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from typing_extensions import override

from npas_bench.architectures import ImageSignature
from npas_bench.errors import DataError
from npas_bench.recipe import ImageRecipe
from npas_bench.tasks.base import DataVersion, digest_arrays
from npas_bench.tasks.classification.base import ClassificationTask, ImageSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_DIGEST = "7d09a52bb3012c6f6b1db43ceed986d91bd88e442d76714ea22a140605b14c32"
_DEFAULT = ImageRecipe(epochs=15, batch_size=32, learning_rate=0.1, schedule="one-cycle", weight_decay=5e-4)


class _Arrays(NamedTuple):
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_]


@cache
def _arrays() -> _Arrays:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    # Every third image of each class, in the order of the data set, is for testing: this is stratified without a draw.
    rank = np.zeros(len(labels), dtype=np.int64)
    for digit in range(10):
        of_class = labels == digit
        rank[of_class] = np.arange(of_class.sum())
    return _Arrays(pixels, labels, rank % 3 == 2)


class Digits(ClassificationTask):
    """Handwritten digits, in a fixed stratified split: 1,201 for training and 596 for testing."""

    name = "digits"
    signature = ImageSignature((1, 8, 8), 10)
    architecture = "wrn-10-1"

    @override
    def source(self) -> DataVersion:
        """The copy that comes with scikit-learn, which is always there."""
        arrays = _arrays()
        digest = digest_arrays((("pixels", arrays.pixels), ("labels", arrays.labels), ("test", arrays.test)))
        official = digest == _DIGEST
        return DataVersion(
            "digits", digest, official, "digits" if official else f"digits (unofficial data {digest[:8]})"
        )

    @override
    def download(self, folder: Path) -> None:
        """Refuse, as there is nothing to fetch."""
        raise DataError(f"task {self.name} needs no download: scikit-learn brings its images along")

    @override
    def data(self, split: str) -> ImageSet:
        """The images of `train` or `test`, with pixels from 0 to 16."""
        if split not in ("train", "test"):
            raise DataError(f"task digits has no {split} split: it has train and test")
        arrays = _arrays()
        chosen = arrays.test if split == "test" else ~arrays.test
        pixels, labels = (torch.from_numpy(array[chosen]) for array in (arrays.pixels, arrays.labels))
        return ImageSet(pixels, labels, mean=(4.9,), deviation=(6.0,))

    @override
    def recipes(self, architecture: str) -> Mapping[str, ImageRecipe]:
        """15 epochs in one cycle without flip or cutout, which would turn digits into others; 4 for `short`."""
        return {"default": _DEFAULT, "short": _DEFAULT.derive(epochs=4).model_copy(update={"name": "short"})}
