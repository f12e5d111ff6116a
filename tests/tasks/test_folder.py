"""Images in a folder per class."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import DataError, NpasBenchError
from npas_bench.seeding import generator
from npas_bench.tasks.base import Part
from npas_bench.tasks.classification import files as reading
from npas_bench.tasks.classification import folder as module
from npas_bench.tasks.classification.base import ImageSet
from npas_bench.tasks.classification.digits import Digits
from npas_bench.tasks.classification.files import ImageFiles
from npas_bench.tasks.classification.folder import ImageFolder, ImageNet

CLASSES = ("ape", "bee", "cat")


def paint(path, size, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make(root, size=(16, 16), each=4, classes=CLASSES, splits=("train", "val")):
    for number, (split, name, i) in enumerate((s, c, i) for s in splits for c in classes for i in range(each)):
        paint(root / split / name / f"{i}.png", size, number)
    return root


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DATA", str(tmp_path))
    return tmp_path


def test_small_images_are_decoded_once_and_as_they_are(data):
    make(data / "zoo")
    task = plugins.task("image-folder:zoo")
    assert task.signature == ImageSignature((3, 16, 16), 3)
    train = task.data("train")
    assert isinstance(train, ImageSet)
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with Image.open(data / "zoo/train/bee/2.png") as file:
        assert np.array_equal(train.pixels[6].permute(1, 2, 0).numpy(), np.asarray(file))
    assert task.recipes("wrn-16-1")["default"].crop == 2


def test_an_absolute_path_is_a_folder_too(data, tmp_path_factory):
    place = make(tmp_path_factory.mktemp("elsewhere") / "zoo")
    assert len(plugins.task(f"image-folder:{place}").data("test")) == 12


def test_large_images_are_read_ahead_and_cut_to_a_square(data):
    make(data / "zoo", size=(300, 200), each=2)
    task = ImageFolder("zoo")
    assert task.signature == ImageSignature((3, 224, 224), 3)
    files = task.data("test")
    assert isinstance(files, ImageFiles)
    batches = list(files.batches(torch.arange(6).split(4)))
    assert [batch.pixels.shape for batch in batches] == [(4, 3, 224, 224), (2, 3, 224, 224)]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(files.batch(torch.tensor([5])).pixels[0], batches[1].pixels[1])
    assert task.recipes("resnet-50")["default"].zoom == 0.08


def test_windows_depend_on_the_draws_and_the_image_alone(data):
    make(data / "zoo", size=(80, 90), each=2)
    task = ImageFolder("zoo")
    files, recipe = task.data("train"), task.recipes("resnet-50")["default"]

    def draw(orders, *seed):
        parts = [Part(torch.tensor(order), generator("test", *seed)) for order in orders]
        return torch.cat([batch.pixels for batch in task.batches(files, parts, recipe)])

    first = draw([[0, 1, 2], [3, 4]])
    assert torch.equal(first[[3, 0]], draw([[3, 0]]))
    assert not torch.equal(first, draw([[0, 1, 2], [3, 4]], "other"))
    assert not torch.equal(first[0], files.batch(torch.tensor([0])).pixels[0])


def test_the_digest_follows_names_and_contents(data):
    task = ImageFolder(str(make(data / "zoo")))
    before = task.source()
    assert before.label == f"zoo (image folder {before.digest[:8]})" and not before.official
    shutil.copytree(data / "zoo", data / "copy")
    assert ImageFolder("copy").source().digest == before.digest
    paint(data / "copy/val/ape/new.png", (16, 16), 77)
    assert ImageFolder("copy").source().digest != before.digest


def test_unreadable_images_are_left_out_and_named(data, monkeypatch, caplog):
    monkeypatch.setattr(reading, "TOLERATED", 12)
    for size in ((16, 16), (90, 90)):
        place = make(data / f"zoo{size[0]}", size=size)
        bad = place / "train/bee/1.png"
        bad.write_bytes(bad.read_bytes()[:100])
        task = ImageFolder(place.name)
        train = task.data("train")
        labels = torch.cat([batch.labels for batch in train.batches(torch.split(torch.arange(len(train)), 1))])
        assert labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
        assert train.unreadable == (str(bad),)
        assert f"1 of 12 images cannot be read: {bad}; it is left out" in caplog.text


@pytest.mark.parametrize("size", [(16, 16), (90, 90)])
def test_more_than_one_in_a_thousand_unreadable_is_an_error(data, size):
    make(data / "zoo", size=size)
    bad = data / "zoo/val/cat/3.png"
    bad.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 12 images cannot be read: .*cat/3.png.*one in a thousand"):
        list(ImageFolder("zoo").data("test").batches([torch.arange(12)]))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: shutil.rmtree(root), "does not exist"),
        (lambda root: shutil.rmtree(root / "val"), "has no val/"),
        (lambda root: shutil.rmtree(root / "val/cat"), "differ in 1 class: val/ lacks cat"),
        (
            lambda root: [p.unlink() for p in (root / "val/cat").iterdir()],
            "val/ of .* has no image in 1 .*folders: cat",
        ),
        (lambda root: [p.write_text("x") for p in root.rglob("*.png")], "no image that can be read"),
        (lambda root: paint(root / "val/cat/0.png", (200, 200), 1), "either all small .* or all larger"),
        (lambda root: [shutil.rmtree(root / s / c) for s in ("train", "val") for c in ("ape", "bee")], "one class"),
    ],
)
def test_damaged_folders_are_refused(data, spoil, says):
    spoil(make(data / "zoo"))
    with pytest.raises(DataError, match=says):
        ImageFolder("zoo").source()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("image-folder", "takes a folder behind its name"),
        ("image-folder:", "takes a folder behind its name"),
        ("imagenet:other", "use image-folder:other"),
        ("digits:x", "takes nothing behind its name"),
    ],
)
def test_what_stands_behind_a_name_is_checked(name, says):
    with pytest.raises(NpasBenchError, match=says):
        plugins.task(name)


def test_a_missing_training_split_is_named_when_it_is_wanted(data):
    make(data / "zoo", splits=("val",))
    task = ImageFolder("zoo")
    assert len(task.data("test")) == 12
    with pytest.raises(DataError, match="has no train/"):
        task.data("train")


def test_a_training_batch_has_stand_ins_and_its_size(data, monkeypatch, caplog):
    monkeypatch.setattr(reading, "TOLERATED", 12)
    make(data / "zoo", size=(90, 90))
    bad = data / "zoo/train/bee/1.png"
    bad.unlink()
    bad.symlink_to("/nowhere.png")
    task = ImageFolder("zoo")
    files, recipe = task.data("train"), task.recipes("resnet-50")["default"]
    batches = list(task.batches(files, [Part(torch.tensor([i]), generator("test")) for i in (4, 5, 6)], recipe))
    assert [batch.labels.tolist() for batch in batches] == [[1], [1], [1]]
    assert files.unreadable == (str(bad),)


def test_a_recipe_of_crops_is_followed_where_images_are_read_from_files(data, monkeypatch):
    """As a large set of small images is."""
    make(data / "zoo")
    task, recipe = ImageFolder("zoo"), ImageFolder("zoo").recipes("wrn-16-1")["default"]
    orders = [torch.tensor([3, 1, 7]), torch.tensor([2, 5])]

    def draw():
        draws = generator("test")
        examples = task.data("train")
        return examples, list(task.batches(examples, [Part(order, draws) for order in orders], recipe))

    resident, expected = draw()
    monkeypatch.setattr(module, "_RESIDENT_BYTES", 0)
    files, batches = draw()
    assert isinstance(resident, ImageSet) and isinstance(files, ImageFiles)
    for one, other in zip(batches, expected, strict=True):
        assert torch.equal(one.pixels, other.pixels)
    zoomed = recipe.model_copy(update={"zoom": 0.1})
    with pytest.raises(NpasBenchError, match="cannot zoom"):
        list(task.batches(resident, [Part(orders[0], generator("test"))], zoomed))


def test_a_zoom_is_refused_exactly_where_images_stay_on_the_device(data, monkeypatch):
    make(data / "zoo")
    task = ImageFolder("zoo")
    recipe = task.recipes("wrn-16-1")["default"]
    zoomed = recipe.model_copy(update={"zoom": 0.1})
    assert task.recipe_refusal(recipe) is None
    assert "cannot zoom" in task.recipe_refusal(zoomed)
    assert task.count("train") == len(task.data("train"))
    monkeypatch.setattr(module, "_RESIDENT_BYTES", 0)
    assert task.recipe_refusal(zoomed) is None


def test_a_task_that_reads_its_own_batches_may_zoom():
    class Reading(Digits):
        def augment(self, batch, recipe, generator):
            return batch

    zoomed = Digits().recipes("wrn-10-1")["default"].model_copy(update={"zoom": 0.1})
    assert Digits().recipe_refusal(zoomed) is not None
    assert Reading().recipe_refusal(zoomed) is None


def test_a_folder_has_one_name_however_it_is_written(data):
    make(data / "zoo")
    names = {plugins.task(f"image-folder:{text}").name for text in ("zoo", "zoo/", "./zoo", "a/../zoo", data / "zoo")}
    assert names == {"image-folder:zoo"}


def test_files_of_other_kinds_are_named(data, caplog):
    make(data / "zoo")
    (data / "zoo/train/ape/notes.txt").write_text("x")
    ImageFolder("zoo").source()
    assert "1 file is no image by its name and is left out" in caplog.text and "notes.txt" in caplog.text


def test_imagenet_has_a_thousand_classes(data):
    make(data / "imagenet")
    with pytest.raises(DataError, match="has 3 classes, not 1,000; for other sets there is --task image-folder"):
        ImageNet().source()
    assert ImageNet().signature == ImageSignature((3, 224, 224), 1000)


def test_missing_imagenet_says_where_it_is_from(data):
    with pytest.raises(DataError, match=r"image-net.org(.|\n)*train/WNID/"):
        ImageNet().source()


@pytest.mark.slow
def test_the_thousand_classes_are_evaluated(real_data, tmp_path, monkeypatch):
    """One real image of each ImageNet class: loading, top-5, a thousand classes."""
    if not (real_data / "imagenet-sample").is_dir():
        pytest.skip("no imagenet-sample in NPAS_BENCH_DATA")
    (tmp_path / "imagenet").symlink_to(real_data / "imagenet-sample")
    monkeypatch.setenv("NPAS_BENCH_DATA", str(tmp_path))
    task = ImageNet()
    source = task.source()
    assert not source.official and source.label.startswith("ImageNet (1,000 images, unofficial data")
    wnids = [Path(file.path).parent.name for file in task.data("test").files]
    assert wnids == sorted(wnids) and len(set(wnids)) == 1000

    class Oracle(torch.nn.Module):
        """Knows two of three images, and puts the right class third for the others."""

        seen = 0

        def forward(self, pixels):
            assert pixels.shape[1:] == (3, 224, 224) and pixels.isfinite().all()
            truth = torch.arange(self.seen, self.seen + len(pixels))
            self.seen += len(pixels)
            logits = torch.zeros(len(pixels), 1000)
            logits[torch.arange(len(pixels)), truth] = 5
            off = truth % 3 == 0
            for k in (1, 2):
                logits[torch.arange(len(pixels))[off], (truth[off] + k) % 1000] = 5.0 + k
            return logits

    metrics = task.evaluate(Oracle(), task.data("test"))
    assert metrics["error@1"] == pytest.approx(33.4)
    assert metrics["error@5"] == 0


@pytest.mark.slow
def test_tiny_imagenet_is_read_and_named(real_data):
    if not (real_data / "tiny-imagenet-100c").is_dir():
        pytest.skip("no tiny-imagenet-100c in NPAS_BENCH_DATA")
    task = plugins.task("image-folder:tiny-imagenet-100c")
    assert task.source().label == "Tiny-ImageNet-100c"
    assert task.signature == ImageSignature((3, 64, 64), 100)
    train = task.data("train")
    assert train.labels.bincount().tolist() == [250] * 100 and not train.unreadable
