"""What holds for all convolutional families: published totals, closed forms, reductions, places."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.architectures.reduction import Size
from npas_bench.architectures.shortcut import Shortcut
from npas_bench.errors import NpasBenchError, UnsupportedBudget
from npas_bench.methods import Problem

C10, C100, IMAGENET = (
    ImageSignature((3, 32, 32), 10),
    ImageSignature((3, 32, 32), 100),
    ImageSignature((3, 224, 224), 1000),
)
# One of every family and kind, small.
SMALL = ("wrn-16-1", "resnet-8", "resnet-10", "densenet-bc-16-4", "efficientnet-b0", "efficientnet-nd")


@pytest.mark.parametrize(
    ("name", "signature", "total"),
    [
        # torchvision's totals
        ("resnet-18", IMAGENET, 11_689_512),
        ("resnet-34", IMAGENET, 21_797_672),
        ("resnet-50", IMAGENET, 25_557_032),
        ("resnet-101", IMAGENET, 44_549_160),
        ("wrn-50-2", IMAGENET, 68_883_240),
        ("wrn-101-2", IMAGENET, 126_886_696),
        ("densenet-121", IMAGENET, 7_978_856),
        ("densenet-161", IMAGENET, 28_681_000),
        ("efficientnet-b0", IMAGENET, 5_288_548),
        # He et al. 2016, table 6: 0.27M and 0.85M
        ("resnet-20", C10, 269_722),
        ("resnet-56", C10, 853_018),
        # Huang et al. 2017, table 2: 0.8M, 15.3M and 25.6M
        ("densenet-bc-100-12", C10, 769_162),
        ("densenet-bc-250-24", C10, 15_324_406),
        ("densenet-bc-190-40", C10, 25_624_430),
    ],
)
def test_totals_are_the_published_ones(name, signature, total):
    architecture = plugins.architecture(name)
    assert architecture.size(signature) == total
    assert architecture.count(signature) == total


@pytest.mark.parametrize(
    ("name", "millions"),
    [("wrn-28-10", 36), ("wrn-40-10", 56), ("wrn-52-10", 75), ("wrn-76-12", 164)],
)
def test_totals_are_the_papers_to_a_million(name, millions):
    """Plummer et al. 2022, table 14, which cuts some totals and rounds others."""
    assert abs(plugins.architecture(name).count(C100) / 1e6 - millions) < 1


@st.composite
def shapes(draw):
    architecture = plugins.architecture(draw(st.sampled_from(SMALL)))
    depths = tuple(draw(st.integers(1, 2)) for _ in architecture.shape.depths)
    widths = tuple(draw(st.integers(1, 9)) for _ in architecture.shape.widths)
    return replace(architecture, shape=Size(depths, widths))


@settings(max_examples=60)
@given(shapes(), st.sampled_from([8, 64, 65]), st.integers(1, 3), st.integers(1, 12))
def test_the_closed_form_counts_what_is_built(architecture, side, colours, classes):
    signature = ImageSignature((colours, side, side), classes)
    assert architecture.count(signature) == architecture.size(signature)


@settings(max_examples=60)
@given(st.sampled_from(SMALL), st.floats(0.0001, 1.2))
def test_a_reduction_fits_and_no_channel_more_would(name, share):
    architecture = plugins.architecture(name)
    budget = int(share * architecture.count(C10))
    try:
        reduced = architecture.reduce(C10, budget)
    except UnsupportedBudget as unsupported:
        assert budget < unsupported.smallest
        assert architecture.reduce(C10, unsupported.smallest).size(C10) == unsupported.smallest
        return
    assert reduced.size(C10) <= budget
    for index, width in enumerate(reduced.shape.widths):
        if width < architecture.shape.widths[index]:
            widths = tuple(w + (i == index) for i, w in enumerate(reduced.shape.widths))
            wider = replace(reduced, shape=reduced.shape._replace(widths=widths))
            assert wider.count(C10) > budget


@pytest.mark.parametrize("name", SMALL)
def test_the_whole_budget_gives_the_architecture_itself(name):
    architecture = plugins.architecture(name)
    assert architecture.reduce(C10, architecture.count(C10)) is architecture


@pytest.mark.parametrize("into", [1, 6, 16])
def test_a_shortcut_is_the_strided_convolution(into):
    # In double precision: sums of another order differ by more than single precision's tolerance now and then.
    x = torch.randn(4, into, 17, 16, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    shortcut = Shortcut(into, 2 * into, 2).double()
    gradients = []
    for run in (shortcut, partial(nn.functional.conv2d, weight=shortcut.weight, stride=2)):
        given = x.clone().requires_grad_()
        out = run(given)
        gradients.append((out, *torch.autograd.grad(out.square().sum(), (given, shortcut.weight))))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_few_channels_and_many_pixels_train():
    """What oneDNN crashes on without shortcuts of our own."""
    signature = ImageSignature((3, 224, 224), 2)
    architecture = plugins.architecture("resnet-10")
    network = architecture.reduce(signature, architecture.count(signature) // 100).build(signature)
    x = torch.randn(4, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        network(x).sum().backward()


@pytest.mark.parametrize("name", [*SMALL, "resnet-50", "densenet-121"])
@pytest.mark.parametrize("side", [32, 72])
def test_reduced_versions_compute_logits_and_gradients(name, side):
    signature = ImageSignature((3, side, side), 7)
    architecture = plugins.architecture(name)
    network = architecture.reduce(signature, architecture.count(signature) // 50).build(signature)
    logits = network(torch.randn(2, 3, side, side))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", [*SMALL, "resnet-50", "densenet-121", "wrn-22-2"])
def test_repeated_layers_are_alike_and_groups_count_up(name):
    layers = plugins.architecture(name).layers(C10)
    groups = {layer.place.group for layer in layers}
    assert groups <= set(range(max(groups) + 1))
    assert layers[0].place.group == 0 and layers[-1].place.group == max(groups)
    for stage in {layer.place.stage for layer in layers} - {""}:
        repeated = [layer for layer in layers if layer.place.block == stage]
        # As many of each shape: what is called repeated is blocks of one kind.
        counts = Counter((layer.kind, layer.shape) for layer in repeated)
        least = min(counts.values(), default=1)
        assert all(count % least == 0 for count in counts.values())
    by_hand = {"wrn-22-2": 14, "resnet-50": 22}
    if name in by_hand:
        assert len(groups) == by_hand[name]


@pytest.mark.parametrize("method", ["ssn", "superweights", "hypernetwork"])
@pytest.mark.parametrize("name", SMALL[1:])
def test_methods_generate_their_weights(name, method):
    architecture = plugins.architecture(name)
    problem = Problem(architecture, C10, architecture.count(C10) // 3)
    network = plugins.methods.load(method)({}).build(problem)
    assert network.ledger(problem.budget).total <= problem.budget
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    # Statistics of a norm, whichever kind it is, are not counted as trained.
    assert not [state for state in network.state_names() if state.startswith("architecture.")]


def test_soft_sharing_of_wrn_50_2_needs_the_papers_40_million():
    architecture = plugins.architecture("wrn-50-2")
    swrn = plugins.methods.load("swrn")({})
    with pytest.raises(UnsupportedBudget) as unsupported:
        swrn.preview(Problem(architecture, IMAGENET, 1_000_000))
    assert round(unsupported.value.smallest / 1e6) == 40


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet", "resnet-18 is"),
        ("resnet-18-2", "resnet-18 is"),
        ("resnet-57", "resnet-56 or resnet-62"),
        ("resnet-0", "resnet-8 or"),
        ("densenet", "densenet-121"),
        ("densenet-122", "densenet-121"),
        ("densenet-bc-101-12", "densenet-bc-100-12 or densenet-bc-106-12"),
        ("densenet-bc-100-0", "densenet-bc-100-1 or"),
        ("efficientnet-b1", "efficientnet-b0"),
    ],
)
def test_other_names_are_refused_with_the_nearest(name, says):
    with pytest.raises(NpasBenchError, match=says):
        plugins.architecture(name)


@pytest.mark.parametrize("name", SMALL)
def test_architectures_take_images_only(name):
    with pytest.raises(NpasBenchError, match="takes images"):
        plugins.architecture(name).build(ImageSignature((300,), 10))
