"""Tasks: the data that networks are trained on, and the metrics that they are compared by."""

from npas_bench.tasks.base import DataVersion, Examples, Normalisation, Split, Step, Task
from npas_bench.tasks.measuring import Evaluation, Measured, Metric, Subject

# `DataVersion` was called `Source` at first, and plugins from that time import it under that name.
Source = DataVersion

__all__ = [
    "DataVersion",
    "Evaluation",
    "Examples",
    "Measured",
    "Metric",
    "Normalisation",
    "Source",
    "Split",
    "Step",
    "Subject",
    "Task",
]
