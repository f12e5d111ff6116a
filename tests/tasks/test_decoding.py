"""Images of every mode: what decoding keeps, what it changes and says, and what it refuses by name."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from npas_bench.errors import DataError
from npas_bench.tasks.classification.decoding import BEHIND, Alteration, decode
from npas_bench.tasks.classification.folder import ImageFolder

SIDE = 16
RAMP = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)
HALF = np.where(np.arange(SIDE) < SIDE // 2, 255, 0).astype(np.uint8)[None].repeat(SIDE, 0)


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return str(path)


def pixels(path):
    return np.asarray(decode(path).image)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_images_are_what_pillow_says_bit_for_bit(tmp_path, mode, ending):
    path = save(Image.fromarray(COLOURS).convert(mode), tmp_path / f"x.{ending}")
    found = decode(path)
    with Image.open(path) as file:
        assert np.array_equal(np.asarray(found.image), np.asarray(file.convert("RGB")))
    assert (found.image.mode, found.changes) == ("RGB", ())


@pytest.mark.parametrize(("mode", "ending"), [("1", "png"), ("P", "png"), ("CMYK", "jpg"), ("CMYK", "tif")])
def test_modes_without_a_question_are_converted(tmp_path, mode, ending):
    path = save(Image.fromarray(COLOURS).convert(mode), tmp_path / f"x.{ending}")
    found = decode(path)
    assert (len(np.unique(np.asarray(found.image))) > 1, found.changes) == (True, ())


def deep(values, order="<"):
    return Image.fromarray(values.astype(f"{order}u2"))


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, ending):
    path = save(deep(RAMP.astype(np.uint32) * 257), tmp_path / f"x.{ending}")
    found = decode(path)
    assert np.array_equal(np.asarray(found.image), RAMP[:, :, None].repeat(3, 2))
    assert found.changes == (Alteration.depth,)


def test_sixteen_bits_are_rounded_to_the_nearest(tmp_path):
    values = np.array([[0, 128, 129, 385, 386, 65535]])
    path = save(deep(values), tmp_path / "x.png")
    assert pixels(path)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 255]


def test_a_tiff_of_twelve_bits_is_scaled_by_twelve(tmp_path):
    """Written by hand, since Pillow reads such files and writes none."""
    values = RAMP.astype(np.uint32) * 4095 // 255
    packed = int("".join(f"{value:012b}" for value in values.flat), 2).to_bytes(SIDE * SIDE * 12 // 8, "big")
    # Width, height, bits, no compression, black is zero, offset, one sample, rows, bytes.
    entries = [(256, SIDE), (257, SIDE), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, SIDE)]
    entries.append((279, len(packed)))
    directory = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in entries)
    path = tmp_path / "x.tif"
    start = struct.pack("<2sHL", b"II", 42, 8 + len(packed))
    path.write_bytes(start + packed + struct.pack("<H", len(entries)) + directory + bytes(4))
    assert np.array_equal(pixels(path)[:, :, 0], RAMP)


def test_sixteen_bits_of_which_none_would_be_seen_are_refused(tmp_path):
    path = save(deep(RAMP % 100), tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x.png has values from 0 to 99 of 65535, which are one flat colour"):
        decode(path)
    # A picture that is flat itself is what it is.
    assert (pixels(save(deep(np.full((SIDE, SIDE), 300)), tmp_path / "flat.png")) == 1).all()


def png(path, kind, values, clear=()):
    """A PNG of 16 bits written by hand, since of such files Pillow writes greyscale alone.

    Args:
        path: where to.
        kind: the number that PNG gives to grey (0), RGB (2), grey and alpha (4), or RGBA (6).
        values: (height, width) or (height, width, channels).
        clear: the colour that is transparent, if there is one.
    """

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    transparency = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) if clear else b""
    chunks = chunk(b"IHDR", header) + transparency + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return str(path)


def ppm(path, values, largest=65535, plain=False):
    """A PPM of 16 bits, in bytes or in digits."""
    body = " ".join(map(str, values.flat)).encode() + b" # end\n" if plain else values.astype(">u2").tobytes()
    path.write_bytes(f"P{3 if plain else 6} {SIDE} {SIDE} {largest}\n".encode() + body)
    return str(path)


def tiff(path, values, order="<", interpretation=2):
    """A TIFF of 16 bits without compression, of one or more channels, in either order of bytes."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    body = values.astype(f"{order}u2").tobytes()
    bits_at = 8 + len(body)
    # Width, height, bits, no compression, interpretation, offset, channels, rows, bytes.
    entries = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, channels, bits_at if channels > 2 else 16)]
    entries += [(259, 3, 1, 1), (262, 3, 1, interpretation), (273, 4, 1, 8), (277, 3, 1, channels)]
    entries += [(278, 4, 1, SIDE), (279, 4, 1, len(body))]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        directory += struct.pack(
            f"{order}HHL{'HH' if short else 'L'}", tag, kind, count, *((value, 0) if short else (value,))
        )
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    start = struct.pack(f"{order}2sHL", b"II" if order == "<" else b"MM", 42, bits_at + len(bits))
    path.write_bytes(start + body + bits + directory + bytes(4))
    return str(path)


