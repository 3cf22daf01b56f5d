"""Evaluate published CIFAR-10 weights with every backend, and compare them image by image.

python scripts/check_published.py CHECKPOINTS DATA [--backends torch,flax,mindspore]

CHECKPOINTS holds the files of akamaster/pytorch_resnet_cifar10 named in `EXPECTED`, DATA is a
dataset of 10,000 CIFAR-10 test images. Prints a Markdown table. Exits with 1 when an accuracy is
not the one that the weights' own code has on these images, or when two backends name different
classes for an image that is no tie.

An image is a tie where rounding alone may decide: its two highest logits are nearer to each other
than `NEAR`, about twice the 4.5e-5 by which that distance was seen to differ between two backends
(float32, logits up to 31).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

EXPECTED = {"resnet20-12fca82f.th": 0.8103, "resnet56-4bfd9763.th": 0.8320}
NEAR = 1e-4


@dataclass(frozen=True)
class Result:
    """What one evaluation said, and the seconds it took from start to end."""

    file: str
    backend: str
    values: dict[str, Any]
    arrays: dict[str, Any]
    seconds: float

    @property
    def is_right(self) -> bool:
        return self.values["accuracy"] == EXPECTED[self.file]

    @property
    def near(self) -> int:
        return int((self.arrays["margins"] < NEAR).sum())


def evaluated(file: Path, backend: str, data: Path) -> Result:
    """Run `resnet-spec evaluate` as a person would, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.npz"
        command = ["-m", "resnet_spec.cli.main", "evaluate", str(file), "--backend", backend]
        options = ["--data", str(data), "--format", "json", "--out", str(out)]
        clock = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command, *options], check=True, stdout=subprocess.PIPE, text=True
        )
        seconds = time.perf_counter() - clock
        with np.load(out) as arrays:
            return Result(file.name, backend, json.loads(done.stdout), dict(arrays), seconds)


def differing(one: Result, other: Result) -> tuple[int, int, float]:
    """Return for how many images two backends name other classes, and how many are no ties.

    And by how much a margin differs at most.
    """
    differ = one.arrays["predictions"] != other.arrays["predictions"]
    margins = np.stack([one.arrays["margins"], other.arrays["margins"]])
    no_tie = differ & (margins.min(axis=0) >= NEAR)
    return int(differ.sum()), int(no_tie.sum()), float(np.abs(margins[0] - margins[1]).max())


def table(rows: list[tuple[str, ...]]) -> str:
    heads, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rest))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backends", default="torch,flax,mindspore")
    args = parser.parse_args()
    heads = ("weights", "backend", "accuracy", "expected", "loss", "ties", f"margin < {NEAR}", "s")
    rows: list[tuple[str, ...]] = [heads]
    pairs: list[tuple[str, ...]] = [
        ("weights", "backends", "other classes", "of no tie", "margins differ by")
    ]
    is_right = True
    for name, expected in EXPECTED.items():
        found = [
            evaluated(args.checkpoints / name, it, args.data) for it in args.backends.split(",")
        ]
        for it in found:
            is_right &= it.is_right
            numbers = (it.values["accuracy"], expected, it.values["loss"])
            counts = (str(it.values["ties"]), str(it.near), f"{it.seconds:.0f}")
            rows.append((name, it.backend, *(f"{value:.4f}" for value in numbers), *counts))
        for one, other in combinations(found, 2):
            differ, wrong, most = differing(one, other)
            is_right &= wrong == 0
            both = f"{one.backend}, {other.backend}"
            pairs.append((name, both, str(differ), str(wrong), f"{most:.1e}"))
    print(table(rows), table(pairs), sep="\n\n")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
