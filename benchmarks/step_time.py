"""The time of a training step, as a ratio to the plain network's, measured in turns in one process.

python benchmarks/step_time.py [--case NAME ...] [--arm kept] [--rounds 15] [--threads 2] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import HIDDEN, Case, Stepper, build, console, environment, report, select, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

GENERATED = ("kept", "regenerated")


def measure(
    case: Case, rounds: int, device: torch.device, precision: str, generated: Sequence[str] = GENERATED
) -> dict[str, Any]:
    """Median step times of all arms in milliseconds, and ratios to the plain network round by round."""
    arms = ("plain", *generated)
    networks = {arm: build(case, arm) for arm in arms}
    steppers = {arm: Stepper(case, network, device, precision) for arm, network in networks.items()}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for number in range(rounds + 3):
        # Whoever follows whom changes from round to round.
        turn = number % len(arms)
        for arm in arms[turn:] + arms[:turn]:
            begun = time.perf_counter()
            steppers[arm].step()
            if number >= 3:
                seconds[arm].append(time.perf_counter() - begun)
    ratios = {arm: [a / b for a, b in zip(seconds[arm], seconds["plain"], strict=True)] for arm in generated}
    return {
        "case": case.name,
        "milliseconds": {arm: 1000 * statistics.median(times) for arm, times in seconds.items()},
        "ratio": {arm: statistics.median(values) for arm, values in ratios.items()},
        "quartiles": {arm: statistics.quantiles(values, n=4) for arm, values in ratios.items()},
        "bar": {"kept": case.time, "regenerated": case.time_regenerating},
        "generation_flops": networks[generated[0]].generation_flops(),
    }


def main() -> None:
    """Measure the chosen cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", help="part of a case's name; all cases without")
    parser.add_argument("--arm", action="append", choices=GENERATED, help="which generated network; both without")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    arms = given.arm or GENERATED
    bars = {"kept": "time", "regenerated": "time_regenerating"}
    measured, rows = [], []
    for case in select(given.case):
        found = measure(case, given.rounds, device, given.precision, arms)
        gc.collect()
        measured.append(found)
        ratio = found["ratio"]
        rows.append(
            [
                case.name,
                f"{found['milliseconds']['plain']:.0f}",
                *(verdict(ratio[arm], getattr(case, bars[arm])) for arm in arms),
                f"{found['generation_flops'] / 1e6:,.1f}",
            ]
        )
        if case.name not in HIDDEN:
            console.print(f"{case.name}: {', '.join(f'{value:.3f} {arm}' for arm, value in ratio.items())}")
    settings = environment(device, threads=given.threads, rounds=given.rounds, precision=given.precision)
    columns = ("case", "plain ms", *arms, "MFLOP")
    report("Step time, ratio to plain", columns, rows, {**settings, "cases": measured}, given.json)


if __name__ == "__main__":
    main()