def packed_tiff(path, values):
    """A TIFF that libtiff reads, which hands on the bytes in the order of the machine."""
    with Image.open(tiff(path, values)) as file:
        plain = file.tag_v2
        offset, count = plain[273][0], plain[279][0]
    content = path.read_bytes()
    body = zlib.compress(content[offset : offset + count])
    changed = content.replace(struct.pack("<HHLHH", 259, 3, 1, 1, 0), struct.pack("<HHLHH", 259, 3, 1, 8, 0))
    changed = changed.replace(struct.pack("<HHLL", 279, 4, 1, count), struct.pack("<HHLL", 279, 4, 1, len(body)))
    path.write_bytes(changed[:offset] + body.ljust(count, b"\0") + changed[offset + count :])
    return str(path)


WIDE = RAMP.astype(np.int64) * 257
OPAQUE = np.full((SIDE, SIDE), 65535)
COLOUR_FILES = {
    "RGB PNG": lambda place, grey: png(place / "x.png", 2, np.stack([grey] * 3, 2)),
    "RGBA PNG": lambda place, grey: png(place / "x.png", 6, np.stack([grey] * 3 + [OPAQUE], 2)),
    "grey and alpha PNG": lambda place, grey: png(place / "x.png", 4, np.stack([grey, OPAQUE], 2)),
    "PPM": lambda place, grey: ppm(place / "x.ppm", np.stack([grey] * 3, 2)),
    "PPM in digits": lambda place, grey: ppm(place / "x.ppm", np.stack([grey] * 3, 2), plain=True),
    "TIFF": lambda place, grey: tiff(place / "x.tif", np.stack([grey] * 3, 2)),
    "TIFF, upper byte first": lambda place, grey: tiff(place / "x.tif", np.stack([grey] * 3, 2), ">"),
    "TIFF, packed": lambda place, grey: packed_tiff(place / "x.tif", np.stack([grey] * 3, 2)),
    "RGBA TIFF": lambda place, grey: tiff(place / "x.tif", np.stack([grey] * 3 + [OPAQUE], 2)),
    "CMYK TIFF": lambda place, grey: tiff(place / "x.tif", np.stack([grey] * 4, 2), interpretation=5),
}


@pytest.mark.parametrize("kind", COLOUR_FILES)
def test_channels_of_sixteen_bits_stay_what_pillow_makes_of_them_and_are_told(tmp_path, kind):
    path = COLOUR_FILES[kind](tmp_path, WIDE)
    found = decode(path)
    with Image.open(path) as file:
        assert np.array_equal(np.asarray(found.image), np.asarray(file.convert("RGB")))
        alpha = file.mode == "RGBA"
    assert len(np.unique(np.asarray(found.image))) > SIDE
    assert found.changes == ((Alteration.depth, Alteration.transparency) if alpha else (Alteration.depth,))


@pytest.mark.parametrize("kind", COLOUR_FILES)
def test_channels_of_sixteen_bits_of_which_none_would_be_seen_are_refused(tmp_path, kind):
    path = COLOUR_FILES[kind](tmp_path, RAMP.astype(np.int64) % 100)
    with pytest.raises(DataError, match=r"x\.\w+ has 16 bits a channel, whose values differ by too little to be seen"):
        decode(path)
    # A picture that is flat itself is what it is.
    flat = decode(COLOUR_FILES[kind](tmp_path, np.full((SIDE, SIDE), 300)))
    assert len(np.unique(np.asarray(flat.image).reshape(-1, 3), axis=0)) == 1
    assert Alteration.depth in flat.changes


