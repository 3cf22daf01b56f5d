#!/usr/bin/env python3
"""Measure how long it takes to load weights into a torch session, beside what torch users do.

    python scripts/load_speed.py [--spec resnet50] [--repeats N]

Four ways, one after the other in every round: `safetensors.torch.load_file` and
`load_state_dict`; an own checkpoint, verified, and `Session.load`; `torch.load` with
`weights_only` and `load_state_dict`; the same `.pth` file through `load_weights`, its network
inferred, and `Session.load`. Files are in the page cache. Prints the medians, and the median of
each round's ratio to the first. An idle machine is needed: the threads wait for one another.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_spec import session
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.weights import write_weights
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from resnet_spec.weights.converting import load_weights


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how long weights take to load.")
    parser.add_argument("--spec", default="resnet50")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    made: Any = session(args.spec, "torch")
    state = made.state()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own, pth, plain = (folder / n for n in ("own.safetensors", "net.pth", "plain.safetensors"))
        save_checkpoint(own, Checkpoint(load_spec(args.spec), state))
        write_weights(pth, state)
        write_weights(plain, state)
        ways = {
            "safetensors.torch.load_file, load_state_dict": lambda: by_torch(plain, made.native),
            "own checkpoint, verified": lambda: made.load(load_checkpoint(own).evaluated().state),
            ".pth: torch.load, load_state_dict": lambda: by_torch(pth, made.native),
            ".pth: network inferred": lambda: made.load(load_weights(pth).state),
        }
        print(f"{args.spec}, {own.stat().st_size / 1e6:.0f} MB, {made.info['threads']} threads")
        report({label: timed(way) for label, way in ways.items()}, args.repeats, ways)
    return 0


def by_torch(path: Path, native: Any) -> None:
    """Load as the users of torch do; counters of steps are left as they are."""
    import torch
    from safetensors.torch import load_file

    found = torch.load(path, weights_only=True) if path.suffix == ".pth" else load_file(path)
    missing = native.load_state_dict(found, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing), missing


def timed(way: Callable[[], None]) -> float:
    """Return the seconds that `way` takes."""
    clock = time.perf_counter()
    way()
    return time.perf_counter() - clock


def report(warm_up: dict[str, float], repeats: int, ways: dict[str, Callable[[], None]]) -> None:
    """Print a line for each way: median milliseconds, and median ratio to the first."""
    rounds = [{label: timed(way) for label, way in ways.items()} for _ in range(repeats)]
    first = next(iter(warm_up))
    print("| way | ms | ratio |\n|---|---:|---:|")
    for label in warm_up:
        median = statistics.median(r[label] for r in rounds) * 1e3
        ratio = statistics.median(r[label] / r[first] for r in rounds)
        print(f"| {label} | {median:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
