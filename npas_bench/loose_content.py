"""What tensors hold, beside what is counted, as numbers of scalars and digests of their values."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from npas_bench.torch_internals import storage_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


class LooseValue(NamedTuple):
    """Numbers in one place outside of parameters and buffers.

    Attributes:
        scalars: how many numbers there are; a complex number counts as two.
        digest: a digest of their values.
    """

    scalars: int
    digest: bytes


def digest_of(content: bytes) -> bytes:
    """A short digest."""
    return hashlib.blake2b(content, digest_size=16).digest()


def registered_bytes(tensors: Iterable[Tensor]) -> dict[int, list[tuple[int, int]]]:
    """The ranges of bytes, sorted, that tensors take of each storage."""
    found: dict[int, list[tuple[int, int]]] = {}
    for tensor in tensors:
        if tensor.layout is torch.strided and not tensor.is_nested:
            found.setdefault(storage_key(tensor), []).append(_bytes_of(tensor))
    return {storage: sorted(ranges) for storage, ranges in found.items()}


def _reach(tensor: Tensor) -> int:
    """How many elements of its storage lie from a tensor's first element to its last."""
    if not tensor.numel():
        return 0
    return 1 + int(sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)))


def _bytes_of(tensor: Tensor) -> tuple[int, int]:
    first, size = int(tensor.storage_offset()), tensor.element_size()
    return first * size, (first + _reach(tensor)) * size


def _in_storage(tensor: Tensor) -> Tensor:
    """All elements of its storage from a tensor's first one to its last, as they lie there."""
    return tensor.detach().as_strided((_reach(tensor),), (1,))


def bytes_beside(tensor: Tensor, counted: list[tuple[int, int]]) -> list[Tensor]:
    """The bytes of a tensor's part of its storage that lie in none of some ranges."""
    begin, end = _bytes_of(tensor)
    at, gaps = begin, []
    for first, last in counted:
        if first > at:
            gaps.append((at, min(first, end)))
        at = max(at, last)
        if at >= end:
            break
    if at < end:
        gaps.append((at, end))
    if not gaps:
        return []
    content = _in_storage(tensor).view(torch.uint8)
    return [content[first - begin : last - begin] for first, last in gaps if first < last]


def content_of(tensor: Tensor) -> list[Tensor]:
    """What a tensor holds, as tensors of numbers: the last one has its values, those before say where these are."""
    tensor = tensor.detach()
    if tensor.is_nested:
        return [tensor.values()]
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    # An expanded tensor may have more elements than there is memory.
    if tensor.layout is torch.strided and _reach(tensor) < tensor.numel():
        return [_in_storage(tensor)]
    return [tensor]


def value_of(tensor: Tensor, pieces: list[Tensor]) -> LooseValue:
    """The numbers in pieces of a tensor, which `bytes_beside` or `content_of` gave."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(tuple(tensor.shape)).encode() if not tensor.is_nested else b"")
    for piece in pieces:
        flat = piece.resolve_conj().resolve_neg().to_dense().cpu().contiguous().view(-1)
        if flat.numel():
            content: Any = flat.view(torch.uint8).numpy()
            digest.update(content)
    beside = pieces[-1].dtype is torch.uint8 and tensor.dtype is not torch.uint8
    count = sum(piece.numel() for piece in pieces) // tensor.element_size() if beside else pieces[-1].numel()
    return LooseValue(count * (1 + tensor.is_complex()), digest.digest())
