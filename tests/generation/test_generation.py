import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from npas_bench.generation.assembly import Assembled, WeightBlock
from npas_bench.generation.group import Group
from npas_bench.generation.initialisation import Stretch, fill_store
from npas_bench.generation.plan import Image, Reader, RoundRobin, Variant, dead_masks, interpolation_source
from npas_bench.generation.rules import Averaged, Hashed, Mixed, Rule, Stored
from npas_bench.generation.upsampling import Interpolated, Masked, Repeated


def reader(*shape):
    return Reader(f"r{shape}", shape, (2 / (shape[1] * shape[2])) ** 0.5)


@given(st.integers(1, 60).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(1, size), min_size=1))))
def test_round_robin_stays_inside_and_reaches_all_once_enough_was_taken(case):
    size, lengths = case
    turn, reached = RoundRobin(size), set()
    for length in lengths:
        start = turn.take(length)
        assert 0 <= start <= size - length
        reached |= set(range(start, start + length))
    assert sum(lengths) < size or reached == set(range(size))


def test_mixing_is_the_weighted_sum_of_templates():
    store, alpha = torch.randn(50, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    templates = store[3:43].view(4, 10)
    torch.testing.assert_close(
        Mixed((10,), 3, 4).make(store, alpha), torch.einsum("k,kn->n", alpha, templates), rtol=1e-10, atol=0
    )
    torch.testing.assert_close(Averaged((10,), 3, 4).make(store), sum(templates) / 4)


def test_one_template_is_used_as_it_is_without_a_copy():
    store = torch.randn(50)
    assert Stored((2, 5), 5).make(store).data_ptr() == store[5:].data_ptr()


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 12), st.integers(0, 39))
def test_masked_tiles_are_the_store_then_the_store_times_each_mask_over_its_windows(length, more, window, start):
    size, start = length + more, start % length
    store = torch.randn(length, dtype=torch.float64)
    masks = torch.randn(-(-size // length) - 1, window, dtype=torch.float64)
    expected = [
        store[(start + i) % length] * (1 if i < length else masks[i // length - 1, (i % length) % window])
        for i in range(size)
    ]
    torch.testing.assert_close(Masked((size,), length, start).make(store, masks), torch.stack(expected))


def test_repeated_tiles_are_cut_off():
    assert Repeated((8,)).make(torch.arange(3)).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_hash_at_or_beyond_the_stores_length_means_the_negative():
    assert Hashed((4,)).make(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 5, 1, 2])).tolist() == [1, -3, -1, 2]


def test_an_assembled_weight_has_each_block_in_its_place():
    blocks = (
        WeightBlock(Stored((1, 2, 1), 0), 0, 0, 0),
        WeightBlock(Mixed((1, 1, 1), 2, 2), 0, 2, 1),
        WeightBlock(Stored((1, 3, 1), 4), 1, 0, 0),
    )
    weight = Assembled((2, 3), blocks).make(torch.arange(7.0), torch.tensor([10.0, 1.0]))
    assert weight.tolist() == [[0, 1, 23], [4, 5, 6]]


@st.composite
def rules(draw):
    """A rule, scalars of a store that it can read, and its inputs."""
    shape = draw(st.tuples(*(st.integers(1, 6) for _ in range(draw(st.integers(2, 4))))))
    size = torch.Size(shape).numel()
    kind = draw(st.sampled_from(["stored", "mixed", "averaged", "masked", "repeated", "interpolated", "hashed"]))
    start, spare, count = draw(st.integers(0, 5)), draw(st.integers(0, 5)), draw(st.integers(1, 5))
    if kind in ("masked", "repeated"):
        length = draw(st.integers(1, max(1, size - 1)))
        shape = (*shape[:-1], shape[-1] + (size == 1))
        size = torch.Size(shape).numel()
        if kind == "repeated":
            return Repeated(shape), length, ()
        window = draw(st.integers(1, 10))
        masks = -(-size // length) - 1 + draw(st.integers(0, 2))
        return Masked(shape, length, start % length), length, (torch.randn(masks, window).double(),)
    if kind == "interpolated":
        kernel = torch.Size(shape[2:]).numel()
        image = Image(draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1])), kernel)
        return Interpolated(shape, start, image), start + image.size + spare, ()
    if kind == "hashed":
        return Hashed(shape), count, (torch.randint(2 * count, (size,)),)
    if kind == "stored":
        return Stored(shape, start), start + size + spare, ()
    rule, inputs = (Averaged, ()) if kind == "averaged" else (Mixed, (torch.randn(count).double(),))
    return rule(shape, start, count), start + count * size + spare, inputs


