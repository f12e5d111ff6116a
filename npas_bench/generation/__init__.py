"""The parts that methods generate weights with: stores, mixing, upsampling, initial values."""

from npas_bench.generation.initialisation import Stretch, fill_store
from npas_bench.generation.mixing import RoundRobin, mix_templates, template_mean
from npas_bench.generation.upsampling import (
    Image,
    interpolate,
    interpolation_source,
    masked_tiles,
    repeat_tiles,
)

__all__ = [
    "Image",
    "RoundRobin",
    "Stretch",
    "fill_store",
    "interpolate",
    "interpolation_source",
    "masked_tiles",
    "mix_templates",
    "repeat_tiles",
    "template_mean",
]
