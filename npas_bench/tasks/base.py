"""What a task is: data, an architecture by default, a recipe for each architecture, a loss, metrics."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from npas_bench.errors import DataError, NpasBenchError
from npas_bench.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from npas_bench.architectures import Signature

Split = Literal["train", "validation", "test"]


class Metric(NamedTuple):
    """A number that an evaluation yields.

    Attributes:
        name: as in the papers' tables, `error@1`.
        unit: `%` or empty.
        higher_is_better: which way is up.
    """

    name: str
    unit: str
    higher_is_better: bool


class DataVersion(NamedTuple):
    """Which data a result comes from.

    Attributes:
        name: the data set's plain name.
        digest: sha256 over the decoded arrays of all splits.
        official: whether they are the official ones.
        label: what results are reported under: the plain name for official data, otherwise one that says so.
    """

    name: str
    digest: str
    official: bool
    label: str


class Part(NamedTuple):
    """What a network is given at once in training: a batch, or a part of one.

    Attributes:
        indices: of the examples (1-d, int64).
        draws: for augmentation; a CPU generator.
    """

    indices: Tensor
    draws: torch.Generator


class Examples(ABC):
    """One split, resident on a device or read as it is needed."""

    # Examples that could not be read and are left out, by name: a run that has any says so.
    unreadable: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def to(self, device: torch.device) -> Examples:
        """The same examples on another device."""

    @abstractmethod
    def batch(self, indices: Tensor) -> Any:
        """The examples at `indices` (1-d, int64), ready for the task's `loss`, without augmentation."""

    def batches(self, orders: Sequence[Tensor]) -> Iterator[Any]:
        """The batches of several lists of indices, one after the other; what is read from files comes ahead."""
        return map(self.batch, orders)


class Task(ABC):
    """Data, recipes and metrics that networks are compared on.

    What is random about data depends on (task, seed) alone, so that every method sees the same examples in
    the same order and comparisons are paired.

    Attributes:
        name: as on the command line; that of its entry point.
        version: rises when results change.
        signature: what goes into a network and what comes out, known without data.
        architecture: the one used unless another is asked for.
        recipe_class: the class of its recipes, whose fields a grid and the command line may set.
        metrics: what an evaluation yields, the primary one first.
        argument: what is written behind the name and a colon, in capitals for lists; None takes nothing.
    """

    name: str
    version: ClassVar[int] = 1
    signature: Signature
    architecture: str
    recipe_class: ClassVar[type[Recipe]] = Recipe
    metrics: ClassVar[tuple[Metric, ...]]
    argument: ClassVar[str | None] = None

    @classmethod
    def of(cls, argument: str | None) -> Self:
        """The task, of what is written behind its name: `image-folder:tiny-imagenet-100c`.

        Raises:
            NpasBenchError: if there is something and the task takes nothing, or the other way round.
        """
        if argument is not None:
            raise NpasBenchError(f"task '{cls.name}' takes nothing behind its name: leave out ':{argument}'")
        return cls()

    @abstractmethod
    def source(self) -> DataVersion:
        """Which data this machine has.

        Raises:
            DataError: if it is missing or damaged; the message says how to prepare it.
        """

    def splits(self) -> tuple[str, ...]:
        """The splits that this machine has; without `train` nothing can be run."""
        return ("train", "test")

    @abstractmethod
    def data(self, split: Split) -> Examples:
        """The examples of a split, on the CPU.

        Raises:
            DataError: as `source` does.
        """

    @abstractmethod
    def recipes(self, architecture: str) -> Mapping[str, Recipe]:
        """The recipes for an architecture by name, the one called `default` among them."""

    def download(self, folder: Path) -> None:
        """Fetch the official data into a folder of data sets.

        Raises:
            DataError: if there is no place to fetch it from.
        """
        raise DataError(f"task {self.name} cannot be downloaded: see its documentation for where its data is from")

    def batches(self, examples: Examples, parts: Sequence[Part], recipe: Recipe) -> Iterator[Any]:
        """The training batches of an epoch, or what one of several processes is given of them, augmented."""
        for part in parts:
            yield self.augment(examples.batch(part.indices), recipe, part.draws)

    def augment(self, batch: Any, recipe: Recipe, generator: torch.Generator) -> Any:
        """A training batch changed at random as the recipe says; draws come from a CPU generator."""
        return batch

    def example(self) -> tuple[Tensor, ...]:
        """What a network is called with for one example, on the meta device, so that its operations can be counted."""
        return self.signature.example()

    @abstractmethod
    def loss(self, network: nn.Module, batch: Any, recipe: Recipe) -> Tensor:
        """The mean training loss over a batch, a scalar."""

    @abstractmethod
    def evaluate(self, network: nn.Module, examples: Examples) -> dict[str, float]:
        """Every metric of a network in evaluation mode over a whole split, by name."""


def data_folder() -> Path:
    """Where real data sets lie: `NPAS_BENCH_DATA`, or `~/.cache/npas-bench/data`.

    Raises:
        DataError: if that is the home of nobody.
    """
    written = os.environ.get("NPAS_BENCH_DATA") or "~/.cache/npas-bench/data"
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        raise DataError(f"NPAS_BENCH_DATA is '{written}', which is no folder: {error}") from None


def digest_arrays(arrays: Iterable[tuple[str, NDArray[np.generic]]]) -> str:
    """sha256 over names, types, shapes and values of arrays, in their order."""
    digest = hashlib.sha256()
    for name, array in arrays:
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
