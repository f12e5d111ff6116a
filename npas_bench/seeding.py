"""Seeds derived from what they depend on, so that adding one source of randomness shifts no other."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from an ordered list of names and numbers, the same on every platform."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """A CPU generator seeded from `parts`; draws are made on the CPU so that every device sees the same."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def seeded(*parts: str | int) -> Iterator[None]:
    """Torch's global generators seeded from `parts` inside the block, and as they were after it.

    Module constructors and dropout draw from the global generators; nothing outside the block may notice.
    """
    initialised = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if initialised else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(*parts))
        yield
