"""How a file becomes an image of three channels of 8 bits, and what is changed or refused on the way.

- Images of one or three channels of 8 bits, of one bit, with a palette, or in CMYK are converted as Pillow does.
- Greyscale of 16 bits is scaled to 8 by the whole range: 65,535 (or what the file calls its largest) becomes 255. Of
  several channels of 16 bits, Pillow keeps the upper 8. What would be one flat colour in 8 bits alone is refused.
- Transparency is laid over `BEHIND`, on which black and white shapes are both seen. To a network it is zero, as what
  crops and cutouts leave is.
- Of several frames or pages, the first is read.
- An EXIF orientation is not applied, as torchvision does not either: the pixels are read as they are stored.
- Everything else, such as floats or 32-bit integers, has no range that is known, and is refused by its mode.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.errors import DataError
from npas_bench.tasks.classification.depth import is_deep, is_deep_grey, scaled
from npas_bench.tasks.classification.names import shown

if TYPE_CHECKING:
    from PIL import Image

# The mean colour of ImageNet's training split.
BEHIND = (124, 116, 104)
_AS_PILLOW_DOES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
_WITH_ALPHA = ("LA", "PA", "RGBA", "RGBa")
_ANIMATED = ("GIF", "PNG", "TIFF", "WEBP")
_ORIENTATION, _UPRIGHT = 0x0112, 1


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
        DataError: if nothing is known about the range of its values, whose mode the message names; or if an image of
            16 bits a channel would be one flat colour in 8.
        Exception: whatever the decoder raises if the file is damaged.
    """
    from PIL import Image

    with Image.open(path) as file:
        refusal = refused(file)
        if refusal is not None:
            raise DataError(f"{shown(path)} {refusal}")
        changes = []
        image: Image.Image = file
        transparent = file.has_transparency_data
        if is_deep(file):
            changes.append(Alteration.depth)
            image = scaled(file, path)
        if transparent:
            changes.append(Alteration.transparency)
            image = _laid_over(image.convert("RGBA"))
        else:
            image = image.convert("RGB")
        if file.format in _ANIMATED and getattr(file, "is_animated", False):
            changes.append(Alteration.frames)
        if file.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT:
            changes.append(Alteration.orientation)
    return Decoded(image, tuple(changes))


def refused(image: Image.Image) -> str | None:
    """Why an image that was opened cannot be decoded, as what follows its name; None if it can."""
    if image.mode in _AS_PILLOW_DOES or image.mode in _WITH_ALPHA or is_deep_grey(image):
        return None
    return (
        f"is of mode {image.mode}, of whose values the range is not known: convert it to 8 or 16 bits without a sign, "
        "in greyscale or RGB"
    )


def _laid_over(image: Image.Image) -> Image.Image:
    from PIL import Image

    behind = Image.new("RGBA", image.size, (*BEHIND, 255))
    return Image.alpha_composite(behind, image).convert("RGB")
