"""Metrics of classification, computed from the logits of a whole split.

They are written out here, because libraries part at the edges: where confidences are saturated, where logits tie, and
where there are fewer classes than the metric looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

BINS = 15


def error(logits: Tensor, labels: Tensor, k: int) -> float:
    """Top-k error: the share of examples whose true class is not among the k classes with the largest logits, in %.

    Of classes with equal logits, the one with the smaller number comes first, as in `torch.argmax`, so that a network
    that cannot tell classes apart is no better than chance and the figure does not depend on the device. Where there
    are at most k classes, the error is 0. A true class whose logit is not a number is never among the first.

    Args:
        logits: (n, classes), n of at least 1.
        labels: (n,), int64, from 0 to below the number of classes.
        k: how many classes may be guessed.
    """
    own = logits.gather(1, labels[:, None])
    later = torch.arange(logits.shape[1], device=logits.device) >= labels[:, None]
    behind = (logits < own) | ((logits == own) & later)
    rank = logits.shape[1] - behind.sum(1)
    right = int((rank < k).sum())
    return 100 * ((len(labels) - right) / len(labels))


def calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error of the most probable class, in %.

    Confidences fall into bins ((m - 1) / M, m / M] of equal width, as Guo et al. (On Calibration of Modern Neural
    Networks, 2017, section 2, equation 3) define them; a confidence of exactly 1 is in the last one. An empty bin adds
    nothing. Computed in float64, in which far fewer confidences are rounded to 1 than in float32.

    Args:
        logits: (n, classes), n of at least 1.
        labels: (n,), int64, from 0 to below the number of classes.
        bins: M, the number of bins.
    """
    confidences, guesses = logits.double().softmax(1).max(1)
    # Summed on the CPU, where the order of the sums is always the same.
    gap = ((guesses == labels).double() - confidences).cpu()
    # Each edge is rounded once, as the confidence of classes that tie is, so that 5 of 15 is a third.
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    places = torch.bucketize(confidences.cpu(), edges)
    # Accuracy minus confidence of a bin, times the bin's share of all examples, is the sum of its gaps divided by n.
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, places, gap)
    return 100 * float(gaps.abs().sum() / len(labels))
