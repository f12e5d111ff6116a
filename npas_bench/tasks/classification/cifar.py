"""`cifar10` and `cifar100`: CIFAR (Krizhevsky 2009) from files in the official layout, whether official or not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from typing_extensions import override

from npas_bench.architectures import ImageSignature
from npas_bench.errors import DataError, NpasBenchError
from npas_bench.tasks.base import DataVersion, data_folder, digest_arrays
from npas_bench.tasks.classification.base import ClassificationTask, ImageSet
from npas_bench.tasks.classification.recipes import small_images

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from npas_bench.recipe import ImageRecipe


class Layout(NamedTuple):
    """The files that a CIFAR data set consists of.

    Attributes:
        plain: name of the data set.
        folder: name of the folder that holds the files.
        train: names of the files of the training split, with the md5 of the official ones, as torchvision has them.
        test: the same for the test split.
        images: number of images in each official file of `train` and of `test`.
        labels: key of the labels in a file.
        classes: number of classes.
        archive: name of the official archive.
        variants: the names that results on known variants are reported under, by the digest of the decoded arrays.
    """

    plain: str
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    images: tuple[int, int]
    labels: str
    classes: int
    archive: str
    variants: Mapping[str, str] = {}

    @property
    def files(self) -> dict[str, str]:
        """All files, with the md5 of the official ones."""
        return {**self.train, **self.test}

    @property
    def remedy(self) -> str:
        """The command that fetches and unpacks the data, with `{}` for the folder to unpack into."""
        return f"curl -L https://www.cs.toronto.edu/~kriz/{self.archive} | tar xz -C '{{}}'"


CIFAR10 = Layout(
    plain="CIFAR-10",
    folder="cifar-10-batches-py",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    images=(10_000, 10_000),
    labels="labels",
    classes=10,
    archive="cifar-10-python.tar.gz",
    variants={"5c2bb43ca21f7c40c56d67b1b6e2616da8f7094464d90650671f8e460ff27329": "CIFAR-10 (JPEG q75)"},
)
CIFAR100 = Layout(
    plain="CIFAR-100",
    folder="cifar-100-python",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    images=(50_000, 10_000),
    labels="fine_labels",
    classes=100,
    archive="cifar-100-python.tar.gz",
)


class _Arrays(NamedTuple):
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain values; everything else that a file names is refused and not imported."""

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

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no numpy array")
        if module.startswith("numpy.core"):
            module = module.replace("numpy.core", "numpy._core", 1)
        return super().find_class(module, name)


class Cifar(ClassificationTask):
    """A CIFAR data set, of 50,000 colour images of 32 x 32 pixels for training and 10,000 for testing.

    Attributes:
        layout: the files that it consists of.
        mean: mean of each channel over the training split.
        deviation: standard deviation of each channel over the training split.
    """

    layout: ClassVar[Layout]
    mean: ClassVar[tuple[float, ...]]
    deviation: ClassVar[tuple[float, ...]]
    architecture = "wrn-16-2"

    @override
    def source(self) -> DataVersion:
        """The data in the folder that `NPAS_BENCH_DATA` names; it is official if all files are."""
        return self._read().source

    @override
    def data(self, split: str) -> ImageSet:
        """The images of `train` or `test`, normalised by the training split's mean and deviation."""
        if split not in ("train", "test"):
            raise DataError(f"task {self.name} has no {split} split: it has train and test")
        read = self._read()
        arrays = read.test if split == "test" else read.train
        pixels, labels = torch.from_numpy(arrays.pixels), torch.from_numpy(arrays.labels)
        return ImageSet(pixels, labels, self.mean, self.deviation)

    @override
    def recipes(self, architecture: str) -> Mapping[str, ImageRecipe]:
        """The papers' recipes on all 50,000 images; `short` keeps their shape over 10 epochs."""
        return small_images(architecture)

    @override
    def download(self, folder: Path) -> None:
        """Fetch and unpack the official archive with torchvision, which checks it."""
        from torchvision.datasets import CIFAR10 as OfTen
        from torchvision.datasets import CIFAR100 as OfHundred

        # Data that is damaged or incomplete is what a download is for.
        with contextlib.suppress(DataError):
            there = self.source()
            if there.official:
                return
            place = folder / self.layout.folder
            raise NpasBenchError(f"task {self.name}: {place} holds other data already: {there.label}")
        try:
            (OfTen if self.layout is CIFAR10 else OfHundred)(str(folder), download=True)
        except (OSError, RuntimeError) as error:
            remedy = self.layout.remedy.format(folder)
            raise DataError(
                f"task {self.name}: the data cannot be fetched: {error}. By hand: mkdir -p '{folder}' && {remedy}"
            ) from error

    def _read(self) -> _Cifar:
        folder = data_folder() / self.layout.folder
        return _read(self.name, folder, _fingerprint(self.name, self.layout, folder))


