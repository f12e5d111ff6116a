"""Images that keep 16 bits a channel, as images of 8.

Pillow hands on all bits of greyscale. Of several channels it keeps the upper 8 bits without a word, so that an image
that uses little of its range becomes one flat colour.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npas_bench.errors import DataError
from npas_bench.tasks.classification.names import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageFile

# Formats that keep greyscale of 16 bits in integers of 32.
_WIDE = ("PNG", "PPM")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
# Pillow's names for channels of 16 bits of which it keeps the upper half, and those of which it keeps the lower one.
_SWAPPED = "B" if sys.byteorder == "little" else "L"
_LOWER = {"L": "B", "B": "L", "N": _SWAPPED}
# Grey and alpha, of which Pillow has no lower half; as channels of 8 bits, all four bytes are kept.
_GREY_ALPHA, _FOUR_BYTES = "LA;16B", "RGBA"


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Tell whether the file of an image, which was opened and not yet loaded, keeps more than 8 bits a channel."""
    if is_deep_grey(image):
        return True
    if image.format == "TIFF":
        return _said_bits(image, 8) > 8
    if image.format == "PPM":
        return _largest_of_ppm(image) > 255
    return image.format == "PNG" and ";16" in _raw_mode(image)


def is_deep_grey(image: Image.Image) -> bool:
    """Tell whether an image is one of greyscale that Pillow opens with all of its 16 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in _WIDE)


def scaled(image: ImageFile.ImageFile, path: str) -> Image.Image:
    """An image of more than 8 bits a channel in 8, with an alpha channel if the file has transparency.

    Raises:
        DataError: if the image uses so little of its range that one flat colour would be left.
    """
    return _scaled_grey(image, path) if is_deep_grey(image) else _upper_half(image, path)


def _scaled_grey(image: ImageFile.ImageFile, path: str) -> Image.Image:
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    largest = 2 ** _said_bits(image, 16) - 1
    light = largest - values if _is_negative(image) else values
    found = Image.fromarray(((light * 255 + largest // 2) // largest).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        found.putalpha(_alpha(values != image.info["transparency"]))
    if _is_flat(np.asarray(found)) and not _is_flat(values):
        raise DataError(
            f"{shown(path)} has values from {values.min()} to {values.max()} of {largest}, which are one flat colour "
            "in 8 bits: stretch them over the whole range"
        )
    return found


def _upper_half(image: ImageFile.ImageFile, path: str) -> Image.Image:
    from PIL import Image

    found: Image.Image = image
    clear = image.info.get("transparency")
    values = None if clear is None else _all_bits(path)
    if values is not None:
        # Pillow compares what is left of the colours with a colour of 16 bits.
        found = Image.fromarray(np.asarray(image))
        found.putalpha(_alpha((values != np.array(clear)).any(axis=2)))
    if _is_flat(np.asarray(found)):
        values = _all_bits(path)
        if values is not None and not _is_flat(values):
            raise DataError(
                f"{shown(path)} has 16 bits a channel, whose values differ by too little to be seen in 8 bits, where "
                "they are one flat colour: stretch them over the whole range"
            )
    return found


def _alpha(opaque: NDArray[np.bool_]) -> Image.Image:
    from PIL import Image

    return Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8))


def _is_flat(values: NDArray[np.generic]) -> bool:
    """Tell whether all pixels of an image, (height, width) or (height, width, channels), are equal."""
    return bool((values == values[0, 0]).all())


def _is_negative(image: Image.Image) -> bool:
    """Tell whether zero is white, which Pillow heeds in images of up to 8 bits alone."""
    return bool(getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _said_bits(image: Image.Image, otherwise: int) -> int:
    """How many bits of a channel a TIFF says that it uses; scanners and cameras write greyscale of 12."""
    said = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (otherwise,))
    return int(said[0] if isinstance(said, tuple) else said)


def _largest_of_ppm(image: ImageFile.ImageFile) -> int:
    said = image.tile[0][3]
    return said[1] if isinstance(said, tuple) and len(said) == 2 else 255


def _raw_mode(image: ImageFile.ImageFile) -> str:
    said = image.tile[0][3] if image.tile else ""
    return str(said[0] if isinstance(said, tuple) else said)


def _all_bits(path: str) -> NDArray[np.int64] | None:
    """All bits of a file of several channels, (height, width, channels); None if its layout is not known."""
    from PIL import Image

    with Image.open(path) as upper, Image.open(path) as lower:
        if upper.format == "PPM":
            return _values_of_ppm(upper, path)
        raw = _raw_mode(upper)
        if raw == _GREY_ALPHA:
            _read_as(lower, _FOUR_BYTES)
            four = np.asarray(lower).astype(np.int64)
            return four[..., 0::2] * 256 + four[..., 1::2]
        channels, _, order = raw.replace("RGBa", "RGBA").partition(";16")
        if order not in _LOWER:
            return None
        _read_as(upper, f"{channels};16{order}")
        _read_as(lower, f"{channels};16{_LOWER[order]}")
        return np.asarray(upper).astype(np.int64) * 256 + np.asarray(lower).astype(np.int64)


def _read_as(image: ImageFile.ImageFile, raw: str) -> None:
    """Let Pillow take the bytes of an image that is not yet loaded for those of another mode."""
    tiles: list[Any] = []
    for tile in image.tile:
        said = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
        # A plain tuple before Pillow 11, and one with names since.
        make = getattr(type(tile), "_make", tuple)
        tiles.append(make((*tile[:3], said)))
    image.tile = tiles


def _values_of_ppm(image: ImageFile.ImageFile, path: str) -> NDArray[np.int64]:
    codec, _, start, _ = image.tile[0]
    body = Path(path).read_bytes()[start:]
    count = image.width * image.height * 3
    if codec == "ppm_plain":
        words = re.sub(rb"#[^\r\n]*", b"", body).split()[:count]
        numbers = np.array(words).astype(np.int64)
    else:
        numbers = np.frombuffer(body, ">u2", count).astype(np.int64)
    return numbers.reshape(image.height, image.width, 3)
