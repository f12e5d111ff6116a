from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import OptionError, UnknownName, UnsupportedBudget
from npas_bench.generation.plan import Reader, Variant, largest_store, overhead, reader_of, shares, smallest_cost
from npas_bench.layers import Kind, Layer, Place
from npas_bench.methods import Problem
from npas_bench.methods.ssn import SSN, GroupPlan, SSNAllocation, SSNOptions
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import EXAMPLES, ExampleArchitecture

C10, C100 = ImageSignature((3, 32, 32), 10), ImageSignature((3, 32, 32), 100)


@st.composite
def architectures(draw):
    """Wide residual networks, and stacks of convolutions or linear layers of any widths."""
    kind = draw(st.sampled_from(["wrn", "linear", "convolution"]))
    if kind == "wrn":
        depth, width = draw(st.sampled_from([10, 16, 22])), draw(st.integers(1, 3))
        signature = ImageSignature((draw(st.integers(1, 3)), 8, 8), draw(st.integers(1, 12)))
        return plugins.architecture(f"wrn-{depth}-{width}"), signature
    widths = draw(st.lists(st.integers(1, 24), min_size=2, max_size=6))
    pairs = list(pairwise(widths))
    if kind == "linear":
        example = ExampleArchitecture(
            f"linear {widths}", lambda: nn.Sequential(*(nn.Linear(a, b) for a, b in pairs)), (widths[0],)
        )
    else:
        kernels = draw(st.lists(st.sampled_from([1, 3, 5]), min_size=len(pairs), max_size=len(pairs)))
        example = ExampleArchitecture(
            f"convolutions {widths} {kernels}",
            lambda: nn.Sequential(
                *(nn.Conv2d(a, b, k, padding=k // 2, bias=False) for (a, b), k in zip(pairs, kernels, strict=True)),
                nn.Flatten(),
            ),
            (widths[0], 6, 6),
        )
    return example, example.signature


SMALL = {example.name: (example, example.signature) for example in EXAMPLES} | {
    name: (plugins.architecture(name), ImageSignature((1, 8, 8), 10)) for name in ("wrn-10-1", "wrn-10-2", "wrn-16-1")
}


def single_group(layers, store, **options):
    return SSNAllocation([GroupPlan(tuple(layers), store, SSNOptions(**options).variant)])


def count(allocation, name=""):
    return sum(p.numel() for key, p in allocation.named_parameters() if key.startswith(f"groups.0.{name}"))


# Released accounting: store, coefficients, masks and normalisation, without the classifier's bias.
@pytest.mark.parametrize(
    ("architecture", "signature", "store", "options", "total", "alphas", "masks"),
    [
        ("wrn-28-10", C100, 3_686_400, {}, 3_704_494, 142, 0),
        ("wrn-28-10", C100, 4_000_000, {}, 4_018_094, 142, 0),
        ("wrn-28-10", C100, 500_000, {"upsample": "inter"}, 518_007, 55, 0),
        ("wrn-28-10", C100, 500_000, {"mask_scope": "layer"}, 518_538, 55, 531),
        ("wrn-16-2", C10, 147_456, {}, 149_374, 94, 0),
        ("wrn-16-2", C10, 20_000, {"mask_scope": "layer"}, 22_111, 44, 243),
        ("wrn-16-2", C10, 4 * 691_674, {}, 2_768_656, 136, 0),
    ],
)
def test_explicit_stores_count_as_in_the_released_code(architecture, signature, store, options, total, alphas, masks):
    layers = plugins.architecture(architecture).layers(signature)
    with torch.device("meta"):
        allocation = single_group(layers, store, **options)
    normalisation = {"wrn-28-10": 17_952, "wrn-16-2": 1_824}[architecture]
    assert count(allocation) + normalisation == total
    assert count(allocation, "coefficients") == alphas
    assert count(allocation, "masks") == masks


@pytest.mark.parametrize(("architecture", "smallest"), [("wrn-16-2", 2_295), ("wrn-28-10", 11_511)])
def test_masks_have_a_minimum_of_their_own(architecture, smallest):
    layers = plugins.architecture(architecture).layers(C10)
    assert smallest_cost([reader_of(layer) for layer in layers], Variant(combine="avg")) == smallest


def test_repeat_goes_down_to_one_scalar_and_inter_to_one_kernel():
    readers = [reader_of(layer) for layer in plugins.architecture("wrn-16-2").layers(C10)]
    assert smallest_cost(readers, Variant(upsample="repeat")) == 1
    assert smallest_cost(readers, Variant(upsample="inter")) == 9


TEMPLATES = {"templates": st.integers(1, 12)}
COMBINE = st.one_of(
    st.fixed_dictionaries({"combine": st.just("emb"), "embedding": st.integers(1, 30), **TEMPLATES}),
    st.fixed_dictionaries({"combine": st.sampled_from(["wavg", "avg"]), **TEMPLATES}),
    st.just({"combine": "rr"}),
)
UPSAMPLE = st.one_of(
    st.fixed_dictionaries(
        {
            "upsample": st.just("mask"),
            "mask_window": st.integers(1, 20),
            "mask_scope": st.sampled_from(["group", "layer"]),
        }
    ),
    st.fixed_dictionaries({"upsample": st.sampled_from(["inter", "repeat"])}),
)
VARIANTS = st.builds(lambda combine, upsample: combine | upsample, COMBINE, UPSAMPLE)


def check(problem, method):
    with seeded("check"):
        network = method.build(problem)
    ledger = network.ledger(problem.budget).check("network")
    assert ledger.reach == 1.0 or "no weight" in ledger.remark
    assert ledger.remark is not None or ledger.total >= 0.99 * problem.budget
    network(torch.randn(2, *problem.signature.input_shape)).sum().backward()
    return ledger


@settings(max_examples=120)
@given(architectures() | st.sampled_from(list(SMALL.values())), VARIANTS, st.floats(-3, 1))
def test_any_budget_is_kept_and_used_without_dead_parameters_or_names_its_bound(case, options, magnitude):
    architecture, signature = case
    method = SSN(options)
    problem = Problem(architecture, signature, max(1, int(10**magnitude * architecture.size(signature))))
    try:
        check(problem, method)
    except UnsupportedBudget as unsupported:
        assert unsupported.smallest > problem.budget


@settings(max_examples=120)
@given(architectures() | st.sampled_from(list(SMALL.values())), VARIANTS, st.integers(0, 300))
def test_every_budget_from_the_declared_minimum_upward_works(case, options, above):
    architecture, signature = case
    method = SSN(options)
    with pytest.raises(UnsupportedBudget) as caught:
        method.build(Problem(architecture, signature, 0))
    smallest = caught.value.smallest
    check(Problem(architecture, signature, smallest + above), method)
    with pytest.raises(UnsupportedBudget):
        method.preview(Problem(architecture, signature, smallest - 1))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5), VARIANTS, st.integers(1, 400))
