"""Architectures: network families whose members methods give weights to."""

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