def test_a_shape_in_the_lower_bits_of_the_transparency_alone_is_refused(tmp_path):
    alpha = np.where(HALF > 0, 200, 0)
    for kind, channels in ((4, 1), (6, 3)):
        path = png(tmp_path / "x.png", kind, np.stack([OPAQUE] * channels + [alpha], 2))
        with pytest.raises(DataError, match=r"x.png has 16 bits a channel"):
            decode(path)


def test_a_ppm_is_of_sixteen_bits_if_its_largest_value_needs_more_than_eight(tmp_path):
    colours = COLOURS.astype(np.int64)
    with pytest.raises(DataError, match=r"x.ppm has 16 bits a channel"):
        decode(ppm(tmp_path / "x.ppm", colours // 128, 1000))
    assert decode(ppm(tmp_path / "x.ppm", colours, 256)).changes == (Alteration.depth,)
    (tmp_path / "y.ppm").write_bytes(f"P6 {SIDE} {SIDE} 255\n".encode() + COLOURS.tobytes())
    assert decode(str(tmp_path / "y.ppm")).changes == ()


@pytest.mark.parametrize("clear", [0, 7, 40_000, 65_535])
def test_a_grey_of_sixteen_bits_that_is_transparent_is_laid_over(tmp_path, clear):
    """Its neighbour, which is equal in 8 bits, stays."""
    near = clear - 1 if clear else 1
    grey = np.where(HALF > 0, clear, near)
    found = decode(png(tmp_path / "x.png", 0, grey, (clear,)))
    seen = np.asarray(found.image)
    assert seen[0, 0].tolist() == [*BEHIND]
    assert seen[0, -1].tolist() == [(near * 255 + 32767) // 65535] * 3
    assert found.changes == (Alteration.depth, Alteration.transparency)


def test_grey_of_sixteen_bits_where_nothing_has_the_transparent_grey_stays_as_it_is(tmp_path):
    assert np.array_equal(pixels(png(tmp_path / "x.png", 0, WIDE, (5,)))[:, :, 0], RAMP)
    with pytest.raises(DataError, match=r"x.png has values from 0 to 99 of 65535"):
        decode(png(tmp_path / "x.png", 0, RAMP % 100, (300,)))


@pytest.mark.parametrize("clear", [(0, 0, 0), (40_000, 300, 65_535)])
def test_a_colour_of_sixteen_bits_that_is_transparent_is_laid_over(tmp_path, clear):
    """Its neighbour, which is equal in 8 bits, stays."""
    near = np.array([clear[0] + 1, *clear[1:]])
    colours = np.where(HALF[:, :, None] > 0, np.array(clear), near)
    found = decode(png(tmp_path / "x.png", 2, colours, clear))
    seen = np.asarray(found.image)
    assert seen[0, 0].tolist() == [*BEHIND]
    assert seen[0, -1].tolist() == [value >> 8 for value in clear]
    assert found.changes == (Alteration.depth, Alteration.transparency)


def test_a_tiff_of_sixteen_bits_whose_zero_is_white_is_no_negative(tmp_path):
    light, dark = (tiff(tmp_path / f"{zero}.tif", WIDE, interpretation=zero) for zero in (0, 1))
    assert np.array_equal(pixels(light)[:, :, 0], 255 - RAMP)
    assert np.array_equal(pixels(dark)[:, :, 0], RAMP)
    with pytest.raises(DataError, match=r"x.tif has values from 0 to 99 of 65535"):
        decode(tiff(tmp_path / "x.tif", RAMP % 100, interpretation=0))


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_shape_that_is_in_the_transparency_alone_is_seen(tmp_path, mode, value):
    """A black icon and a white one, whose colour channels are flat."""
    grey = np.full((SIDE, SIDE), value, np.uint8)
    channels = [grey, HALF] if mode == "LA" else [grey, grey, grey, HALF]
    path = save(Image.fromarray(np.stack(channels, 2), mode), tmp_path / "x.png")
    found = decode(path)
    seen = np.asarray(found.image)
    assert seen[0, 0].tolist() == [value] * 3
    assert seen[0, -1].tolist() == [*BEHIND]
    assert found.changes == (Alteration.transparency,)


def test_half_transparent_is_half_way(tmp_path):
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 128))
    assert np.abs(pixels(save(image, tmp_path / "x.png"))[0, 0] - np.array(BEHIND) / 2).max() <= 1


def test_where_nothing_is_transparent_colours_stay_bit_for_bit(tmp_path):
    opaque = np.concatenate([COLOURS, np.full((SIDE, SIDE, 1), 255, np.uint8)], 2)
    assert np.array_equal(pixels(save(Image.fromarray(opaque), tmp_path / "x.png")), COLOURS)


def test_transparency_of_palettes_and_of_one_colour_counts(tmp_path):
    palette = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    found = decode(save(palette, tmp_path / "p.png", transparency=3))
    chosen = np.asarray(palette) == 3
    assert chosen.any() and (np.asarray(found.image)[chosen] == BEHIND).all()
    for mode, colour in (("RGB", (1, 2, 3)), ("L", 7)):
        path = save(Image.new(mode, (SIDE, SIDE), colour), tmp_path / f"{mode}.png", transparency=colour)
        assert (pixels(path) == BEHIND).all()
        assert decode(path).changes == (Alteration.transparency,)


@pytest.mark.parametrize(
    ("image", "name", "mode"),
    [
        (Image.fromarray(RAMP.astype(np.float32)), "x.tif", "F"),
        (Image.fromarray(RAMP.astype(np.int32) * 1000), "x.tif", "I"),
        (Image.merge("LAB", [Image.fromarray(RAMP)] * 3), "x.tif", "LAB"),
    ],
    ids=["floats", "32 bits", "LAB"],
)
def test_values_of_an_unknown_range_are_refused_by_their_mode(tmp_path, image, name, mode):
    path = save(image, tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} is of mode {mode}, of whose values the range is not known"):
        decode(path)


def test_of_several_frames_the_first_is_read_and_told(tmp_path):
    frames = [Image.fromarray(np.roll(COLOURS, step, 0)) for step in range(3)]
    for name in ("x.png", "x.tif", "x.webp"):
        path = save(frames[0], tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True}))
        found = decode(path)
        assert found.changes == (Alteration.frames,)
        assert np.array_equal(np.asarray(found.image), COLOURS)
    # By its name alone a GIF is no image, but some are called otherwise.
    path = save(frames[0], tmp_path / "gif.png", format="GIF", save_all=True, append_images=frames[1:])
    assert Alteration.frames in decode(path).changes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_lies_on_its_side_is_read_so_and_told(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(COLOURS), tmp_path / "x.png", exif=exif)
    found = decode(path)
    assert np.array_equal(np.asarray(found.image), COLOURS)
    assert found.changes == (() if orientation == 1 else (Alteration.orientation,))


