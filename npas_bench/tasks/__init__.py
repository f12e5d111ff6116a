"""Tasks: the data that networks are trained on, and the metrics that they are compared by."""

from npas_bench.tasks.base import DataVersion, Examples, Metric, Normalisation, Split, Step, Task

# `DataVersion` was called `Source` at first, and plugins from that time import it under that name.
Source = DataVersion

__all__ = ["DataVersion", "Examples", "Metric", "Normalisation", "Source", "Split", "Step", "Task"]
