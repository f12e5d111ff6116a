"""Tasks: what networks are trained on and measured by."""

from npas_bench.tasks.base import Examples, Metric, Source, Split, Task

__all__ = ["Examples", "Metric", "Source", "Split", "Task"]
