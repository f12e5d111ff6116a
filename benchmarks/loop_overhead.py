"""What the training loop costs over a bare PyTorch loop of the same network on the same tensors.

python benchmarks/loop_overhead.py [--architecture wrn-16-1] [--method full] [--rounds 15] [--device cuda] [--json FILE]

The loop picks batches out of a resident set of random images, augments them and keeps its books; the bare loop is
given the finished batches. Both train in turns in one process, 20 steps at a time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from common import console, environment, report
from torch.nn import functional

from npas_bench import plugins
from npas_bench.budget import Budget
from npas_bench.methods import Problem
from npas_bench.tasks.base import Part
from npas_bench.tasks.classification.base import Images, ImageSet
from npas_bench.tasks.classification.cifar import Cifar10
from npas_bench.training.loop import TrainingContext, train_epoch
from npas_bench.training.optimisers import make_optimiser

if TYPE_CHECKING:
    from npas_bench.network import Network

_STEPS = 20


def _images(count: int, device: torch.device) -> ImageSet:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=draw)
    return ImageSet(pixels, labels, Cifar10.mean, Cifar10.deviation).to(device)


def _bare(network: Network, batches: list[Images], optimiser: torch.optim.Optimizer, precision: str) -> None:
    network.train()
    device = batches[0].pixels.device
    for pixels, labels in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = functional.cross_entropy(network(pixels), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    loss.item()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="wrn-16-1")
    parser.add_argument("--method", default="full")
    parser.add_argument("--budget", default="100%")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device, task = torch.device(given.device), Cifar10()
    changes = {"batch_size": given.batch, "precision": given.precision, "threads": given.threads}
    recipe = task.recipes(given.architecture)["short"].derive(**changes)
    architecture = plugins.architecture(given.architecture)
    budget = Budget.parse(given.budget).resolve(architecture.size(task.signature))
    examples = _images(_STEPS * given.batch, device)

    def network() -> Network:
        torch.manual_seed(0)
        made = plugins.methods.load(given.method)({}).build(Problem(architecture, task.signature, budget))
        return made.to(device)

    ours, theirs = network(), network()
    context = TrainingContext(task, examples, recipe, 0, "identity", "source", device)
    optimisers = make_optimiser(ours, recipe), make_optimiser(theirs, recipe)
    parts = [
        Part(indices, torch.Generator().manual_seed(0))
        for indices in torch.split(torch.arange(len(examples)), given.batch)
    ]
    batches = list(task.batches(examples, parts, recipe))
    ratios, seconds = [], []
    for number in range(given.rounds + 2):
        times = {}
        for which in (("ours", "bare"), ("bare", "ours"))[number % 2]:
            begun = time.perf_counter()
            if which == "ours":
                train_epoch(ours, context, optimisers[0], number % recipe.epochs, warm_up=False)
            else:
                _bare(theirs, batches, optimisers[1], given.precision)
            times[which] = time.perf_counter() - begun
        if number >= 2:
            ratios.append(times["ours"] / times["bare"])
            seconds.append(times["bare"] / _STEPS)
    ratio, step = statistics.median(ratios), statistics.median(seconds)
    name = f"{given.architecture} b{given.batch} {given.method}"
    settings = environment(device, threads=given.threads, rounds=given.rounds, precision=given.precision)
    record = {**settings, "case": name, "ratio": ratio, "ratios": ratios, "milliseconds": 1000 * step}
    row = [name, f"{1000 * step:.1f}", f"{ratio:.3f} {'≤' if ratio <= 1.05 else '>'} 1.05"]
    report("The loop, ratio to a bare one", ("case", "bare ms", "loop"), [row], record, given.json)
    console.print(f"rounds: {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
