"""Folders of images with whatever names, files and layouts a file system allows."""

import os
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import find_classes, make_dataset

from npas_bench.errors import DataError
from npas_bench.tasks.classification.folder import ImageFolder
from npas_bench.tasks.classification.scanning import IMAGE_ENDINGS

PICTURE = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))


def paint(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    PICTURE.save(path)


@pytest.fixture
def root(tmp_path):
    """A folder with two classes of two images in each split."""
    for split in ("train", "val"):
        for label in ("ape", "bee"):
            for number in range(2):
                paint(f"{tmp_path}/zoo/{split}/{label}/{number}.png")
    return tmp_path / "zoo"


def names(task, split="train"):
    """The images of a split, as paths below it, with their labels."""
    place = Path(task._folder) / ("val" if split == "test" else split)
    return [(os.path.relpath(file.path, place), file.label) for file in task._list().splits[split]]


ORDINARY = [("ape/0.png", 0), ("ape/1.png", 0), ("bee/0.png", 1), ("bee/1.png", 1)]


def test_images_come_in_the_order_that_torchvision_lists_them_in(root):
    """Draws go by an image's number, so that its place must never change."""
    for name in (
        "ape/x/1.png",
        "ape/x-y/1.png",
        "ape/x/z/1.png",
        "ape/x 1/2.PNG",
        "bee/Z.png",
        "bee/10.png",
        "C/é.png",
    ):
        for split in ("train", "val"):
            paint(root / split / name)
    _, numbers = find_classes(root / "train")
    expected = make_dataset(root / "train", numbers, IMAGE_ENDINGS)
    assert [tuple(file) for file in ImageFolder(str(root))._list().splits["train"]] == expected


def test_the_digest_of_an_ordinary_folder_stays_as_it_was(tmp_path):
    """Results are told apart by it; this one was computed when torchvision listed folders."""
    for number, name in enumerate(("train/ape/1.ppm", "train/bée/a/2.ppm", "val/ape/3.ppm", "val/bée/4.ppm")):
        path = tmp_path / "zoo" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"P5 2 1 255\n" + bytes([number, 255]))
    digest = "c2c80956e1c195e06312bea03ccd6493a3142b7b2ba165a2e76ab8cfd0e049de"
    assert ImageFolder(str(tmp_path / "zoo")).source().digest == digest


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/0-checkpoint.png",
        "ape/.ipynb_checkpoints/0-checkpoint.png",
        "ape/._0.png",
        "__MACOSX/ape/0.png",
        "ape/@eaDir/0.png/SYNOPHOTO_THUMB.png",
        "$RECYCLE.BIN/1.png",
        ".git/x.png",
    ],
)
def test_what_is_hidden_or_an_operating_system_s_is_left_out_and_told(root, name, caplog):
    for split in ("train", "val"):
        paint(root / split / name)
    task = ImageFolder(str(root))
    assert names(task) == names(task, "test") == ORDINARY
    assert "1 image or folder is hidden, or an operating system's, and is left out" in caplog.text
    assert len(task.data("train")) == 4


@pytest.mark.parametrize("name", ["Thumbs.db", "ape/Thumbs.db", "ape/.DS_Store", "desktop.ini", ".nomedia"])
def test_files_of_settings_are_left_out_without_a_word(root, name, caplog):
    (root / "train" / name).write_bytes(b"x")
    assert names(ImageFolder(str(root))) == ORDINARY
    assert caplog.text == ""


def test_two_classes_that_look_alike_are_refused_with_what_they_are(root):
    for form in ("NFC", "NFD"):
        paint(root / "train" / unicodedata.normalize(form, "foncé") / "0.png")
    with pytest.raises(DataError, match=r"train/ of .* in their Unicode form alone: '(fonce\\u0301|fonc\\xe9)', '"):
        ImageFolder(str(root)).source()


def test_splits_that_write_a_class_in_two_forms_have_the_same_class(root):
    paint(root / "train" / unicodedata.normalize("NFC", "foncé") / "0.png")
    paint(root / "val" / unicodedata.normalize("NFD", "foncé") / "0.png")
    task = ImageFolder(str(root))
    assert task.signature.classes == 3
    assert [names(task, split)[-1][1] for split in ("train", "test")] == [2, 2]


