"""Methods: ways of giving an architecture's layers their weights from a fixed budget of parameters."""

from npas_bench.methods.base import Method, MethodOptions, Problem, SharingMethod

__all__ = ["Method", "MethodOptions", "Problem", "SharingMethod"]
