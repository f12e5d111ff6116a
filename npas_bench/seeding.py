"""Seeds that are derived from what they depend on, so that a new source of randomness changes no other."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def derive_seed(*parts: str | int) -> int:
    """The 63-bit seed that belongs to a list of names and numbers in their order, the same on every platform."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """A generator seeded from `parts`. It is on the CPU, so that what is drawn is the same for every device."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def seeded(*parts: str | int) -> Iterator[None]:
    """A context in which torch's global generators are seeded from `parts`; afterwards they are as they were before.

    Module constructors and dropout draw from the global generators, and nothing outside the context may notice.
    """
    initialised = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if initialised else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(*parts))
        yield
