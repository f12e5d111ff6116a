"""What the benchmarks share: cases, networks, a step, tables."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.budget import Budget
from npas_bench.methods import Problem
from npas_bench.network import GeneratedNetwork, Network, PlainNetwork
from npas_bench.testing.architectures import ExampleArchitecture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

console = Console()


class _Transformer(nn.Module):
    """Six layers of 256, over sequences of 64."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.classifier = nn.Linear(256, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.encoder(x).mean(1))
        return logits


TRANSFORMER = ExampleArchitecture("transformer-6x256", _Transformer, (64, 256))


@dataclass(frozen=True)
class Case:
    """One network to measure, and the bars it is held against (None: there is none).

    Attributes:
        name: on the command line.
        architecture: a name, or an example.
        batch: examples a step.
        method: a name.
        budget: as on the command line of npas-bench.
        options: of the method.
        time: largest ratio of a step's time to the plain network's.
        time_regenerating: the same with `regenerate_in_backward`.
        peak_regenerating: largest ratio of peak memory to the plain network's, with `regenerate_in_backward`.
    """

    name: str
    architecture: str | ExampleArchitecture
    batch: int
    method: str
    budget: str
    options: dict[str, Any] = field(default_factory=dict)
    time: float | None = None
    time_regenerating: float | None = None
    peak_regenerating: float | None = None


CASES = (
    Case("wrn-28-10 b8 ssn 36.5M", "wrn-28-10", 8, "ssn", "36.5M", time=1.40, time_regenerating=1.45),
    Case("wrn-28-10 b8 ssn 10%", "wrn-28-10", 8, "ssn", "10%", {}, 1.10, 1.12, 0.55),
    Case("wrn-28-10 b8 ssn 1.4%", "wrn-28-10", 8, "ssn", "1.4%", {}, 1.10, 1.12),
    Case("wrn-28-10 b128 ssn 36.5M", "wrn-28-10", 128, "ssn", "36.5M", time=1.05),
    Case("wrn-28-10 b128 ssn 10%", "wrn-28-10", 128, "ssn", "10%", time=1.05),
    Case("wrn-16-2 b32 ssn 100%", "wrn-16-2", 32, "ssn", "100%", time=1.08),
    Case("wrn-16-2 b32 ssn 10%", "wrn-16-2", 32, "ssn", "10%", {}, 1.10, 1.12),
    Case("transformer b8 ssn 100%", TRANSFORMER, 8, "ssn", "100%", time=1.15),
    Case("transformer b8 ssn 10%", TRANSFORMER, 8, "ssn", "10%", {}, 1.10, 1.12),
    Case("wrn-40-1 b128 hypernetwork", "wrn-40-1", 128, "hypernetwork", "97770", time=1.10),
    Case("wrn-28-2 b32 superweights", "wrn-28-2", 32, "superweights", "100%", time=1.08),
    Case("wrn-28-10 b8 superweights", "wrn-28-10", 8, "superweights", "10%"),
    Case("wrn-28-10 b8 swrn 75%", "wrn-28-10", 8, "swrn", "75%"),
    Case("wrn-28-10 b8 hashednets", "wrn-28-10", 8, "hashednets", "10%"),
    Case("wrn-16-2 b32 hashednets", "wrn-16-2", 32, "hashednets", "10%"),
    Case("wrn-40-1 b32 ssn 97770", "wrn-40-1", 32, "ssn", "97770"),
    Case("tiny", "wrn-10-1", 2, "ssn", "50%"),
)
# Too small to say anything: for the benchmarks' own tests.
HIDDEN = {"tiny"}


def select(names: Sequence[str] | None) -> list[Case]:
    """The cases whose names contain one of `names`; all of them without.

    Raises:
        SystemExit: if a name fits none.
    """
    if not names:
        return [case for case in CASES if case.name not in HIDDEN]
    chosen = [case for case in CASES if any(name in case.name for name in names)]
    unknown = [name for name in names if not any(name in case.name for case in CASES)]
    if unknown:
        known = "\n  ".join(case.name for case in CASES)
        raise SystemExit(f"no case is called {', '.join(unknown)}; there are\n  {known}")
    return chosen


def problem_of(case: Case) -> Problem:
    """The problem of a case: CIFAR-10's shape for images."""
    if isinstance(case.architecture, ExampleArchitecture):
        architecture, signature = case.architecture, case.architecture.signature
        return Problem(architecture, signature, Budget.parse(case.budget).resolve(architecture.size(signature)))
    named = plugins.architecture(case.architecture)
    signature = ImageSignature((3, 32, 32), 10)
    return Problem(named, signature, Budget.parse(case.budget).resolve(named.size(signature)))


def build(case: Case, arm: str) -> Network:
    """The network of an arm: `plain`, `kept` (generated weights kept for the backward pass), `regenerated`."""
    torch.manual_seed(0)
    problem = problem_of(case)
    if arm == "plain":
        return PlainNetwork(problem.module())
    network = plugins.methods.load(case.method)(case.options).build(problem)
    if isinstance(network, GeneratedNetwork):
        network.regenerate_in_backward = arm == "regenerated"
    return network


class Stepper:
    """Trains a network on one batch, step by step: fused SGD with momentum, as every arm has it.

    Args:
        case: gives the batch.
        network: to train.
        device: to train on.
        precision: `fp32` or `bf16`.
    """

    def __init__(self, case: Case, network: Network, device: torch.device, precision: str) -> None:
        problem = problem_of(case)
        torch.manual_seed(1)
        self._x = torch.randn(case.batch, *problem.signature.input_shape).to(device)
        self._y = torch.randint(problem.signature.classes, (case.batch,)).to(device)
        self._network = network.to(device).train()
        self._optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        self._device = device

    def loss(self) -> torch.Tensor:
        """The forward pass."""
        with self._autocast:
            return functional.cross_entropy(self._network(self._x), self._y)

    def step(self) -> None:
        """One whole step, to its end."""
        loss = self.loss()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _elementwise(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
    return math.prod(out_shape)


def counted_flops(network: GeneratedNetwork) -> int:
    """The same, counted while the weights are made; copies are free, four multiply-adds per interpolated scalar."""
    aten = torch.ops.aten
    mapping = {
        aten.mv: lambda a, b, out_shape=None, **_: 2 * math.prod(a),
        aten.mul: _elementwise,
        aten.mean: lambda a, *_, out_shape=None, **__: math.prod(a),
        aten.upsample_bilinear2d: lambda *_, out_shape=None, **__: 8 * math.prod(out_shape),
    }
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with torch.no_grad(), counter:
        seen = set()
        for layer in network.layers:
            generation = network.allocation.generation(layer.name)  # type: ignore[operator]
            if generation.shared is None or generation.shared not in seen:
                seen.add(generation.shared)
                generation.make()
    return counter.get_total_flops()


def verdict(value: float, bar: float | None) -> str:
    """A figure beside its bar."""
    if bar is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{'green' if value <= bar else 'red'}]{'≤' if value <= bar else '>'} {bar:.2f}[/]"


def report(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], record: Any, path: Path | None) -> None:
    """Print a table, and write what is in it, and where it was measured, as JSON."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if path is not None:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def environment(device: torch.device, **settings: Any) -> dict[str, Any]:
    """Where and how a figure was measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "torch": str(torch.__version__),
        "device": name,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **settings,
    }
