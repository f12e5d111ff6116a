from typing import Any, ClassVar

from npas_bench.methods.full import Full
from npas_bench.methods.reduced import Reduced
from npas_bench.methods.ssn import SSN
from npas_bench.testing.methods import MethodConformance


class TestFull(MethodConformance):
    method = Full


class TestReduced(MethodConformance):
    method = Reduced
    architectures = ("wrn-10-1", "wrn-16-2")

    def plain(self, problem):
        return problem.smaller().build(problem.signature)


class TestSSN(MethodConformance):
    method = SSN


class TestSSNEmbInter(MethodConformance):
    method = SSN
    options: ClassVar[dict[str, Any]] = {"combine": "emb", "upsample": "inter"}


class TestSSNAvgRepeat(MethodConformance):
    method = SSN
    options: ClassVar[dict[str, Any]] = {"combine": "avg", "upsample": "repeat"}


class TestSSNRoundRobinMaskPerLayer(MethodConformance):
    method = SSN
    options: ClassVar[dict[str, Any]] = {"combine": "rr", "mask_scope": "layer"}
