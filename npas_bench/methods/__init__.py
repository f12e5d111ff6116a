"""Methods: ways of making the weights of an architecture's layers from a fixed budget of parameters."""

from npas_bench.methods.base import Method, MethodOptions, Problem, SharingMethod

__all__ = ["Method", "MethodOptions", "Problem", "SharingMethod"]
