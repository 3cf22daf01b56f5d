#!/usr/bin/env python3
"""Measure training and prediction beside the public ResNets of the same framework.

    python scripts/benchmark.py --backend NAME [--cases A,B] [--rounds N] [--out FILE.json]

Every contender takes its turn in every round, on the same images, and waits until its device is
done; the order changes from round to round. Ours is `Session.train` and `Session.predict` as
`resnet-spec train` calls them: uint8 images go in, and normalising them is part of the step. The
others are given normalised images that are on the device already, and take a step as their own
training scripts do: SGD with momentum and weight decay on the mean cross-entropy.

Prints images per second (median over rounds) and, for each peer, the median over rounds of ours by
theirs: above 1 ours is faster. Needs the packages of `pip install 'resnet-spec[against]'`, of which
those that are missing are left out and named, and a machine that does nothing else.

The case "isa" is of MindSpore on a CPU with AVX-512: its own oneDNN capped, and as it is.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from peers import instruction_sets  # pyright: ignore[reportMissingImports]
from peers.case import CASES, Case, Contender  # pyright: ignore[reportMissingImports]
from rich.progress import Progress

from resnet_spec import session
from resnet_spec.contract import Batch
from resnet_spec.files.writing import write_json
from resnet_spec.printing.consoles import progress_console
from resnet_spec.recipe import Recipe
from resnet_spec.running.child_processes import usable_processors

BACKENDS = ("torch", "flax", "mindspore")
OURS = "resnet-spec"
ISA = "isa"


class Timed(NamedTuple):
    """Seconds of every contender's turns, round by round, and of its first, which compiles."""

    case: Case
    first: dict[str, float]
    rounds: list[dict[str, float]]

    def speed(self, name: str) -> float:
        """Images per second: of the median turn."""
        seconds = statistics.median(turn[name] for turn in self.rounds)
        return self.case.batch * self.case.steps / seconds

    def ratio(self, name: str) -> float:
        """Return the median over rounds of our speed by that of `name`."""
        return statistics.median(turn[name] / turn[OURS] for turn in self.rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure speed beside public ResNets.")
    parser.add_argument("--backend", required=True, choices=BACKENDS)
    parser.add_argument("--cases", help="comma-separated; default: all of the backend")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep every round's seconds")
    args = parser.parse_args()
    known = [*CASES, *([ISA] if args.backend == "mindspore" else [])]
    names = known if args.cases is None else args.cases.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--cases: {', '.join(unknown)}: must be among {', '.join(known)}")
    if args.rounds < 1:
        parser.error(f"--rounds = {args.rounds}: must be >= 1")
    if ISA in names:
        print("\n".join(instruction_sets.compared()))
        names = [name for name in names if name != ISA]
        if not names:
            return 0
    warnings.simplefilter("ignore")  # The peers' own.
    peers = importlib.import_module(f"peers.{args.backend}_peers")
    packages = [name for name in peers.PACKAGES if find_spec(name) is not None]
    found: list[Timed] = []
    info: Mapping[str, str] = {}
    with Progress(console=progress_console()) as bar:
        task = bar.add_task(args.backend, total=len(names) * (args.rounds + 1))
        for name in names:
            ours, info = our_contender(args.backend, CASES[name])
            contenders = {OURS: ours, **peers.contenders(CASES[name], packages)}
            found.append(timed(CASES[name], contenders, args.rounds, lambda: bar.advance(task)))
    print("\n".join(table(found)))
    versions = {name: version(name) for name in packages}
    setting = {**info, **versions, "processors": str(usable_processors())}
    print("\n" + ", ".join(f"{key} {value}" for key, value in setting.items()))
    print(f"medians of {args.rounds} rounds, after two to warm up, the first of which compiles")
    for name in peers.PACKAGES:
        if name not in packages:
            print(f"left out: {name} is not installed")
    if args.out is not None:
        kept = [{"case": t.case._asdict(), "first_s": t.first, "rounds_s": t.rounds} for t in found]
        write_json(args.out, {"environment": setting, "cases": kept})
    return 0


def our_contender(backend: str, case: Case) -> tuple[Contender, Mapping[str, str]]:
    """Return our session's turn, and what it says of itself."""
    recipe = Recipe(steps=1, batch=case.batch)
    made = session(case.network, backend, recipe, input_size=case.size)
    images, labels = case.arrays()
    batches = [Batch(images, labels, np.arange(case.batch))] * case.steps
    rates = np.full(case.steps, case.rate)

    def train() -> None:
        made.train(batches, rates)

    def predict() -> None:
        for _ in made.predict(batches):
            pass

    return (train if case.trains else predict), made.info


def timed(
    case: Case, contenders: Mapping[str, Contender], rounds: int, tick: Callable[[], None]
) -> Timed:
    """Return the seconds of each contender's turns; every round begins with another one."""
    first = {name: seconds(run) for name, run in contenders.items()}
    for run in contenders.values():
        run()
    tick()
    found: list[dict[str, float]] = []
    names = list(contenders)
    for number in range(rounds):
        start = number % len(names)
        order = names[start:] + names[:start]
        found.append({name: seconds(contenders[name]) for name in order})
        tick()
    return Timed(case, first, found)


def seconds(run: Contender) -> float:
    """Return how long a turn takes."""
    clock = time.perf_counter()
    run()
    return time.perf_counter() - clock


def table(found: list[Timed]) -> list[str]:
    """Return a Markdown table: a line per case and contender."""
    lines = [
        "| case | | images/s | ours / theirs | first turn, s |",
        "|---|---|---:|---:|---:|",
    ]
    for it in found:
        for name in it.rounds[0]:
            ratio = "" if name == OURS else f"{it.ratio(name):.2f}"
            speed = f"{it.speed(name):.3g}"
            lines.append(f"| {it.case.title} | {name} | {speed} | {ratio} | {it.first[name]:.1f} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
