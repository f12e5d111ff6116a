"""`cifar10`: CIFAR-10 (Krizhevsky 2009) from the official Python layout, official data or not."""

from __future__ import annotations

import hashlib
import io
import pickle
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from npas_bench.architectures import Signature
from npas_bench.errors import DataError
from npas_bench.recipe import Recipe
from npas_bench.tasks.base import Source, data_folder, digest_arrays
from npas_bench.tasks.classification.base import ClassificationTask, ImageSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FOLDER = "cifar-10-batches-py"
# md5 of the official files, as torchvision publishes them.
_OFFICIAL_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# Known variants by the digest of their decoded arrays, and the name their results go under.
_VARIANTS = {
    "5c2bb43ca21f7c40c56d67b1b6e2616da8f7094464d90650671f8e460ff27329": "CIFAR-10 (JPEG q75)",
}
_IMAGES_PER_FILE = 10_000
_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
_WRN = Recipe(
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    schedule="step",
    milestones=(0.3, 0.6, 0.8),
    gamma=0.2,
    weight_decay=5e-4,
    flip=True,
    crop=4,
    cutout=16,
)


class _Arrays(NamedTuple):
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain values; whatever else a file names is refused, not imported."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.numeric", "_frombuffer"),
            ("numpy.core.numeric", "_frombuffer"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no numpy array")
        if module.startswith("numpy.core"):
            module = module.replace("numpy.core", "numpy._core", 1)
        return super().find_class(module, name)


class Cifar10(ClassificationTask):
    """CIFAR-10: 50,000 images for training, 10,000 for testing."""

    name = "cifar10"
    signature = Signature((3, 32, 32), 10)
    architecture = "wrn-16-2"

    def source(self) -> Source:
        """What lies under `NPAS_BENCH_DATA`, official if its files are."""
        return _read(data_folder() / FOLDER, _fingerprint(data_folder() / FOLDER)).source

    def data(self, split: str) -> ImageSet:
        """The images of `train` or `test`; normalised by the training split's mean and deviation."""
        if split not in ("train", "test"):
            raise DataError(f"task cifar10 has no {split} split: it has train and test")
        folder = data_folder() / FOLDER
        read = _read(folder, _fingerprint(folder))
        arrays = read.test if split == "test" else read.train
        return ImageSet(
            torch.from_numpy(arrays.pixels),
            torch.from_numpy(arrays.labels),
            mean=(125.3, 123.0, 113.9),
            deviation=(63.0, 62.1, 66.7),
        )

    def recipes(self, architecture: str) -> Mapping[str, Recipe]:
        """The papers' recipe on all 50,000 images; `short` keeps its shape over 10 epochs."""
        return {"default": _WRN, "short": _WRN.derive(epochs=10).model_copy(update={"name": "short"})}


class _Cifar(NamedTuple):
    train: _Arrays
    test: _Arrays
    source: Source


def _fingerprint(folder: Path) -> tuple[tuple[int, int], ...]:
    """Size and time of every file, so that what was read once is read again when it changed."""
    try:
        stats = {name: (folder / name).stat() for name in _OFFICIAL_FILES if (folder / name).exists()}
    except OSError as error:
        raise DataError(f"task cifar10: the data folder {folder} cannot be read: {error}") from None
    missing = [name for name in _OFFICIAL_FILES if name not in stats]
    if missing:
        what = f"lacks {', '.join(missing)}" if folder.is_dir() else "does not exist"
        raise DataError(
            f"task cifar10: the data folder {folder} {what}. Prepare it with\n"
            f"  mkdir -p '{folder.parent}' && curl -L {_URL} | tar xz -C '{folder.parent}'\n"
            f"or set NPAS_BENCH_DATA to the folder that holds {FOLDER}/"
        )
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats.values())


@lru_cache(maxsize=1)
def _read(folder: Path, fingerprint: tuple[tuple[int, int], ...]) -> _Cifar:
    try:
        contents = {name: (folder / name).read_bytes() for name in _OFFICIAL_FILES}
    except OSError as error:
        raise DataError(f"task cifar10: a file of {folder} cannot be read: {error}") from None
    files = {name: _decode(folder / name, content) for name, content in contents.items()}
    train = _Arrays(
        np.concatenate([files[name].pixels for name in _OFFICIAL_FILES if name != "test_batch"]),
        np.concatenate([files[name].labels for name in _OFFICIAL_FILES if name != "test_batch"]),
    )
    test = files["test_batch"]
    digest = digest_arrays(
        (f"{split}-{field}", array)
        for split, arrays in (("train", train), ("test", test))
        for field, array in arrays._asdict().items()
    )
    official = all(
        hashlib.md5(content, usedforsecurity=False).hexdigest() == _OFFICIAL_FILES[name]
        for name, content in contents.items()
    )
    plain = "CIFAR-10"
    label = plain if official else _VARIANTS.get(digest, f"{plain} (unofficial data {digest[:8]})")
    return _Cifar(train, test, Source(plain, digest, official, label))


def _decode(path: Path, content: bytes) -> _Arrays:
    try:
        # The official files were pickled by Python 2: their strings arrive as bytes.
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        rows, labels = fields["data"], np.asarray(fields["labels"], dtype=np.int64)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8:
            raise ValueError("its images are no array of bytes")
        if rows.shape != (_IMAGES_PER_FILE, 3072) or labels.shape != (_IMAGES_PER_FILE,):
            raise ValueError(f"it holds images {rows.shape} and labels {labels.shape}, not (10000, 3072) and (10000,)")
        if labels.min() < 0 or labels.max() > 9:
            raise ValueError(f"its labels run from {labels.min()} to {labels.max()}, not from 0 to 9")
    # A damaged pickle raises whatever its bytes happen to say.
    except Exception as error:
        reason = "it has no 'data' and 'labels'" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DataError(
            f"task cifar10: {path} is damaged or no CIFAR-10 batch: {reason}. Remove the folder and unpack it again: "
            f"curl -L {_URL} | tar xz -C '{path.parent.parent}'"
        ) from error
    return _Arrays(np.ascontiguousarray(rows.reshape(-1, 3, 32, 32)), labels)
