"""What a stage of a training is, and how several of them run one after the other.

A checkpoint says which stage it belongs to. A training that was interrupted passes over the stages before that one,
and the stage itself goes on from the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from npas_bench.errors import CheckpointError
from npas_bench.network import state_tensors
from npas_bench.training.loop import EpochReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from npas_bench.network import Network
    from npas_bench.training.checkpoint import Checkpoint
    from npas_bench.training.loop import TrainingContext


class TrainingState(NamedTuple):
    """What one stage hands to the next.

    Attributes:
        network: the network; a stage may change it in place, or return another one.
        before: the tensors that count only if training changes them, as they were before the first stage.
        history: the report of every epoch, of all stages and attempts so far.
        reported_epoch: the epoch of the last stage, counted from 1, whose network this is; None if it is the last one.
        resumed: the checkpoint that the stage goes on from; None if the stage begins with this state.
    """

    network: Network
    before: dict[str, Tensor]
    history: tuple[EpochReport, ...] = ()
    reported_epoch: int | None = None
    resumed: Checkpoint | None = None

    def entries(self) -> list[dict[str, Any]]:
        """The history as it is stored."""
        return [report.entry() for report in self.history]


class Stage(ABC):
    """A part of a training, such as fitting a network to its task.

    Attributes:
        name: the name of the stage in checkpoints and histories, which no other stage of the training has.
    """

    name: str

    @abstractmethod
    def run(self, state: TrainingState, context: TrainingContext) -> TrainingState:
        """Run the stage from its beginning, or from the checkpoint that `state.resumed` holds.

        Args:
            state: what the stage before has left.
            context: what the whole training is given.

        Returns:
            The state that the next stage begins with, which is the same however often the stage was interrupted.
        """


def run_stages(stages: Sequence[Stage], network: Network, context: TrainingContext) -> TrainingState:
    """Run stages one after the other, from wherever the last checkpoint left them.

    Args:
        stages: the stages, in their order.
        network: the network that the first stage begins with; if there is a checkpoint, a network of its structure.
        context: what the training is given.

    Raises:
        CheckpointError: if the checkpoint belongs to a stage that is not among `stages`.
        Diverged: if a loss or a metric becomes NaN or infinite.
    """
    state = TrainingState(network, {name: tensor.cpu().clone() for name, tensor in state_tensors(network).items()})
    last = None if context.checkpoints is None else context.checkpoints.latest()
    left = list(stages)
    if last is not None:
        names = [stage.name for stage in stages]
        if last.stage not in names:
            raise CheckpointError(f"a checkpoint is of the stage '{last.stage}'; the stages are {', '.join(names)}")
        left = left[names.index(last.stage) :]
        state = state._replace(before=last.before, history=tuple(map(EpochReport.from_entry, last.history)))
        state = state._replace(resumed=last)
    for stage in left:
        state = stage.run(state, context)._replace(resumed=None)
    return state
