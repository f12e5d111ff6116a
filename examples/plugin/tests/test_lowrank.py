"""The conformance suite that npas-bench offers to the authors of methods."""

from npas_lowrank import LowRank

from npas_bench.testing.methods import MethodConformance


class TestLowRank(MethodConformance):
    method = LowRank
