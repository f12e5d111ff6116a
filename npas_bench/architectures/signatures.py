"""Signatures: what a task puts into a network and what it takes out, known without data.

Each kind of task has a kind of signature. An architecture names the kinds that it accepts.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from typing_extensions import override

from npas_bench.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator


class InputSpec(NamedTuple):
    """One of the tensors that a network is called with.

    Attributes:
        shape: shape of one example, without the batch axis.
        values: the whole numbers that may stand in it (int64); None for real numbers (float).
    """

    shape: tuple[int, ...]
    values: range | None = None


class Signature(ABC):
    """What a task puts into a network and what it takes out.

    Plugins that were written when images were the only input call `Signature(input_shape, classes)`: this still
    makes an `ImageSignature`, with a warning.

    Attributes:
        kind: what a network of this signature takes, in words, as messages call it.
    """

    kind: ClassVar[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a signature; `Signature` itself makes an `ImageSignature`."""
        if cls is not Signature:
            return super().__new__(cls)
        warnings.warn(
            "Signature(input_shape, classes) is now written ImageSignature(input_shape, classes)",
            DeprecationWarning,
            stacklevel=2,
        )
        old: type[Any] = ImageSignature
        made: Self = super().__new__(old)
        return made

    @abstractmethod
    def inputs(self) -> tuple[InputSpec, ...]:
        """The tensors that a network is called with, in their order."""

    def example(self, device: torch.device | str = "meta") -> tuple[Tensor, ...]:
        """What a network is called with for one example, with the batch axis first.

        Args:
            device: device of the tensors; on the meta device a network's operations are counted without data.

        Returns:
            Zeros for real numbers, and the smallest value that is allowed for whole numbers.
        """
        return tuple(
            torch.zeros(1, *shape, device=device)
            if values is None
            else torch.full((1, *shape), values.start, dtype=torch.int64, device=device)
            for shape, values in self.inputs()
        )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw a random batch, for tests and measurements: normal values, and uniform whole numbers.

        Args:
            count: how many examples the batch has.
            generator: the CPU generator to draw from.
        """
        return tuple(
            torch.randn(count, *shape, generator=generator)
            if values is None
            else torch.randint(values.start, values.stop, (count, *shape), generator=generator)
            for shape, values in self.inputs()
        )

    def _check_counts(self, positive: tuple[str, ...], natural: tuple[str, ...] = ()) -> None:
        """Refuse a field that is no positive whole number, or no whole number from 0.

        Raises:
            SignatureError: if there is one.
        """
        for field in (*positive, *natural):
            value, least = getattr(self, field), 1 if field in positive else 0
            if type(value) is not int or value < least:
                raise SignatureError(
                    f"{type(self).__name__}: {field} is {value!r}, and must be a whole number from {least}"
                )


@dataclass(frozen=True)
class ImageSignature(Signature):
    """An image, or another tensor of real numbers, goes in, and a score for each class comes out.

    Attributes:
        input_shape: shape of one example, without the batch axis; (channels, height, width) for images.
        classes: number of outputs.
    """

    input_shape: tuple[int, ...]
    classes: int
    kind: ClassVar[str] = "images"

    @override
    def __str__(self) -> str:
        return f"images of shape {self.input_shape} in {self.classes:,} classes"

    def __iter__(self) -> Iterator[Any]:
        """Input shape and classes, for code that unpacks a signature as the pair that it was at first."""
        return iter((self.input_shape, self.classes))

    @override
    def inputs(self) -> tuple[InputSpec, ...]:
        """The image."""
        return (InputSpec(self.input_shape),)


@dataclass(frozen=True)
class PairSignature(Signature):
    """Features of an image and of a sentence go in, and both come out as vectors of one space, for retrieval.

    The image comes as one vector, or as a vector for each of its regions. The sentence comes as one vector, or
    word by word with its length; where the network has a word table, also as numbers into it.

    Attributes:
        image_features: scalars of an image's vector, or of a region's.
        word_features: scalars of a word's vector, or of a sentence's.
        regions: regions of an image; 0 where the image is one vector.
        words: words of the longest sentence; 0 where the sentence is one vector.
        vocabulary: words in the network's table; 0 without one.
    """

    image_features: int
    word_features: int
    regions: int = 0
    words: int = 0
    vocabulary: int = 0
    kind: ClassVar[str] = "pairs of an image and a sentence"

    def __post_init__(self) -> None:
        self._check_counts(("image_features", "word_features"), ("regions", "words", "vocabulary"))
        if self.vocabulary and not self.words:
            raise SignatureError("PairSignature: a vocabulary needs sentences word by word, so words must be positive")

    @override
    def __str__(self) -> str:
        regions = f"{self.regions} regions of " if self.regions else ""
        words = f"up to {self.words} words of " if self.words else "one vector of "
        table = f" from a vocabulary of {self.vocabulary:,}" if self.vocabulary else ""
        return (
            f"pairs of an image ({regions}{self.image_features} scalars) and a sentence "
            f"({words}{self.word_features} scalars{table})"
        )

    @override
    def inputs(self) -> tuple[InputSpec, ...]:
        """The image; the sentence's vector, or its words' vectors, their numbers in the vocabulary, its length."""
        image = InputSpec((*([self.regions] if self.regions else []), self.image_features))
        if not self.words:
            return (image, InputSpec((self.word_features,)))
        numbers = (InputSpec((self.words,), range(self.vocabulary)),) if self.vocabulary else ()
        length = InputSpec((), range(1, self.words + 1))
        return (image, InputSpec((self.words, self.word_features)), *numbers, length)


@dataclass(frozen=True)
class GroundingSignature(Signature):
    """Candidate regions of an image and a phrase go in, and a score for each region comes out.

    Attributes:
        region_features: scalars of a region's vector, those of its box among them where the task gives any.
        phrase_features: scalars of a phrase's vector.
        regions: candidate regions of an image.
    """

    region_features: int
    phrase_features: int
    regions: int
    kind: ClassVar[str] = "phrases and the regions of an image"

    def __post_init__(self) -> None:
        self._check_counts(("region_features", "phrase_features", "regions"))

    @override
    def __str__(self) -> str:
        return (
            f"phrases ({self.phrase_features} scalars) and {self.regions} regions of an image "
            f"({self.region_features} scalars)"
        )

    @override
    def inputs(self) -> tuple[InputSpec, ...]:
        """The regions of an image, and one phrase about it; a batch may hold several phrases for each image."""
        return (InputSpec((self.regions, self.region_features)), InputSpec((1, self.phrase_features)))


@dataclass(frozen=True)
class TextSignature(Signature):
    """A sequence of tokens goes in, and scores for every token or for the whole text come out.

    Attributes:
        vocabulary: different tokens.
        longest: tokens of the longest sequence.
        outputs: scores for every token (2 where an answer is marked by its ends), or for the text: its classes.
        token_types: kinds of tokens that are told apart, as question and passage are; 1 where there is one kind.
        per_token: whether the scores are for every token.
    """

    vocabulary: int
    longest: int
    outputs: int
    token_types: int = 1
    per_token: bool = True
    kind: ClassVar[str] = "texts"

    def __post_init__(self) -> None:
        self._check_counts(("vocabulary", "longest", "outputs", "token_types"))

    @override
    def __str__(self) -> str:
        of = "token" if self.per_token else "text"
        return (
            f"texts of up to {self.longest} tokens from a vocabulary of {self.vocabulary:,}, "
            f"with {self.outputs} scores for each {of}"
        )

    @override
    def inputs(self) -> tuple[InputSpec, ...]:
        """The tokens' numbers in the vocabulary, the mask (1 for a token, 0 for padding), the tokens' types."""
        return (
            InputSpec((self.longest,), range(self.vocabulary)),
            InputSpec((self.longest,), range(1, 2)),
            InputSpec((self.longest,), range(self.token_types)),
        )
