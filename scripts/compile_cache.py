#!/usr/bin/env python3
"""Measure what RESNET_SPEC_CACHE saves: the start of a run, and a second start of the same run.

    python scripts/compile_cache.py [SPEC] [--backends flax,torch] [--rounds N] [--batch N]
                                    [--input-size N] [--json FILE]

In every round each backend trains two steps of the network three times, each in a new process:
without the variable, with an empty folder, and with the folder that this left. torch runs with
--compile, and has an empty folder without the variable, too: it keeps kernels by itself. Prints
medians over rounds: seconds of the whole command, of its first step, which compiles, and of
processor time; and whether all three runs came to the same bits. An idle machine is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from resnet_spec.compile_cache import VARIABLE
from resnet_spec.digests import digest
from resnet_spec.files.writing import write_json
from resnet_spec.running.child_processes import command_of, usable_processors
from resnet_spec.weights.checkpoint import load_checkpoint

WAYS = ("unset", "first", "second")
HEADS = ("without it", "first start", "second start")
OWN = ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


class Start(NamedTuple):
    """A run of two steps. Seconds: of the command, of the first step, and of processor time."""

    command_s: float
    first_step_s: float
    cpu_s: float
    digest: str


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", nargs="?", default="resnet20_cifar")
    parser.add_argument("--backends", default="flax,torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round's seconds")
    args = parser.parse_args()
    names = args.backends.split(",")
    found: dict[str, list[dict[str, Start]]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            found[name].append(one_round(args, name))
    case = f"{args.spec}, {args.input_size} px, batch {args.batch}"
    print(f"{case}, {usable_processors()} processors, seconds of the command (of its first step),")
    print(f"of processor time; medians of {args.rounds} rounds\n")
    print(f"| backend | {' | '.join(HEADS)} | same bits |")
    print(f"|---|{'---:|' * len(WAYS)}---|")
    for name, rounds in found.items():
        cells = [cell([one[way] for one in rounds]) for way in WAYS]
        same = all(len({start.digest for start in one.values()}) == 1 for one in rounds)
        print(f"| {name} | {' | '.join(cells)} | {'yes' if same else 'no'} |")
    if args.json is not None:
        write_json(args.json, {n: [plain(one) for one in rounds] for n, rounds in found.items()})
    return 0


def cell(starts: list[Start]) -> str:
    command = statistics.median(start.command_s for start in starts)
    first = statistics.median(start.first_step_s for start in starts)
    cpu = statistics.median(start.cpu_s for start in starts)
    return f"{command:.1f} ({first:.1f}), {cpu:.1f}"


def plain(one: Mapping[str, Start]) -> dict[str, dict[str, object]]:
    return {way: start._asdict() for way, start in one.items()}


def one_round(args: argparse.Namespace, backend: str) -> dict[str, Start]:
    """Start a run of `backend` in each of the three ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {key: value for key, value in os.environ.items() if key not in OWN}
        environment["TMPDIR"] = str(folder / "own")  # Where torch keeps kernels by itself.
        (folder / "own").mkdir()
        kept = {**environment, VARIABLE: str(folder / "kept")}
        given = {"unset": environment, "first": kept, "second": kept}
        return {way: started(args, backend, folder / way, given[way]) for way in WAYS}


def children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def started(
    args: argparse.Namespace, backend: str, out: Path, environment: Mapping[str, str]
) -> Start:
    arguments = ["train", args.spec, "--backend", backend, "--out", str(out), "--quiet"]
    arguments += ["--input-size", str(args.input_size)]
    arguments += ["--set", "steps=2", "--set", f"batch={args.batch}"]
    arguments += ["--compile"] if backend == "torch" else []
    clock, used = time.perf_counter(), children_s()
    done = subprocess.run(
        command_of("resnet_spec", arguments), env=dict(environment), capture_output=True, text=True
    )
    seconds, cpu = time.perf_counter() - clock, children_s() - used
    if done.returncode:
        sys.exit(f"compile_cache: {backend} ended with {done.returncode}: {done.stderr.strip()}")
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    state = load_checkpoint(out / "last.safetensors").state
    return Start(seconds, summary["first_step_s"], cpu, digest(state))


if __name__ == "__main__":
    sys.exit(main())
