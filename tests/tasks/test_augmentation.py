import pytest
import torch

from npas_bench.tasks.classification.augmentation import crop, cutout, flip
from npas_bench.tasks.classification.base import Images
from npas_bench.tasks.classification.digits import Digits


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_flip_mirrors_about_half_of_the_images_and_changes_no_other():
    pixels = torch.randn(200, 3, 5, 4)
    flipped = flip(pixels, draws())
    same = (flipped == pixels).flatten(1).all(1)
    mirrored = (flipped == pixels.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_crop_cuts_each_image_out_of_its_padded_self():
    pixels = torch.randn(50, 2, 6, 5)
    padded = torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    cropped, offsets = crop(pixels, 2, draws()), set()
    for image, whole in zip(cropped, padded, strict=True):
        fits = [(y, x) for y in range(5) for x in range(5) if torch.equal(whole[:, y : y + 6, x : x + 5], image)]
        assert len(fits) == 1
        offsets |= set(fits)
    assert len(offsets) > 15
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(5))


def test_cutout_sets_one_square_of_each_image_to_zero():
    cut = cutout(torch.ones(100, 3, 8, 8), 4, draws())
    holes = cut[:, 0] == 0
    assert (cut == cut[:, :1]).all()
    assert holes.flatten(1).sum(1).max() == 16
    assert holes.flatten(1).sum(1).min() >= 4  # a corner still loses a quarter
    for hole in holes:
        rows, columns = hole.any(1).nonzero(), hole.any(0).nonzero()
        assert hole.sum() == len(rows) * len(columns)


def test_augmented_batches_are_laid_out_channels_last_as_plain_ones_are():
    task = Digits()
    recipe = task.recipes("wrn-10-1")["default"].derive(flip=True, crop=1, cutout=2)
    batch = task.data("train").batch(torch.arange(9))
    for images in (batch, task.augment(batch, recipe, draws())):
        assert images.pixels.is_contiguous(memory_format=torch.channels_last)


def test_the_same_draws_change_a_batch_in_the_same_way():
    pixels = torch.randn(9, 3, 8, 8)
    for change in (lambda g: flip(pixels, g), lambda g: crop(pixels, 2, g), lambda g: cutout(pixels, 3, g)):
        assert torch.equal(change(draws(3)), change(draws(3)))
        assert not torch.equal(change(draws(3)), change(draws(4)))


@pytest.mark.parametrize("side", [0, 1, 3])
def test_a_task_cuts_out_of_every_image_what_its_recipe_says(side):
    task = Digits()
    recipe = task.recipes("wrn-10-1")["default"].derive(cutout=side)
    batch = Images(torch.ones(200, 1, 8, 8), torch.zeros(200, dtype=torch.int64))
    holes = (task.augment(batch, recipe, draws()).pixels == 0).flatten(1).sum(1)
    assert holes.max() == side * side
    assert (holes > 0).all() == (side > 0)


@pytest.mark.parametrize("field", ["flip", "crop", "cutout"])
def test_each_field_of_a_recipe_changes_images_by_itself(field):
    task = Digits()
    plain = task.recipes("wrn-10-1")["default"]
    assert (plain.flip, plain.crop, plain.cutout) == (False, 0, 0)
    batch = task.data("train").batch(torch.arange(50))
    changed = task.augment(batch, plain.derive(**{field: 2 if field != "flip" else True}), draws())
    assert not torch.equal(changed.pixels, batch.pixels)
    assert torch.equal(task.augment(batch, plain, draws()).pixels, batch.pixels)
