"""What every method must satisfy, as tests that the author of a plugin inherits.

from npas_bench.testing.methods import MethodConformance

class TestMine(MethodConformance):
    method = Mine
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

try:
    import pytest
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "npas_bench.testing needs pytest, which the extra testing installs: pip install 'npas-bench[testing]'",
        name=error.name,
    ) from None
import torch

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.errors import NpasBenchError, UnsupportedBudget
from npas_bench.global_state.keeping import kept
from npas_bench.methods import Problem
from npas_bench.seeding import seeded
from npas_bench.testing.architectures import EXAMPLES, ExampleArchitecture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from npas_bench.methods import Method
    from npas_bench.network import Network

_SHARES = (0.02, 0.1, 0.35, 1.0, 2.5)
_IMAGES = ImageSignature((3, 8, 8), 5)


class MethodConformance:
    """Tests of a method: inherit from this class and set `method`, and pytest runs them.

    Each test goes through every architecture at several budgets. Where the method cannot meet a budget, it must name
    the smallest one that it can meet, which is tried instead.

    Attributes:
        method: the class to test.
        options: the options that it is made with.
        architectures: the architectures to try: names, or architectures that bring their own signature.
        explains_dead: whether the method may train scalars that reach no weight if its remark explains why.
    """

    method: ClassVar[type[Method]]
    options: ClassVar[dict[str, Any]] = {}
    architectures: ClassVar[tuple[str | ExampleArchitecture, ...]] = ("wrn-10-1", *EXAMPLES)
    explains_dead: ClassVar[bool] = False

    def plain(self, problem: Problem) -> nn.Module:
        """A fresh plain module of the architecture that the method trains, which is the problem's own."""
        return problem.module()

    def make(self) -> Method:
        """The method, made with its options."""
        return self.method(self.options)

    def build(self, problem: Problem) -> Network:
        """The method's network, with initial values from a fixed seed."""
        with seeded("conformance"):
            return self.make().build(problem)

    @classmethod
    @cache
    def problems(cls) -> list[Problem]:
        """Every architecture, at each budget that the method can meet."""
        found: dict[tuple[str, int], Problem] = {}
        # Noting the global state takes longer than a preview, so it is done once for all.
        with kept():
            for wanted in cls.architectures:
                architecture = plugins.architecture(wanted) if isinstance(wanted, str) else wanted
                signature = architecture.signature if isinstance(architecture, ExampleArchitecture) else _IMAGES
                full = architecture.size(signature)
                for share in _SHARES:
                    problem = cls._possible(Problem(architecture, signature, int(share * full)), smaller=share < 1)
                    found[(architecture.name, problem.budget)] = problem
        return list(found.values())

    @classmethod
    def _possible(cls, problem: Problem, *, smaller: bool) -> Problem:
        """The problem, or where its budget is refused, the one at the bound that the refusal names."""
        try:
            cls.method(cls.options).preview(problem)
        except UnsupportedBudget as unsupported:
            bound = unsupported.smallest if smaller else unsupported.largest
            assert bound is not None, f"{problem.architecture.name} at {problem.budget}: no bound named"
            return replace(problem, budget=bound)
        return problem

    @pytest.fixture(autouse=True)
    def _kept_global_state(self) -> Iterator[None]:
        """What one test changes of the global state is not to change the outcome of another."""
        with kept():
            yield

    def test_unknown_options_are_refused(self) -> None:
        with pytest.raises(NpasBenchError, match="surely_unknown"):
            self.method({"surely_unknown": 1})

    def test_the_bound_that_a_refusal_names_is_the_last_budget_that_works(self) -> None:
        for problem in {problem.architecture.name: problem for problem in self.problems()}.values():
            for step, beyond in ((-1, 1), (1, 1000 * problem.full)):
                refusal = self._refusal(problem, beyond)
                bound = None if refusal is None else refusal.smallest if step < 0 else refusal.largest
                if bound is None:
                    continue
                assert self._refusal(problem, bound) is None, f"{problem.architecture.name} at its bound {bound}"
                again = self._refusal(problem, bound + step)
                assert again is not None, f"{problem.architecture.name} beyond its bound {bound}"
                assert bound in (again.smallest, again.largest), problem

    def _refusal(self, problem: Problem, budget: int) -> UnsupportedBudget | None:
        """How the method refuses a budget; None where it does not."""
        try:
            self.make().preview(replace(problem, budget=budget)).check(problem.architecture.name)
        except UnsupportedBudget as refusal:
            return refusal
        return None

    def test_budget_is_kept_and_preview_agrees(self) -> None:
        for problem in self.problems():
            network = self.build(problem)
            ledger = network.ledger(problem.budget).check(problem.architecture.name)
            assert ledger.total == sum(p.numel() for p in network.parameters() if p.requires_grad), problem
            preview = self.make().preview(problem)
            assert preview.model_dump(exclude={"reach"}) == ledger.model_dump(exclude={"reach"}), problem

    def test_no_parameter_is_dead(self) -> None:
        for problem in self.problems():
            ledger = self.build(problem).ledger(problem.budget)
            assert ledger.reach == 1.0 or (self.explains_dead and ledger.remark), problem

    def test_same_seed_makes_the_same_network(self) -> None:
        for problem in self.problems():
            first, second = (self.build(problem).state_dict() for _ in range(2))
            assert first.keys() == second.keys()
            assert all(torch.equal(first[name], second[name]) for name in first), problem

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        for problem in self.problems():
            network = self.build(problem)
            network(*_inputs(problem)).square().sum().backward()
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None, (name, problem)
                assert torch.isfinite(parameter.grad).all(), (name, problem)

    def test_materialised_network_computes_the_same(self) -> None:
        for problem in self.problems():
            network = self.build(problem).eval()
            plain = network.materialise(self.plain(problem)).eval()
            assert torch.equal(network(*_inputs(problem)), plain(*_inputs(problem))), problem

    def test_global_state_is_left_as_it_was(self) -> None:
        problem = min(self.problems(), key=lambda problem: problem.full)
        with kept() as changes:
            self.make().preview(problem)
            network = self.build(problem)
            network(*_inputs(problem)).square().sum().backward()
            network.eval()(*_inputs(problem))
        assert not changes, f"{self.method.name} changed {changes}"

    def test_state_dict_restores_the_network_and_holds_each_tensor_once(self) -> None:
        for problem in self.problems():
            network, other = self.build(problem).eval(), self.make().build(problem).eval()
            state = network.state_dict()
            other.load_state_dict(state)
            assert torch.equal(network(*_inputs(problem)), other(*_inputs(problem))), problem
            places = [tensor.data_ptr() for tensor in state.values() if tensor.numel()]
            assert len(places) == len(set(places)), problem


def _inputs(problem: Problem) -> tuple[torch.Tensor, ...]:
    return problem.signature.draw(4, torch.Generator().manual_seed(0))
