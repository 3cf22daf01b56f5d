#!/usr/bin/env python3
"""See that a run takes no more memory the longer it goes on.

    python scripts/memory_flat.py BACKEND... [--steps N] [--every N] [--warm-up N] [--most MB]

Trains a tiny network on digits by each backend, in a process of its own, with an evaluation and two
checkpoints every 100 steps, and looks at the process's resident memory every so many steps. Prints
a table: the memory at the end of the warm-up (kernels are compiled, caches filled), by how much it
grew from there to the end, and the slope of a line through all that was seen in between. Exit
status 1 where it grew by more than --most. Linux.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import resnet_spec

_NETWORK: dict[str, Any] = {
    "name": "tiny",
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
_EPOCH = 100


def resident_mb() -> float:
    """Return the resident memory of this process, in 10^6 bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


@dataclass
class Looks:
    """A watch that looks at the memory every so many steps."""

    every: int
    seen: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])

    def chunk(self, position: Any, speed: float) -> None:
        if position.step >= (len(self.seen) + 1) * self.every:
            gc.collect()
            self.seen.append((position.step, resident_mb()))

    def epoch(self, epoch: object) -> None:
        """Look at chunks alone."""


def seen_by(backend: str, steps: int, every: int) -> list[tuple[int, float]]:
    """Return (step, 10^6 bytes) of a run."""
    data = resnet_spec.load_data("digits", size=8)
    batch = len(data.train) // _EPOCH
    looks = Looks(every)
    with tempfile.TemporaryDirectory() as name:
        resnet_spec.train(
            _NETWORK,
            backend,
            data,
            settings=[f"steps={steps}", f"batch={batch}"],
            out=Path(name) / "run",
            watch=looks,
        )
    return looks.seen


@dataclass(frozen=True)
class Growth:
    """What was seen after the warm-up: 10^6 bytes, and 10^6 bytes per 1,000 steps."""

    begin: float
    grown: float
    slope: float

    @classmethod
    def of(cls, seen: Sequence[tuple[int, float]], warm_up: int) -> Growth:
        later = [look for look in seen if look[0] >= warm_up]
        steps, memory = np.array(later, np.float64).T
        slope = float(np.polyfit(steps, memory, 1)[0])
        return cls(float(memory[0]), float(memory[-1] - memory[0]), 1000 * slope)


def main() -> int:
    parser = argparse.ArgumentParser(description="See that a run's memory does not grow.")
    parser.add_argument("backends", nargs="+", metavar="BACKEND")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--warm-up", type=int, default=400)
    parser.add_argument("--most", type=float, default=8.0, metavar="MB")
    args = parser.parse_args()
    print("| backend | at step | MB | grown by step | MB | MB per 1,000 steps |")
    print("|---|---:|---:|---:|---:|---:|")
    bad = 0
    for backend in args.backends:
        # Memory that another backend has taken is not to count.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seen = pool.submit(seen_by, backend, args.steps, args.every).result()
        growth = Growth.of(seen, args.warm_up)
        bad += growth.grown > args.most
        first = next(step for step, _ in seen if step >= args.warm_up)
        cells = (first, f"{growth.begin:.1f}", seen[-1][0], f"{growth.grown:+.1f}")
        print(f"| {backend} | {' | '.join(map(str, cells))} | {growth.slope:+.2f} |", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