def folder(root, image, each=2):
    for split in ("train", "val"):
        for label in ("ape", "bee"):
            for number in range(each):
                save(image, root / "zoo" / split / label / f"{number}.{'tif' if image.mode == 'F' else 'png'}")
    return ImageFolder(str(root / "zoo"))


@pytest.mark.parametrize("side", [SIDE, 90])
def test_a_data_set_says_once_what_it_changes(tmp_path, side, caplog):
    icon = Image.fromarray(np.stack([HALF * 0, HALF], 2), "LA").resize((side, side))
    data = folder(tmp_path, icon).data("test")
    batches = [batch.pixels for batch in data.batches(torch.arange(4).split(2))]
    assert torch.cat(batches).std() > 0.1
    told = [record.message for record in caplog.records if "transparency" in record.message]
    assert len(told) == 1
    assert f"{Alteration.transparency.value}, such as {tmp_path}/zoo/val/ape/" in told[0]


@pytest.mark.parametrize("side", [SIDE, 90])
def test_a_data_set_of_floats_is_refused_before_anything_is_trained(tmp_path, side):
    floats = Image.fromarray(np.resize(RAMP, (side, side)).astype(np.float32))
    with pytest.raises(DataError, match=r"task image-folder:.*0.tif is of mode F"):
        folder(tmp_path, floats).source()


@pytest.mark.parametrize("side", [SIDE, 90])
def test_one_image_that_is_refused_is_named_wherever_it_lies(tmp_path, side, monkeypatch):
    """As where a sample of a large data set misses it; it is refused, however few there are of it."""
    task = folder(tmp_path, Image.fromarray(np.resize(COLOURS, (side, side, 3))))
    save(deep(np.resize(RAMP % 100, (side, side))), tmp_path / "zoo/val/bee/1.png")
    with pytest.raises(DataError, match=r"task image-folder:.*val/bee/1.png has values from 0 to 99"):
        list(task.data("test").batches(torch.arange(4).split(2)))


def test_a_picture_that_is_cut_off_is_no_picture(tmp_path):
    path = tmp_path / "x.jpg"
    save(Image.fromarray(COLOURS).resize((200, 200)), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OSError, match="truncated"):
        decode(str(path))
