"""What a task is: data, a default architecture, recipes for each architecture, a loss, and metrics."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from typing_extensions import override

from npas_bench.errors import DataError, NpasBenchError
from npas_bench.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from npas_bench.architectures import Signature
    from npas_bench.tasks.measuring import Evaluation, Metric

Split = Literal["train", "validation", "test"]


class DataVersion(NamedTuple):
    """The data that a result comes from.

    Attributes:
        name: plain name of the data set.
        digest: sha256 over the decoded arrays of all splits.
        official: whether the data is the official data.
        label: the name that results are reported under, which is the plain name only for official data.
    """

    name: str
    digest: str
    official: bool
    label: str


class Part(NamedTuple):
    """What a network is given at once in training: a batch, or a part of one.

    Attributes:
        indices: indices of the examples (1-d, int64).
        draws: the CPU generator that augmentation draws from.
    """

    indices: Tensor
    draws: torch.Generator


class Step(NamedTuple):
    """The step of a training that a loss belongs to, for losses that change while a network trains.

    Attributes:
        recipe: the recipe of the training.
        epoch: the epoch, counted from 0.
        iteration: the number of steps of the optimiser before this one, over all epochs.
        progress: the share of the training that is over, from 0 to 1.
    """

    recipe: Recipe
    epoch: int = 0
    iteration: int = 0
    progress: float = 0.0


class Normalisation(NamedTuple):
    """How the inputs of a network are normalised: (values - mean) / deviation, channel by channel.

    Attributes:
        mean: what is subtracted from each channel, in the units of the stored values.
        deviation: what each channel is divided by, in the same units.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Examples(ABC):
    """The examples of one split, which are on a device or read as they are needed."""

    # Names of the examples that could not be read and are left out; a run says so if there are any.
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
        """The batches of several lists of indices, one after the other; what is read from files is read ahead."""
        return map(self.batch, orders)

    def normalisation(self) -> Normalisation | None:
        """How `batch` normalises what a network is given, for those who use the network elsewhere; None if unknown."""
        return None

    def subset(self, indices: Tensor) -> Examples:
        """The examples at `indices` (1-d, int64) alone, in this order; used to hold some of a split out."""
        return _Subset(self, indices)


class _Subset(Examples):
    """Some of the examples of a split, whatever kind they are."""

    def __init__(self, whole: Examples, indices: Tensor) -> None:
        self._whole, self._indices = whole, indices

    @property
    @override
    def unreadable(self) -> tuple[str, ...]:  # type: ignore[override]
        """The examples of the whole split that could not be read."""
        return self._whole.unreadable

    @override
    def __len__(self) -> int:
        return len(self._indices)

    @override
    def to(self, device: torch.device) -> Examples:
        return _Subset(self._whole.to(device), self._indices)

    @override
    def batch(self, indices: Tensor) -> Any:
        return self._whole.batch(self._indices[indices])

    @override
    def batches(self, orders: Sequence[Tensor]) -> Iterator[Any]:
        return self._whole.batches([self._indices[order] for order in orders])

    @override
    def normalisation(self) -> Normalisation | None:
        return self._whole.normalisation()


def recipe_of(step: Step | Recipe) -> Recipe:
    """The recipe of a step.

    A task that was written before losses were given the step hands the recipe itself on to the loss that it extends.
    """
    return step if isinstance(step, Recipe) else step.recipe


