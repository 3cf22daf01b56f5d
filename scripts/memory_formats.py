#!/usr/bin/env python3
"""Measure torch's step of training in both memory formats, beside the rule that chooses one.

    python scripts/memory_formats.py [--rounds N] [--only NETWORK]

For each network, size and batch two sessions take turns, one in channels_last and one in torch's
own format, each in a process of its own. Prints the time of contiguous by that of channels_last,
round by round (median and quartiles; above 1 channels_last is quicker), the values of maps for each
of kernels, and which format `resnet_spec_torch.memory_formats` chooses here. Nothing else should
run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from products import printed, told_of

from resnet_spec.bench import Case, Contestant
from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.making import ours
from resnet_spec.benchmarking.results import Spread
from resnet_spec.benchmarking.rounds import measure
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.loader import load_backend
from resnet_spec.running.child_processes import usable_processors

CASES = (
    ("resnet20_cifar", 32, 128),
    ("resnet18", 32, 64),
    ("resnet34", 32, 64),
    ("resnet18", 64, 64),
    ("resnet18", 96, 32),
    ("resnet18", 128, 32),
    ("resnet18", 224, 16),
    ("resnet50", 32, 64),
    ("resnet50", 64, 64),
    ("resnet50", 96, 32),
    ("resnet50", 224, 8),
)
FORMATS = ("channels_last", "contiguous_format")


def in_channels_last(case: Case) -> Contestant:
    """Return a session in channels_last, whatever the rule chooses."""
    return _in(FORMATS[0], case)


def in_contiguous_format(case: Case) -> Contestant:
    """Return the same in the other format."""
    return _in(FORMATS[1], case)


def _in(layout: str, case: Case) -> Contestant:
    chosen = getattr(_part("torch"), layout)
    with patch.object(_part("session"), "memory_format_of", lambda *given: chosen):
        return ours(case, "torch")[1]


def _part(name: str) -> Any:
    """Return a module of the backend, or torch."""
    package: Any = load_backend("torch")
    return importlib.import_module(name if name == "torch" else f"{package.__name__}.{name}")


def row(network: str, size: int, batch: int, rounds: int) -> str:
    """Return a row of the table."""
    spec = load_spec({"base": network, "input": {"size": size}})
    asked = Asked(spec, batch=batch, rounds=rounds, threads=usable_processors(), device="cpu")
    entries = [Entry(name, "", f"memory_formats:in_{name}") for name in FORMATS]
    result = measure(asked, entries)
    if result.failed:
        raise SystemExit("\n".join(result.failed.values()))
    first, second = ([turn / result.steps for turn in one.turns] for one in result.measured)
    ratio = Spread.of([b / a for a, b in zip(first, second, strict=True)])
    case = asked.case()
    rule = _part("memory_formats")
    chosen = rule.memory_format_of(_part("torch").device("cpu"), asked.plan, case.recipe)
    cells = (
        f"{network}, {size} px, batch {batch}",
        told_of(ratio),
        f"{rule.maps_for_each_of_kernels(asked.plan, batch):.2f}",
        str(chosen).removeprefix("torch."),
    )
    return f"| {' | '.join(cells)} |"


def rows(only: str, rounds: int) -> Iterator[str]:
    """Yield the table line by line."""
    yield "| training | contiguous / channels_last | maps / kernels | chosen |"
    yield "|---|---:|---:|---|"
    for network, size, batch in CASES:
        if only in network:
            yield row(network, size, batch, rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", metavar="NETWORK")
    args = parser.parse_args(arguments)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return printed(rows(args.only, args.rounds))


if __name__ == "__main__":
    sys.exit(main())
