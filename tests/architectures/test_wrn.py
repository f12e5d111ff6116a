from dataclasses import replace

import pytest
import torch

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.architectures.reduction import Size
from npas_bench.errors import NpasBenchError

C10, C100 = ImageSignature((3, 32, 32), 10), ImageSignature((3, 32, 32), 100)


@pytest.mark.parametrize(
    ("name", "signature", "total", "weights"),
    [
        ("wrn-28-10", C100, 36_536_884, 36_518_832),
        ("wrn-28-10", C10, 36_479_194, 36_461_232),
        ("wrn-16-2", C10, 691_674, 689_840),
        ("wrn-28-2", C10, 1_467_610, 1_463_984),
        ("wrn-40-2", C10, 2_243_546, None),
        ("wrn-40-1", C10, 563_930, None),
    ],
)
def test_totals_are_the_published_ones(name, signature, total, weights):
    architecture = plugins.architecture(name)
    assert architecture.size(signature) == total
    if weights:
        assert sum(layer.size for layer in architecture.layers(signature)) == weights


def test_channels_go_before_depth():
    architecture = plugins.architecture("wrn-22-1")
    thinnest = replace(architecture, shape=Size((3, 3, 3), (1, 1, 1, 1))).count(C10)
    assert architecture.reduce(C10, thinnest).shape.depths == (3, 3, 3)
    assert architecture.reduce(C10, thinnest - 1).shape.depths == (2, 2, 2)


def test_the_whole_budget_gives_the_architecture_itself():
    architecture = plugins.architecture("wrn-16-2")
    assert architecture.reduce(C10, architecture.size(C10)) is architecture


@pytest.mark.parametrize("name", ["wrn", "wrn-16", "wrn-x-2", "wrn-16-2-3", "wrn--16-2", "wrn-016-2x"])
def test_names_of_another_form_are_refused_with_an_example(name):
    with pytest.raises(NpasBenchError, match="wrn-16-2 is"):
        plugins.architecture(name)


@pytest.mark.parametrize(
    ("name", "near"), [("wrn-18-2", "wrn-16-2"), ("wrn-4-1", "wrn-10-1"), ("wrn-10-0", "wrn-10-1")]
)
def test_impossible_depths_and_widths_are_refused_with_the_nearest(name, near):
    with pytest.raises(NpasBenchError, match=near):
        plugins.architecture(name)


def test_it_computes_logits_of_images_only():
    network = plugins.architecture("wrn-10-1").build(ImageSignature((1, 8, 8), 10))
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(NpasBenchError, match="takes images"):
        plugins.architecture("wrn-10-1").build(ImageSignature((300,), 10))
