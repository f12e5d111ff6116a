"""Signatures: what each kind puts into a network, and what an architecture does with one that does not fit."""

import contextlib
import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from npas_bench import plugins
from npas_bench.architectures import (
    Architecture,
    Family,
    GroundingSignature,
    ImageSignature,
    PairSignature,
    Signature,
    TextSignature,
)
from npas_bench.cells.grid import Block, Expander, Grid, MethodEntry
from npas_bench.errors import PluginError, SignatureError
from npas_bench.tasks import Task

IMAGES = ImageSignature((3, 8, 8), 10)
VECTORS = PairSignature(image_features=2048, word_features=300)
WORDS = PairSignature(image_features=2048, word_features=300, regions=36, words=20, vocabulary=8347)
PHRASES = GroundingSignature(region_features=2053, phrase_features=300, regions=30)
TEXTS = TextSignature(vocabulary=30522, longest=384, outputs=2, token_types=2)


@pytest.mark.parametrize(
    ("signature", "shapes"),
    [
        (IMAGES, [(3, 8, 8)]),
        (ImageSignature((20,), 5), [(20,)]),
        (VECTORS, [(2048,), (300,)]),
        (WORDS, [(36, 2048), (20, 300), (20,), ()]),
        (PHRASES, [(30, 2053), (1, 300)]),
        (TEXTS, [(384,), (384,), (384,)]),
    ],
    ids=str,
)
def test_an_example_has_the_shapes_that_a_network_is_called_with(signature, shapes):
    example = signature.example()
    assert [tuple(tensor.shape) for tensor in example] == [(1, *shape) for shape in shapes]
    assert all(tensor.is_meta for tensor in example)
    drawn = signature.draw(7, torch.Generator().manual_seed(0))
    assert [tuple(tensor.shape) for tensor in drawn] == [(7, *shape) for shape in shapes]
    assert [tensor.dtype for tensor in drawn] == [tensor.dtype for tensor in example]


def test_whole_numbers_are_drawn_within_what_the_signature_allows():
    _, _, words, length = WORDS.draw(500, torch.Generator().manual_seed(0))
    assert int(words.min()) >= 0 and int(words.max()) < 8347
    assert (int(length.min()), int(length.max())) == (1, 20)
    tokens, mask, types = TEXTS.draw(50, torch.Generator().manual_seed(0))
    assert int(tokens.max()) < 30522 and bool((mask == 1).all()) and set(types.flatten().tolist()) == {0, 1}
    tokens, mask, types = TEXTS.example("cpu")
    assert bool((mask == 1).all()) and not tokens.any() and not types.any()


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: PairSignature(0, 300), "image_features is 0"),
        (lambda: PairSignature(2048, 300, regions=-1), "regions is -1"),
        (lambda: PairSignature(2048, 300, vocabulary=10), "a vocabulary needs sentences word by word"),
        (lambda: GroundingSignature(2048, 300, 0), "regions is 0"),
        (lambda: TextSignature(100, 16.5, 2), "longest is 16.5"),
    ],
)
def test_a_signature_of_no_possible_input_is_refused(make, culprit):
    with pytest.raises(SignatureError, match=culprit):
        make()


def test_a_signature_as_old_plugins_write_it_is_one_of_images():
    with pytest.warns(DeprecationWarning, match="now written ImageSignature"):
        made = Signature((3, 8, 8), 10)
    assert made == IMAGES and isinstance(made, ImageSignature)
    with pytest.warns(DeprecationWarning):
        assert Signature(input_shape=(3, 8, 8), classes=10) == IMAGES
    shape, classes = made
    assert (shape, classes) == ((3, 8, 8), 10)


@pytest.mark.parametrize("signature", [IMAGES, WORDS, PHRASES, TEXTS], ids=lambda s: type(s).__name__)
def test_signatures_are_values(signature):
    assert signature == copy.deepcopy(signature)
    assert hash(signature) == hash(copy.copy(signature))


@dataclass(frozen=True)
class TextArchitecture(Architecture):
    """A linear layer on embedded tokens."""

    name: str = "tokens-1"
    accepts = (TextSignature,)

    def build(self, signature):
        self.check(signature)
        return nn.Sequential(nn.Embedding(signature.vocabulary, 4), nn.Linear(4, signature.outputs))

    def reduce(self, signature, budget):
        return self


class TextFamily(Family):
    pattern = "tokens-N"
    accepts = (TextSignature,)

    def parse(self, name):
        return TextArchitecture()


def test_an_architecture_is_built_for_the_signatures_that_it_accepts():
    assert TextArchitecture().size(TEXTS) == 4 * 30522 + 10
    with pytest.raises(SignatureError, match=r"'tokens-1' takes texts, not images of shape \(3, 8, 8\)"):
        TextArchitecture().size(IMAGES)
    with pytest.raises(SignatureError, match="'wrn-10-1' takes images, not texts of up to 384 tokens"):
        plugins.architecture("wrn-10-1").size(TEXTS)


@pytest.mark.parametrize("name", ["wrn-10-1", "wrn-50-2", "resnet-8", "densenet-bc-16-4", "efficientnet-b0"])
def test_a_family_says_of_its_members_what_they_accept(name):
    family = plugins.families.load(name.split("-")[0])
    assert family.accepts == plugins.architecture(name).accepts


class Reading(Task):
    name = "reading"
    signature = TEXTS
    architecture = "tokens-1"

    def source(self):
        raise NotImplementedError

    def data(self, split):
        raise NotImplementedError

    def recipes(self, architecture):
        raise NotImplementedError

    def loss(self, network, batch, step):
        raise NotImplementedError

    def evaluate(self, network, examples):
        raise NotImplementedError


def expand(task, architecture):
    grid = Grid(blocks=(Block(tasks=(task.name,), methods=(MethodEntry(name="full"),), architectures=(architecture,)),))
    expander = Expander()
    expander._tasks[task.name] = task
    return expander.cells(grid)


def test_a_grid_of_what_does_not_fit_is_refused():
    with pytest.raises(SignatureError) as caught:
        expand(Reading(), "wrn-10-1")
    assert str(caught.value).startswith("task 'reading': architecture 'wrn-10-1' takes images, not texts")
    assert "architectures for this kind of task: none is installed" in str(caught.value)


class Families:
    """A registry with one family of texts and one that does not load."""

    def names(self):
        return ["broken", "tokens"]

    def load(self, name):
        if name == "broken":
            raise PluginError("it is broken")
        return TextFamily

    def asked(self, name):
        return contextlib.nullcontext()


def test_the_refusal_names_the_families_that_would_fit(monkeypatch):
    wrn = plugins.architecture("wrn-10-1")
    monkeypatch.setattr(plugins, "families", Families())
    with pytest.raises(SignatureError, match="architectures for this kind of task: tokens-N"):
        plugins.check_fit(Reading(), wrn)
    plugins.check_fit(Reading(), TextArchitecture())
