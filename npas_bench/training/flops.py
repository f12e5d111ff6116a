"""Floating-point operations of a network."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from npas_bench.network import PlainNetwork

if TYPE_CHECKING:
    from npas_bench.methods import Problem
    from npas_bench.network import Network
    from npas_bench.tasks import Task

log = logging.getLogger(__name__)


def count_forward_flops(network: Network, problem: Problem, task: Task) -> int | None:
    """Floating-point operations of one example's forward pass, two for every multiply-add, weights as they are.

    Those of convolutions, linear layers and products, which torch counts; norms and activations are left out.

    Args:
        network: what was trained.
        problem: that it solves; gives the architecture of a generated network.
        task: gives an example.

    Returns:
        None where a plain network of the kind does not run on the meta device.
    """
    try:
        with torch.device("meta"):
            plain = copy.deepcopy(network.architecture) if isinstance(network, PlainNetwork) else problem.module()
        plain = plain.to("meta").eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            plain(*task.example())
    # A network of anyone's, on a device that not every operation knows.
    except Exception:
        log.debug("the operations of %s cannot be counted", type(network).__name__, exc_info=True)
        return None
    return counter.get_total_flops()
