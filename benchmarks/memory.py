"""What a training step keeps for its backward pass, and its peak memory, beside the plain network's.

python benchmarks/memory.py [--case NAME ...] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from common import CASES, HIDDEN, Case, Stepper, build, console, environment, report, select, verdict
from torch.autograd.graph import saved_tensors_hooks

from npas_bench.allocation import RuledAllocation
from npas_bench.network import GeneratedNetwork

ARMS = ("plain", "kept", "regenerated")
# Bytes kept for the backward pass, regenerating, over the plain network's.
SAVED_BAR = 1.02


def saved_bytes(case: Case, arm: str, device: torch.device, precision: str) -> int:
    """Bytes of the storages that a forward pass keeps for the backward pass, without what the network holds anyway."""
    network = build(case, arm)
    stepper = Stepper(case, network, device, precision)
    held = [*network.parameters(), *network.buffers()]
    if isinstance(network, GeneratedNetwork) and isinstance(network.allocation, RuledAllocation):
        # Hashes are neither parameters nor buffers: a seed gives them back.
        held += [tensor for layer in network.layers for tensor in network.allocation.generation(layer.name).inputs]
    own = {tensor.untyped_storage().data_ptr() for tensor in held}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        # An operation's own output, saved as it is, would hold its graph, which holds it: a leak.
        return tensor.detach()

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        stepper.loss()
    return sum(size for place, size in storages.items() if place not in own)


def peak_bytes(case: Case, arm: str, device: torch.device, precision: str, threads: int) -> int:
    """Highest memory over the start in three steps: of a process of its own, or allocated on a GPU."""
    command = [sys.executable, __file__, "--child", json.dumps([case.name, arm, str(device), precision, threads])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return int(done.stdout.split()[-1])


def child(name: str, arm: str, place: str, precision: str, threads: int) -> int:
    """Train three steps of an arm and return the peak over what the process held before."""
    torch.set_num_threads(threads)
    case, device = next(case for case in CASES if case.name == name), torch.device(place)
    # What torch loads when it first computes is no network's memory.
    warm = next(case for case in CASES if case.name == "tiny")
    Stepper(warm, build(warm, "regenerated"), device, precision).step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident("VmRSS")
    stepper = Stepper(case, build(case, arm), device, precision)
    if device.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        stepper.step()
    return (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")) - before


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"this system does not tell {field}")


def main() -> None:
    """Measure the chosen cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", help="part of a case's name; all cases without")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        sys.stdout.write(f"{child(*json.loads(given.child))}\n")
        return
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    measured: list[dict[str, Any]] = []
    rows = []
    for case in select(given.case):
        saved = {arm: saved_bytes(case, arm, device, given.precision) for arm in ARMS}
        peak = {arm: peak_bytes(case, arm, device, given.precision, given.threads) for arm in ARMS}
        if case.name not in HIDDEN:
            console.print(f"{case.name}: saved {saved['regenerated'] / saved['plain']:.3f} of plain, regenerating")
        bars = {"saved": SAVED_BAR, "peak": case.peak_regenerating}
        measured.append({"case": case.name, "saved_bytes": saved, "peak_bytes": peak, "bar": bars})
        rows.append(
            [
                case.name,
                f"{saved['plain'] / 2**20:.0f}",
                f"{saved['kept'] / saved['plain']:.2f}",
                verdict(saved["regenerated"] / saved["plain"], SAVED_BAR),
                f"{peak['plain'] / 2**20:.0f}",
                f"{peak['kept'] / peak['plain']:.2f}",
                verdict(peak["regenerated"] / peak["plain"], case.peak_regenerating),
            ]
        )
    columns = ("case", "saved MiB", "kept", "regen.", "peak MiB", "kept", "regen.")
    settings = environment(device, threads=given.threads, precision=given.precision)
    report("Memory, ratio to plain", columns, rows, {**settings, "cases": measured}, given.json)


if __name__ == "__main__":
    main()
