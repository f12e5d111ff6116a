"""Architectures: families of networks, whose layers' weights methods generate."""

from npas_bench.architectures.base import Architecture, Family
from npas_bench.architectures.signatures import (
    GroundingSignature,
    ImageSignature,
    PairSignature,
    Signature,
    TextSignature,
)

__all__ = [
    "Architecture",
    "Family",
    "GroundingSignature",
    "ImageSignature",
    "PairSignature",
    "Signature",
    "TextSignature",
]
