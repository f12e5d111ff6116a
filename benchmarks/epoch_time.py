"""The time of an epoch on a GPU: this package's loop in bfloat16 against an ordinary one with a CPU loader in fp32.

python benchmarks/epoch_time.py [--architecture wrn-40-1] [--method full] [--compile] [--images 50000] [--json FILE]

The ordinary loop is what a PyTorch example does: torchvision's transforms image by image in loader processes, pinned
memory, an eager network in fp32. Both train on random images of CIFAR's size, in turns, after an epoch to warm up.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import console, environment, report
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from npas_bench import plugins
from npas_bench.budget import Budget
from npas_bench.methods import Problem
from npas_bench.tasks.classification.base import ImageSet
from npas_bench.tasks.classification.cifar import Cifar10
from npas_bench.training.loop import TrainingContext, train_epoch
from npas_bench.training.optimisers import make_optimiser
from npas_bench.training.parallel import WrappedNetwork

if TYPE_CHECKING:
    from npas_bench.network import Network

_BAR = 0.60


class _Ordinary(Dataset[Any]):
    """Images that are augmented one by one."""

    def __init__(self, examples: ImageSet) -> None:
        self._examples = examples
        self._transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([m / 255 for m in examples.mean], [d / 255 for d in examples.deviation]),
            ]
        )

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._examples.pixels[index]), int(self._examples.labels[index])


def _epoch(network: Network, loader: DataLoader[Any], optimiser: torch.optim.Optimizer, device: torch.device) -> None:
    network.train()
    for pixels, labels in loader:
        pixels, labels = pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        loss = functional.cross_entropy(network(pixels), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="wrn-40-1")
    parser.add_argument("--method", default="full")
    parser.add_argument("--budget", default="100%")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loaders", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device, task = torch.device(given.device), Cifar10()
    recipe = task.recipes(given.architecture)["default"].derive(batch_size=given.batch, precision="bf16")
    architecture = plugins.architecture(given.architecture)
    budget = Budget.parse(given.budget).resolve(architecture.size(task.signature))
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (given.images, 3, 32, 32), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (given.images,), generator=draw)
    examples = ImageSet(pixels, labels, Cifar10.mean, Cifar10.deviation)
    method = plugins.methods.load(given.method)({})
    ours = method.build(Problem(architecture, task.signature, budget)).to(device)
    theirs = method.build(Problem(architecture, task.signature, budget)).to(device)
    context = TrainingContext(task, examples.to(device), recipe, 0, "identity", "source", device)
    wrapped = WrappedNetwork(ours, compiled=given.compile)
    optimisers = make_optimiser(ours, recipe), make_optimiser(theirs, recipe)
    loader: DataLoader[Any] = DataLoader(
        _Ordinary(examples),
        given.batch,
        shuffle=True,
        num_workers=given.loaders,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    seconds: dict[str, list[float]] = {"ours": [], "ordinary": []}
    for number in range(given.rounds + 1):
        begun = time.perf_counter()
        train_epoch(ours, context, optimisers[0], number, warm_up=False, wrapped=wrapped)
        between = time.perf_counter()
        _epoch(theirs, loader, optimisers[1], device)
        ended = time.perf_counter()
        if number:
            seconds["ours"].append(between - begun)
            seconds["ordinary"].append(ended - between)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = medians["ours"] / medians["ordinary"]
    name = f"{given.architecture} b{given.batch} {given.method}{' compiled' if given.compile else ''}"
    settings = environment(device, rounds=given.rounds, loaders=given.loaders, images=given.images)
    row = [
        name,
        f"{medians['ordinary']:.2f}",
        f"{medians['ours']:.2f}",
        f"{ratio:.2f} {'≤' if ratio <= _BAR else '>'} 0.60",
    ]
    columns = ("case", "fp32, CPU loader, s", "bf16, s", "ratio")
    report(
        "Seconds of an epoch",
        columns,
        [row],
        {**settings, "case": name, "seconds": seconds, "ratio": ratio},
        given.json,
    )
    console.print(f"{given.loaders} loader processes")


if __name__ == "__main__":
    main()
