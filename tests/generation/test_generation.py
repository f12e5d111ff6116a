import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from npas_bench.generation.initialisation import Stretch, fill_store
from npas_bench.generation.mixing import RoundRobin, mix_templates, template_mean
from npas_bench.generation.upsampling import (
    Image,
    interpolate,
    interpolation_source,
    masked_tiles,
    repeat_tiles,
)
from npas_bench.layers import Kind, Layer, Place


def layer(*shape):
    return Layer(f"l{shape}", Kind.CONVOLUTION, shape, Place())


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
    torch.testing.assert_close(mix_templates(store, 3, 10, alpha), torch.einsum("k,kn->n", alpha, templates))
    torch.testing.assert_close(template_mean(store, 3, 10, 4), sum(templates) / 4)


def test_one_template_is_used_as_it_is_without_a_copy():
    store = torch.randn(50)
    assert template_mean(store, 5, 10, 1).data_ptr() == store[5:].data_ptr()


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 12))
def test_masked_tiles_are_the_store_then_the_store_times_each_mask_over_its_windows(length, more, window):
    size = length + more
    store = torch.randn(length, dtype=torch.float64)
    masks = torch.randn(-(-size // length) - 1, window, dtype=torch.float64)
    expected = [
        store[i % length] * (1 if i < length else masks[i // length - 1, (i % length) % window]) for i in range(size)
    ]
    torch.testing.assert_close(masked_tiles(store, size, masks), torch.stack(expected))


def test_repeated_tiles_are_cut_off():
    assert repeat_tiles(torch.arange(3), 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_the_source_image_is_the_released_codes():
    image = interpolation_source(layer(128, 128, 3, 3), 20_000)
    assert (image.rows, image.columns * image.kernel) == (45, 405)


@given(st.tuples(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 9, 25])), st.integers(1, 10_000))
def test_the_source_image_fits_from_one_kernel_up(shape, extra):
    wanted = Layer("w", Kind.CONVOLUTION, (shape[0], shape[1], shape[2]), Place())
    assert interpolation_source(wanted, wanted.kernel + extra).size <= wanted.kernel + extra
    if wanted.kernel > 1:
        with pytest.raises(ValueError, match="cannot be interpolated"):
            interpolation_source(wanted, wanted.kernel - 1)


def test_interpolation_is_bilinear_with_half_pixel_centres():
    image, wanted = Image(3, 2, 9), layer(7, 5, 3, 3)
    values = torch.randn(image.size)
    expected = functional.interpolate(values.view(1, 1, 3, 18), (7, 45), mode="bilinear", align_corners=False)
    assert torch.equal(interpolate(values, image, wanted), expected.flatten())


def test_the_commonest_shape_gives_a_store_its_scale():
    torch.manual_seed(0)
    rare, common = layer(4, 800, 1, 1), layer(4, 8, 1, 1)
    store = torch.empty(40_000)
    fill_store(store, [Stretch(common, 0, 20_000), Stretch(common, 0, 20_000), Stretch(rare, 0, 40_000)])
    assert store[:20_000].std().item() == pytest.approx(common.deviation, rel=0.03)
    assert store[20_000:].std().item() == pytest.approx(rare.deviation, rel=0.03)