def test_classes_that_differ_in_case_are_told(root, caplog):
    for split in ("train", "val"):
        paint(root / split / "Ape/0.png")
    if len([*(root / "train").iterdir()]) == 2:
        pytest.skip("this file system ignores case")
    assert ImageFolder(str(root)).signature.classes == 3
    assert "whose names differ in their case alone: Ape, ape" in caplog.text


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("fish", "\ufb01sh", "in variants of letters"),
        ("ape", "\uff41\uff50\uff45", "in variants of letters"),
        ("x2", "x\u00b2", "in variants of letters"),
        ("Fish", "\ufb01sh", "in their case and in variants of letters"),
        ("\u00c9t\u00e9", "\u00e9t\u00e9", "in their case"),
    ],
)
def test_classes_that_look_alike_are_told_with_what_they_differ_in(root, caplog, one, other, how):
    for split in ("train", "val"):
        (root / split / "ape").rename(root / split / "cat")
        for name in (one, other):
            paint(root / split / name / "0.png")
    if len([*(root / "train").iterdir()]) < 4:
        pytest.skip("this file system takes the names for one")
    assert ImageFolder(str(root)).signature.classes == 4
    told = [record.message for record in caplog.records if "whose names differ" in record.message]
    assert len(told) == 1
    assert f"differ {how} " in told[0] and told[0].split(": ")[0].endswith(" alone")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "1 file is no image by its name and is left out"),
        (2, "2 files are no images by their names and are left out"),
    ],
)
def test_one_file_is_told_in_the_singular(root, caplog, number, said):
    for name in range(number):
        (root / "train/ape" / f"{name}.txt").write_text("x")
    assert names(ImageFolder(str(root))) == ORDINARY
    assert f"zoo: {said}: " in caplog.text


def test_a_class_of_another_case_in_the_other_split_is_named_with_its_split(root):
    (root / "val/ape").rename(root / "val/Ape")
    with pytest.raises(DataError, match=r"differ in 2 classes: train/ lacks Ape; val/ lacks ape$"):
        ImageFolder(str(root)).source()


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"\xff\xfe", b"two\nlines", b"tab\t", b"\x1b[31m", b"sp ace", "é🦍".encode()]
)
def test_names_of_any_bytes_are_listed(root, name):
    """A name that is no UTF-8 breaks whatever prints, stores or hashes it; a line break makes two names of one."""
    for split in ("train", "val"):
        paint(root / split / os.fsdecode(name) / os.fsdecode(name + b".png"))
    task = ImageFolder(str(root))
    assert task.signature.classes == 3
    assert len(task.source().digest) == 64
    assert len(task.data("train")) == 5


def test_files_with_such_names_are_named_in_one_line_that_a_database_can_hold(root, caplog):
    for number in range(3000):
        (root / "train/ape" / f"{number + 10}.png").hardlink_to(root / "train/ape/0.png")
    (root / "train/bee" / os.fsdecode(b"caf\xe9\n.png")).write_bytes(b"x")
    train = ImageFolder(str(root)).data("train")
    assert train.unreadable == (f"{root}/train/bee/caf\\xe9\\n.png",)
    assert "caf\\xe9\\n.png; it is left out" in caplog.text


@pytest.mark.parametrize("name", ["caf\udce9", "two\nlines", "nul\0", "\x1b[31m"])
def test_a_folder_whose_name_no_database_holds_is_refused(name):
    with pytest.raises(DataError, match=r"the folder '.*\\.*' has line breaks, control characters or bytes"):
        ImageFolder(name)


def test_a_folder_may_be_called_anything_else(root):
    for name in ("a\xa0b", "c\u3000d", "é 🦍", "[bold]", "a:b"):
        place = root.rename(root.parent / name)
        assert ImageFolder(str(place)).source().label.startswith(name)
        place.rename(root)


