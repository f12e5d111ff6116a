import os
import pickle

import numpy as np
import pytest

from npas_bench.errors import DataError
from npas_bench.tasks.classification import cifar
from npas_bench.tasks.classification.cifar import Cifar10, Cifar100

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def write(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A CIFAR-10 of ten images a file, in the official layout with Python 2's keys."""
    monkeypatch.setenv("NPAS_BENCH_DATA", str(tmp_path / "data"))
    folder = tmp_path / "data" / cifar.CIFAR10.folder
    rng = np.random.default_rng(0)
    for name in NAMES:
        rows = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        write(folder, name, {b"data": rows, b"labels": list(range(10)), b"batch_label": name.encode()})
    return folder


def test_the_official_layout_is_read_channel_first(folder):
    train, test = Cifar10().data("train"), Cifar10().data("test")
    assert train.pixels.shape == (50, 3, 32, 32)
    assert test.labels.tolist() == list(range(10))
    with (folder / "test_batch").open("rb") as file:
        first = pickle.load(file, encoding="bytes")[b"data"][0]  # noqa: S301 (written above)
    assert np.array_equal(test.pixels[0].numpy().ravel(), first)


def test_unofficial_data_is_named_and_its_digest_follows_the_arrays(folder):
    source = Cifar10().source()
    assert not source.official
    assert source.label == f"CIFAR-10 (50 + 10 images, unofficial data {source.digest[:8]})"
    with (folder / "test_batch").open("rb") as file:
        content = pickle.load(file, encoding="bytes")  # noqa: S301 (written above)
    content[b"data"][0, 0] ^= 1
    write(folder, "test_batch", content)
    os.utime(folder / "test_batch", ns=(1, 1))
    assert Cifar10().source().digest != source.digest


def test_the_same_arrays_in_another_pickle_have_the_same_digest(folder):
    digest = Cifar10().source().digest
    for name in NAMES:
        with (folder / name).open("rb") as file:
            content = pickle.load(file, encoding="bytes")  # noqa: S301 (written above)
        write(folder, name, pickle.dumps({k.decode(): v for k, v in content.items()}, protocol=4))
        os.utime(folder / name, ns=(1, 1))
    assert Cifar10().source().digest == digest


def test_files_are_official_by_torchvisions_checksums():
    datasets = pytest.importorskip("torchvision.datasets")
    for layout, theirs in ((cifar.CIFAR10, datasets.CIFAR10), (cifar.CIFAR100, datasets.CIFAR100)):
        assert layout.train == dict(theirs.train_list)
        assert layout.test == dict(theirs.test_list)
        assert layout.folder == theirs.base_folder
        assert layout.archive == theirs.filename


def test_a_missing_folder_says_how_to_prepare_it(tmp_path, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(
        DataError,
        match=r"does not exist. Prepare it with\n  npas-bench download cifar10\n.*curl -L https.*cifar-10-python",
    ):
        Cifar10().source()


def test_a_missing_file_is_named(folder):
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="lacks data_batch_3"):
        Cifar10().source()


class Shell:
    def __reduce__(self):
        return (os.system, ("touch hacked",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"<html>", "damaged"),
        (pickle.dumps({"data": np.zeros((10, 3072), np.uint8)}, protocol=2), "no 'data' and 'labels'"),
        (pickle.dumps({"data": np.zeros((10, 3000), np.uint8), "labels": [0] * 10}), r"images \(10, 3000\)"),
        (pickle.dumps({"data": np.zeros((9, 3072), np.uint8), "labels": [0] * 10}), r"labels \(10,\)"),
        (pickle.dumps({"data": np.zeros((0, 3072), np.uint8), "labels": []}), r"images \(0, 3072\)"),
        (pickle.dumps({"data": np.zeros((10, 3072), np.uint8), "labels": [10] * 10}), "labels run from 10 to 10"),
        (pickle.dumps({"data": np.zeros((10, 3072)), "labels": [0] * 10}), "no array of bytes"),
        (pickle.dumps({"data": Shell(), "labels": [0] * 10}), "names posix.system"),
        (pickle.dumps([1, 2]), "damaged"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused_by_name_and_not_executed(folder, tmp_path, content, message):
    write(folder, "data_batch_2", content)
    with pytest.raises(DataError, match=message) as caught:
        Cifar10().source()
    assert str(folder / "data_batch_2") in str(caught.value)
    assert not (tmp_path / "hacked").exists()


def test_a_truncated_file_is_refused(folder):
    content = (folder / "data_batch_4").read_bytes()
    write(folder, "data_batch_4", content[: len(content) // 2])
    with pytest.raises(DataError, match="data_batch_4 is damaged"):
        Cifar10().source()


def test_the_recipe_is_the_papers_and_short_keeps_its_shape():
    recipes = Cifar10().recipes("wrn-16-2")
    full, short = recipes["default"], recipes["short"]
    assert [round(m * full.epochs) for m in full.milestones] == [60, 120, 160]
    assert (full.batch_size, full.weight_decay, full.learning_rate, full.gamma) == (128, 5e-4, 0.1, 0.2)
    assert short.milestones == full.milestones
    assert short.epochs == 10


def test_cifar100_has_fine_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    for name, count in (("train", 7), ("test", 3)):
        rows = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = {b"fine_labels": list(range(90, 90 + count)), b"coarse_labels": [0] * count}
        write(tmp_path / "cifar-100-python", name, {b"data": rows, **labels})
    assert Cifar100().data("train").labels.tolist() == list(range(90, 97))
    assert Cifar100().data("test").pixels.shape == (3, 3, 32, 32)
    assert Cifar100().source().label.startswith("CIFAR-100 (7 + 3 images, unofficial data")


@pytest.mark.parametrize(
    ("architecture", "batch", "epochs", "falls"),
    [
        ("densenet-bc-190-40", 96, 300, [150, 225]),
        ("resnet-56", 128, 200, [100, 150]),
        ("efficientnet-nd", 128, 100, []),
        ("wrn-28-10", 128, 200, [60, 120, 160]),
    ],
)
def test_every_family_has_its_recipe(architecture, batch, epochs, falls):
    recipe = Cifar100().recipes(architecture)["default"]
    assert (recipe.batch_size, recipe.epochs) == (batch, epochs)
    assert [round(m * epochs) for m in recipe.milestones] == falls


@pytest.mark.slow
def test_the_part_of_cifar100_is_read_and_named(real_data):
    """The first images of the real set: fine labels of all hundred classes."""
    if not (real_data / "cifar-100-python").is_dir():
        pytest.skip("no cifar-100-python in NPAS_BENCH_DATA")
    train, test = Cifar100().data("train"), Cifar100().data("test")
    assert len(train) >= 1_117 and len(test) >= 916
    assert len(train.labels.unique()) == 100
    assert train.labels[:3].tolist() == [19, 29, 0]


@pytest.mark.slow
def test_the_real_images_are_read_and_named(real_data):
    source = Cifar10().source()
    assert len(Cifar10().data("train")) == 50_000
    assert Cifar10().data("test").labels.bincount().tolist() == [1000] * 10
    assert source.official == (source.label == "CIFAR-10")


@pytest.mark.parametrize(
    ("task", "mean", "deviation"),
    [
        # Of the official training images, as fractions of 255: the values that the papers' code divides by.
        (Cifar10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        (Cifar100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ],
)
def test_images_are_normalised_by_the_moments_of_the_training_images(task, mean, deviation):
    assert task.mean == pytest.approx([255 * value for value in mean], abs=0.06)
    assert task.deviation == pytest.approx([255 * value for value in deviation], abs=0.06)


def test_the_real_images_have_the_moments_that_they_are_normalised_by(real_data, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DATA", str(real_data))
    pixels = Cifar10().data("train").pixels.double()
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(Cifar10.mean, abs=1)
    assert pixels.std((0, 2, 3)).tolist() == pytest.approx(Cifar10.deviation, abs=1)