@given(rules())
def test_gradients_by_hand_agree_with_autograd_to_the_last_digits(case):
    rule, length, inputs = case
    store, before = torch.randn(length).double(), torch.randn(length).double()
    gradient = torch.randn(rule.shape).double()
    inputs = tuple(i.requires_grad_(i.is_floating_point()) for i in inputs)
    into, expected = before.clone(), before.clone()
    found = rule.pull(gradient, store, inputs, into)
    naive = Rule.pull(rule, gradient, store, inputs, expected)
    torch.testing.assert_close(into, expected, rtol=1e-10, atol=1e-13)
    for own, other in zip(found, naive, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-13)
    assert len(rule.pull(gradient, store, inputs, None)) == len(inputs)
    with torch.no_grad():
        expected = rule.make(store, *inputs)
        assert torch.equal(rule.build(store, inputs), expected)
        assert torch.equal(rule.build(store, inputs, store.new_empty(rule.size)), expected)


def test_the_source_image_is_the_released_codes():
    image = interpolation_source(reader(128, 128, 3, 3), 20_000)
    assert (image.rows, image.columns * image.kernel) == (45, 405)


@given(st.tuples(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 9, 25])), st.integers(1, 10_000))
def test_the_source_image_fits_from_one_kernel_up(shape, extra):
    wanted = reader(*shape)
    assert interpolation_source(wanted, wanted.kernel + extra).size <= wanted.kernel + extra
    if wanted.kernel > 1:
        with pytest.raises(ValueError, match="cannot be interpolated"):
            interpolation_source(wanted, wanted.kernel - 1)


def test_interpolation_is_bilinear_with_half_pixel_centres():
    image = Image(3, 2, 9)
    values = torch.randn(image.size)
    expected = functional.interpolate(values.view(1, 1, 3, 18), (7, 45), mode="bilinear", align_corners=False)
    assert torch.equal(Interpolated((7, 5, 3, 3), 0, image).make(values), expected.view(7, 5, 3, 3))


def test_the_commonest_shape_gives_a_store_its_scale():
    torch.manual_seed(0)
    rare, common = reader(4, 800, 1, 1), reader(4, 8, 1, 1)
    store = torch.empty(40_000)
    fill_store(store, [Stretch(common, 0, 20_000), Stretch(common, 0, 20_000), Stretch(rare, 0, 40_000)])
    assert store[:20_000].std().item() == pytest.approx(common.deviation, rel=0.03)
    assert store[20_000:].std().item() == pytest.approx(rare.deviation, rel=0.03)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(1, 50),
    st.integers(1, 30),
    st.sampled_from(["group", "layer"]),
    st.sampled_from(["aligned", "scattered"]),
)
def test_masks_without_a_gradient_are_those_that_the_sizes_tell(sizes, store, window, scope, tiles):
    variant = Variant(mask_window=window, mask_scope=scope, tiles=tiles, templates=1)
    readers = [Reader(str(number), (size, 1, 1), 1.0) for number, size in enumerate(sizes)]
    group = Group(readers, store, variant)
    torch.nn.init.ones_(group.store)
    objective = sum(group.generation(reader.name).make().sum() for reader in readers)
    gradients = torch.autograd.grad(objective, list(group.masks)) if len(group.masks) else ()
    assert dead_masks(readers, store, variant) == sum(int((g == 0).sum()) for g in gradients)
