"""Running cells on Ray's workers, on this machine or on a cluster of Ray's own nodes."""

from npas_bench.runner.cluster.executor import RayExecutor

__all__ = ["RayExecutor"]
