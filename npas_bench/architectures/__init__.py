"""Architectures: network families whose members methods give weights to."""

from npas_bench.architectures.base import Architecture, Family, Signature

__all__ = ["Architecture", "Family", "Signature"]