class Cifar10(Cifar):
    """CIFAR-10, with ten classes."""

    name = "cifar10"
    signature = ImageSignature((3, 32, 32), 10)
    layout = CIFAR10
    mean, deviation = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


class Cifar100(Cifar):
    """CIFAR-100, with a hundred classes (the fine labels)."""

    name = "cifar100"
    signature = ImageSignature((3, 32, 32), 100)
    layout = CIFAR100
    mean, deviation = (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)


class _Cifar(NamedTuple):
    train: _Arrays
    test: _Arrays
    source: DataVersion


_LAYOUTS = {task.name: task.layout for task in (Cifar10, Cifar100)}


def _fingerprint(task: str, layout: Layout, folder: Path) -> tuple[tuple[int, int], ...]:
    """The size and time of every file, so that files are read again when they have changed."""
    try:
        stats = {name: (folder / name).stat() for name in layout.files if (folder / name).exists()}
    except OSError as error:
        raise DataError(f"task {task}: the data folder {folder} cannot be read: {error}") from None
    missing = [name for name in layout.files if name not in stats]
    if missing:
        what = f"lacks {', '.join(missing)}" if folder.is_dir() else "does not exist"
        raise DataError(
            f"task {task}: the data folder {folder} {what}. Prepare it with\n"
            f"  npas-bench download {task}\n"
            f"  or mkdir -p '{folder.parent}' && {layout.remedy.format(folder.parent)}\n"
            f"or set NPAS_BENCH_DATA to the folder that holds {folder.name}/"
        )
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats.values())


# The cache holds one data set of each kind, since a grid may go back and forth between them.
@lru_cache(maxsize=2)
def _read(task: str, folder: Path, fingerprint: tuple[tuple[int, int], ...]) -> _Cifar:
    layout = _LAYOUTS[task]
    try:
        contents = {name: (folder / name).read_bytes() for name in layout.files}
    except OSError as error:
        raise DataError(f"task {task}: a file of {folder} cannot be read: {error}") from None
    files = {name: _decode(task, layout, folder / name, content) for name, content in contents.items()}
    train, test = (
        _Arrays(*(np.concatenate([files[name][field] for name in names]) for field in range(2)))
        for names in (layout.train, layout.test)
    )
    digest = digest_arrays(
        (f"{split}-{field}", array)
        for split, arrays in (("train", train), ("test", test))
        for field, array in arrays._asdict().items()
    )
    official = all(
        hashlib.md5(content, usedforsecurity=False).hexdigest() == layout.files[name]
        for name, content in contents.items()
    )
    label = layout.plain if official else layout.variants.get(digest) or _unofficial(layout, digest, train, test)
    return _Cifar(train, test, DataVersion(layout.plain, digest, official, label))


def _unofficial(layout: Layout, digest: str, train: _Arrays, test: _Arrays) -> str:
    counts = len(train.labels), len(test.labels)
    whole = counts == (layout.images[0] * len(layout.train), layout.images[1] * len(layout.test))
    part = "" if whole else f"{counts[0]:,} + {counts[1]:,} images, "
    return f"{layout.plain} ({part}unofficial data {digest[:8]})"


def _decode(task: str, layout: Layout, path: Path, content: bytes) -> _Arrays:
    try:
        # The official files were pickled by Python 2: their strings arrive as bytes.
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        rows, labels = fields["data"], np.asarray(fields[layout.labels], dtype=np.int64)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8:
            raise ValueError("its images are no array of bytes")
        if rows.ndim != 2 or rows.shape[1] != 3072 or labels.shape != rows.shape[:1] or not len(labels):
            raise ValueError(f"it holds images {rows.shape} and labels {labels.shape}, not (n, 3072) and (n,)")
        if labels.min() < 0 or labels.max() >= layout.classes:
            raise ValueError(
                f"its labels run from {labels.min()} to {labels.max()}, not from 0 to {layout.classes - 1}"
            )
    # A damaged pickle may raise any exception.
    except Exception as error:
        lacking = f"it has no 'data' and '{layout.labels}'"
        reason = lacking if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DataError(
            f"task {task}: {path} is damaged or no {layout.plain} batch: {reason}. Remove the folder and unpack it "
            f"again: {layout.remedy.format(path.parent.parent)}"
        ) from error
    return _Arrays(np.ascontiguousarray(rows.reshape(-1, 3, 32, 32)), labels)
