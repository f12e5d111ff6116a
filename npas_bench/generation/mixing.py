"""Template mixing: a layer's weight as a weighted sum of templates that lie side by side in a flat store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class RoundRobin:
    """Hands out stretches of a flat store in turn, so that all of it is read about equally often.

    A stretch that would straddle the store's end is moved back to end there, and the next one starts at 0:
    every stretch is contiguous, and once the lengths add up to the store's size all of it has been handed out.

    Args:
        size: scalars in the store.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._cursor = 0

    def take(self, length: int) -> int:
        """First scalar of the next stretch of `length` scalars (at most the store's size)."""
        start = min(self._cursor, self._size - length)
        self._cursor = (start + length) % self._size
        return start


def template_mean(store: Tensor, start: int, size: int, templates: int) -> Tensor:
    """The mean of the templates at `start`, 1-d of `size`; one template is a view, not a copy."""
    if templates == 1:
        return store.narrow(0, start, size)
    return store.narrow(0, start, size * templates).view(templates, size).mean(0)


def mix_templates(store: Tensor, start: int, size: int, coefficients: Tensor) -> Tensor:
    """sum_k alpha_k T_k as one matrix product (Savarese & Maire 2019, eq. 1).

    Args:
        store: 1-d store.
        start: first scalar of the first template.
        size: scalars of a template.
        coefficients: alpha, 1-d of K.

    Returns:
        1-d of `size`.
    """
    templates = coefficients.shape[0]
    return coefficients @ store.narrow(0, start, size * templates).view(templates, size)
