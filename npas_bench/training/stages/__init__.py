"""The stages of a training: each takes a network as the stage before has left it, and hands it on."""

from npas_bench.training.stages.base import Stage, TrainingState, run_stages
from npas_bench.training.stages.fit import Fit

__all__ = ["Fit", "Stage", "TrainingState", "run_stages"]