class Task(ABC):
    """Data, recipes and metrics that networks are compared on.

    What is random about the data depends on (task, seed) alone, so that every method sees the same examples in the same
    order, and comparisons are paired.

    Attributes:
        name: the name on the command line, which is that of the entry point.
        version: a number that rises when results change.
        training_version: the version whose trainings this version repeats, from whose identities its draws follow. A
            version that only measures otherwise leaves it as it is, so that all other results stay bit for bit; a
            class that states a version and no training version trains by that version.
        signature: what goes into a network and what comes out, known without data.
        architecture: the architecture that is used unless another one is asked for.
        recipe_class: the class of its recipes, whose fields a grid and the command line may set.
        metrics: the metrics that an evaluation yields, the primary one first.
        argument: what follows the name and a colon, in capitals, as lists show it; None if nothing may follow.
    """

    name: str
    version: ClassVar[int] = 1
    training_version: ClassVar[int] = 1
    signature: Signature
    architecture: str
    recipe_class: ClassVar[type[Recipe]] = Recipe
    metrics: ClassVar[tuple[Metric, ...]]
    argument: ClassVar[str | None] = None

    @override
    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete the training version, and give a loss that takes the recipe, as losses did at first, the step's."""
        super().__init_subclass__(**kwargs)
        stated = next(base for base in cls.__mro__ if {"version", "training_version"} & base.__dict__.keys())
        if "training_version" not in stated.__dict__:
            cls.training_version = cls.version
        own = cls.__dict__.get("loss")
        if inspect.isfunction(own) and "recipe" in inspect.signature(own).parameters:
            where = f"{cls.__module__}.{cls.__qualname__}"
            told = f"{where}: loss(network, batch, recipe) is now loss(network, batch, step); use step.recipe in it"
            warnings.warn(told, DeprecationWarning, stacklevel=2)
            old: Any = cls
            old.loss = _with_recipe(own)

    @classmethod
    def of(cls, argument: str | None) -> Self:
        """The task with the argument that follows its name, as in `image-folder:tiny-imagenet-100c`.

        Raises:
            NpasBenchError: if the task takes no argument and there is one, or the other way round.
        """
        if argument is not None:
            raise NpasBenchError(f"task '{cls.name}' takes nothing behind its name: leave out ':{argument}'")
        return cls()

    @abstractmethod
    def source(self) -> DataVersion:
        """The version of the data that this machine has.

        Raises:
            DataError: if the data is missing or damaged; the message says how to prepare it.
        """

    def splits(self) -> tuple[str, ...]:
        """The names of the splits that this machine has; nothing can be run without `train`."""
        return ("train", "test")

    @abstractmethod
    def data(self, split: Split) -> Examples:
        """The examples of a split, on the CPU.

        Raises:
            DataError: as `source` does.
        """

    @abstractmethod
    def recipes(self, architecture: str) -> Mapping[str, Recipe]:
        """The recipes for an architecture, by name; one of them is called `default`."""

    def count(self, split: Split) -> int:
        """How many examples a split has, as far as that can be told without reading them.

        Raises:
            DataError: as `source` does.
        """
        return len(self.data(split))

    def recipe_refusal(self, recipe: Recipe) -> str | None:
        """Why the task cannot train by a recipe, as far as that is known before anything starts; None if it can.

        Args:
            recipe: one of the task's own recipes, in which any field may have been changed.
        """
        return None

    def download(self, folder: Path) -> None:
        """Fetch the official data into a folder of data sets.

        Raises:
            DataError: if the data cannot be fetched.
        """
        raise DataError(
            f"task {self.name} cannot be downloaded: bring its data into {folder}, where the task finds it as its "
            "documentation says"
        )

    def batches(self, examples: Examples, parts: Sequence[Part], recipe: Recipe) -> Iterator[Any]:
        """The augmented training batches of an epoch, or the parts of them that one of several processes is given."""
        for part in parts:
            yield self.augment(examples.batch(part.indices), recipe, part.draws)

    def augment(self, batch: Any, recipe: Recipe, generator: torch.Generator) -> Any:
        """A training batch that is changed at random as the recipe says, with draws from a CPU generator."""
        return batch

    def example(self) -> tuple[Tensor, ...]:
        """What a network is called with for one example, on the meta device, so that its operations can be counted."""
        return self.signature.example()

    @abstractmethod
    def loss(self, network: nn.Module, batch: Any, step: Step) -> Tensor:
        """The mean training loss over a batch, a scalar.

        Args:
            network: the network to train, in training mode.
            batch: an augmented batch.
            step: the recipe, and how far the training is.
        """

    @abstractmethod
    def evaluate(self, network: nn.Module, examples: Examples) -> Mapping[str, float] | Evaluation:
        """Every metric of a network in evaluation mode over a whole split.

        Returns:
            The values by the names of the task's metrics; or an `Evaluation`, which can also tell metrics of other
            subjects and of other parts of the data.
        """


def _with_recipe(
    loss: Callable[[Any, nn.Module, Any, Recipe], Tensor],
) -> Callable[[Any, nn.Module, Any, Step], Tensor]:
    @functools.wraps(loss)
    def taking_step(self: Any, network: nn.Module, batch: Any, step: Step) -> Tensor:
        return loss(self, network, batch, recipe_of(step))

    return taking_step


def data_folder() -> Path:
    """The folder of real data sets: the one that `NPAS_BENCH_DATA` names, or `~/.cache/npas-bench/data`.

    Raises:
        DataError: if the path names a home folder that does not exist.
    """
    written = os.environ.get("NPAS_BENCH_DATA") or "~/.cache/npas-bench/data"
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        raise DataError(f"NPAS_BENCH_DATA is '{written}', which is no folder: {error}") from None


def digest_arrays(arrays: Iterable[tuple[str, NDArray[np.generic]]]) -> str:
    """The sha256 over the names, types, shapes and values of arrays, in their order."""
    digest = hashlib.sha256()
    for name, array in arrays:
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
