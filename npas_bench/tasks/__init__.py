"""Tasks: what networks are trained on and measured by."""

from npas_bench.tasks.base import DataVersion, Examples, Metric, Split, Task

# The name of `DataVersion` in plugins that were written before it was renamed.
Source = DataVersion

__all__ = ["DataVersion", "Examples", "Metric", "Source", "Split", "Task"]