def test_the_chosen_store_is_the_largest_that_fits(shapes, options, available):
    chosen = Variant(**options)
    layers = [Reader(f"r{i}", shape, 1.0) for i, shape in enumerate(shapes)]
    fitting = [size for size in range(1, available + 1) if size + overhead(layers, size, chosen) <= available]
    found = largest_store(layers, available, chosen)
    if not fitting:
        assert found is None
    else:
        # A store that its readers do not read whole is made smaller.
        assume(sum(share.length for share in shares(layers, max(fitting), chosen)) >= max(fitting))
        assert found == max(fitting)


def test_a_layer_of_the_stores_size_is_the_store():
    layer = Layer("w", Kind.LINEAR, (6, 7), Place())
    allocation = single_group([layer], 42)
    assert torch.equal(allocation.weight("w"), allocation.groups[0].store.view(6, 7))


def test_emb_coefficients_are_a_linear_map_of_the_embedding():
    layers = [Layer(f"l{i}", Kind.LINEAR, (3, 4), Place()) for i in range(3)]
    allocation = single_group(layers, 60, combine="emb")
    phi = allocation.groups[0].embeddings["k5"]
    assert phi.shape == (3, 24)
    alpha = phi[1] @ allocation.groups[0].maps["k5"].weight.T + allocation.groups[0].maps["k5"].bias
    start = allocation.sharing()[1].start
    expected = (alpha[:, None] * allocation.groups[0].store[start : start + 60].view(5, 12)).sum(0)
    torch.testing.assert_close(allocation.weight("l1").flatten(), expected)


def test_coefficients_of_different_layers_start_orthogonal():
    layers = [Layer(f"l{i}", Kind.LINEAR, (3, 4), Place()) for i in range(4)]
    alphas = single_group(layers, 96).groups[0].coefficients["k8"]
    torch.testing.assert_close(alphas @ alphas.T, torch.eye(4), atol=1e-6, rtol=0)


def test_more_than_the_layers_can_read_is_capped_and_said():
    architecture, signature = SMALL["wrn-10-1"]
    ledger = check(Problem(architecture, signature, 20 * architecture.size(signature)), SSN())
    assert "capped at the 616,576 scalars" in ledger.remark


def test_options_out_of_range_and_unknown_ones_are_refused_by_name():
    with pytest.raises(OptionError, match=r"option combine.*'wavg'"):
        SSN({"combine": "sum"})
    with pytest.raises(OptionError, match="option templates"):
        SSN({"templates": 0})
    with pytest.raises(OptionError, match="option templates"):
        SSN({"templates": True})
    with pytest.raises(UnknownName, match="did you mean templates"):
        SSN({"template": 4})
