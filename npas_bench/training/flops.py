"""The floating-point operations of a network."""

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
    """The floating-point operations of one example's forward pass, two for every multiply-add.

    Operations of convolutions, linear layers and matrix products count, as torch counts them; those of norms and
    activations do not, nor does the generation of weights.

    Args:
        network: the network that was trained.
        problem: the problem that it solves, which gives the architecture of a generated network.
        task: the task, which gives an example.

    Returns:
        The number of operations; None if a plain network of the architecture does not run on the meta device.
    """
    try:
        with torch.device("meta"):
            plain = copy.deepcopy(network.architecture) if isinstance(network, PlainNetwork) else problem.module()
        plain = plain.to("meta").eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            plain(*task.example())
    # The network may be anyone's, and the meta device does not know every operation.
    except Exception:
        log.debug("the operations of %s cannot be counted", type(network).__name__, exc_info=True)
        return None
    return counter.get_total_flops()
