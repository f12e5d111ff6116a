import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npas_bench import plugins
from npas_bench.architectures import Signature
from npas_bench.architectures.wrn import Channels, WideResNet, _count
from npas_bench.errors import NpasBenchError, UnsupportedBudget

C10, C100 = Signature((3, 32, 32), 10), Signature((3, 32, 32), 100)


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


@given(
    st.integers(1, 3),
    st.tuples(*[st.integers(1, 12)] * 4),
    st.integers(1, 3),
    st.integers(1, 12),
)
def test_the_closed_form_counts_what_is_built(blocks, channels, colours, classes):
    signature = Signature((colours, 8, 8), classes)
    architecture = WideResNet("any", blocks, Channels(*channels))
    assert _count(blocks, Channels(*channels), signature) == architecture.size(signature)


@given(st.sampled_from(["wrn-10-1", "wrn-16-2", "wrn-22-3"]), st.floats(0.0001, 1.2))
def test_a_reduction_fits_and_no_channel_more_would(name, share):
    architecture = plugins.architecture(name)
    budget = int(share * architecture.size(C10))
    try:
        reduced = architecture.reduce(C10, budget)
    except UnsupportedBudget as unsupported:
        assert budget < unsupported.smallest
        assert architecture.reduce(C10, unsupported.smallest).size(C10) == unsupported.smallest
        return
    assert reduced.size(C10) <= budget
    for index, width in enumerate(reduced.channels):
        if width < architecture.channels[index]:
            wider = Channels(*(w + (i == index) for i, w in enumerate(reduced.channels)))
            assert _count(reduced.blocks, wider, C10) > budget


def test_channels_go_before_depth():
    architecture = plugins.architecture("wrn-22-1")
    thinnest = _count(3, Channels(1, 1, 1, 1), C10)
    assert architecture.reduce(C10, thinnest).blocks == 3
    assert architecture.reduce(C10, thinnest - 1).blocks == 2


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
    network = plugins.architecture("wrn-10-1").build(Signature((1, 8, 8), 10))
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(NpasBenchError, match="takes images"):
        plugins.architecture("wrn-10-1").build(Signature((300,), 10))
