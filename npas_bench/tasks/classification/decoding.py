"""How a file becomes an image of three channels of 8 bits, and what is changed or refused on the way.

- Images of one or three channels of 8 bits, of one bit, with a palette, or in CMYK are converted as Pillow does.
- 16 bits of a channel are scaled to 8 by the whole range: 65,535 (or what the file calls its largest) becomes 255.
- Transparency is laid over `BEHIND`, on which black and white shapes are both seen. To a network it is zero, as what
  crops and cutouts leave is.
- Of several frames or pages, the first is read.
- An EXIF orientation is not applied, as torchvision does not either: the pixels are read as they are stored.
- Everything else, such as floats or 32-bit integers, has no range that is known, and is refused by its mode.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from npas_bench.errors import DataError
from npas_bench.tasks.classification.names import shown

if TYPE_CHECKING:
    from PIL import Image

# The mean colour of ImageNet's training split.
BEHIND = (124, 116, 104)
_AS_PILLOW_DOES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
_WITH_ALPHA = ("LA", "PA", "RGBA", "RGBa")
# Formats that keep greyscale of 16 bits in integers of 32.
_WIDE = ("PNG", "PPM")
_ANIMATED = ("GIF", "PNG", "TIFF", "WEBP")
_BITS_PER_SAMPLE, _ORIENTATION, _UPRIGHT = 258, 0x0112, 1


class Alteration(Enum):
    """What decoding does to an image beyond the usual; the value says so of all images of the kind."""

    depth = "images of 16 bits a channel are scaled to 8 bits"
    transparency = f"images with transparency are laid over the colour {BEHIND}"
    frames = "of images with several frames or pages the first one is read"
    orientation = "images with an EXIF orientation are read as they are stored, without being turned"


class Decoded(NamedTuple):
    """An image in RGB, and what was changed to make it so."""

    image: Image.Image
    changes: tuple[Alteration, ...]


def decode(path: str) -> Decoded:
    """Read an image.

    Raises:
        DataError: if nothing is known about the range of its values; the message names the mode.
        Exception: whatever the decoder raises if the file is damaged.
    """
    from PIL import Image

    with Image.open(path) as file:
        refusal = refused(file)
        if refusal is not None:
            raise DataError(f"{shown(path)} {refusal}")
        changes = []
        if _is_deep(file):
            changes.append(Alteration.depth)
            image = _scaled(file, path).convert("RGB")
        elif file.has_transparency_data:
            changes.append(Alteration.transparency)
            image = _laid_over(file.convert("RGBA"))
        else:
            image = file.convert("RGB")
        if file.format in _ANIMATED and getattr(file, "is_animated", False):
            changes.append(Alteration.frames)
        if file.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT:
            changes.append(Alteration.orientation)
    return Decoded(image, tuple(changes))


def refused(image: Image.Image) -> str | None:
    """Why an image that was opened cannot be decoded, as what follows its name; None if it can."""
    if image.mode in _AS_PILLOW_DOES or image.mode in _WITH_ALPHA or _is_deep(image):
        return None
    return (
        f"is of mode {image.mode}, of whose values the range is not known: convert it to 8 or 16 bits without a sign, "
        "in greyscale or RGB"
    )


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in _WIDE)


def _scaled(image: Image.Image, path: str) -> Image.Image:
    """Greyscale of 16 bits as greyscale of 8.

    Raises:
        DataError: if the image uses so little of its range that one flat colour would be left.
    """
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    largest = 2 ** _bits(image) - 1
    pixels = ((values * 255 + largest // 2) // largest).clip(0, 255).astype(np.uint8)
    if values.min() < values.max() and pixels.min() == pixels.max():
        raise DataError(
            f"{shown(path)} has values from {values.min()} to {values.max()} of {largest}, which are one flat colour "
            "in 8 bits: stretch them over the whole range"
        )
    return Image.fromarray(pixels)


def _bits(image: Image.Image) -> int:
    """How many bits of a channel's 16 a file says that it uses; scanners and cameras write TIFF of 12."""
    said = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return int(said[0] if isinstance(said, tuple) else said)


def _laid_over(image: Image.Image) -> Image.Image:
    from PIL import Image

    behind = Image.new("RGBA", image.size, (*BEHIND, 255))
    return Image.alpha_composite(behind, image).convert("RGB")