def test_an_empty_class_is_named_with_its_split(root):
    for split, label in (("train", "cow"), ("val", "cow")):
        (root / split / label).mkdir()
    paint(root / "val/cow/0.png")
    with pytest.raises(DataError, match=r"train/ of .*zoo has no image in 1 of its class folders: cow"):
        ImageFolder(str(root)).source()


def test_a_split_without_a_class_is_named(root):
    for path in (root / "train").rglob("*.png"):
        path.rename(root / "train" / f"{path.parent.name}{path.name}")
    for label in ("ape", "bee"):
        (root / "train" / label).rmdir()
    with pytest.raises(DataError, match=r"train/ of .*zoo has no folder of a class"):
        ImageFolder(str(root)).source()


def test_images_beside_the_class_folders_are_left_out_and_told(root, caplog):
    paint(root / "train/stray.png")
    assert names(ImageFolder(str(root))) == ORDINARY
    assert f"1 image lies in no class folder and is left out: {root}/train/stray.png" in caplog.text


@pytest.mark.parametrize("train", [True, False])
def test_tiny_imagenet_as_it_is_given_out_has_a_remedy_that_works(root, tmp_path, train):
    wnids = [f"n{number:08}" for number in range(3)]
    tiny = tmp_path / "it's tiny"
    lines = []
    for wnid in wnids:
        for number in range(2):
            if train:
                paint(tiny / "train" / wnid / "images" / f"{wnid}_{number}.JPEG")
            paint(tiny / "val/images" / f"val_{wnid}_{number}.JPEG")
            lines.append(f"val_{wnid}_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (tiny / "val/val_annotations.txt").write_text("".join(lines))
    task = ImageFolder(str(tiny))
    with pytest.raises(DataError, match=r"has its images in val/images/ and not in a folder for each class") as refusal:
        task.source()
    subprocess.run(["bash", "-c", str(refusal.value).partition("\n")[2]], check=True, cwd=tmp_path)
    assert [label for _, label in names(task, "test")] == [0, 0, 1, 1, 2, 2]
    assert task.signature.classes == 3


def test_a_split_in_one_folder_without_a_list_of_classes_says_how_it_should_be(root):
    (root / "val/ape").rename(root / "val/images")
    for path in (root / "val/bee").iterdir():
        path.unlink()
    (root / "val/bee").rmdir()
    with pytest.raises(DataError, match=r"has its images in val/images/ .*: sort them into val/CLASS/$"):
        ImageFolder(str(root)).source()


@pytest.mark.parametrize("link", ["ape/again", "ape/deep/er/again", "cow"])
def test_a_link_to_a_folder_above_it_is_refused_by_name(root, link):
    """It would be followed forty times, and every image counted so often."""
    place = root / "train" / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(root / "train")
    with pytest.raises(DataError, match=rf"train/{link}.* is a link to a folder that it lies in itself: remove it"):
        ImageFolder(str(root)).source()


def test_a_link_to_itself_is_no_class(root, caplog):
    (root / "train/ape/loop.png").symlink_to("loop.png")
    (root / "train/cow").symlink_to("cow")
    found = names(ImageFolder(str(root)))
    assert ("ape/loop.png", 0) in found and len(found) == 5
    assert f"left out: {root}/train/cow" in caplog.text


def test_links_to_folders_elsewhere_are_followed(root, tmp_path):
    (root / "train/ape").rename(tmp_path / "apes")
    (root / "train/ape").symlink_to(tmp_path / "apes")
    assert names(ImageFolder(str(root))) == ORDINARY


def test_what_is_no_file_is_never_opened(root, caplog):
    """Reading a FIFO would wait for ever."""
    os.mkfifo(root / "train/ape/pipe.png")
    os.mkfifo(root / "train/pipe")
    assert names(ImageFolder(str(root))) == ORDINARY
    ImageFolder(str(root)).data("train")
    assert f"1 image by its name is no file and is left out: {root}/train/ape/pipe.png" in caplog.text


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    """Its images would be missing without a word otherwise."""
    closed, scan = root / "train/bee", os.scandir

    def scandir(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"Permission denied: .*train/bee"):
        ImageFolder(str(root)).source()
