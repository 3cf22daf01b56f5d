#!/usr/bin/env python3
"""Measure what docs/performance.md tells, case by case, and print its tables.

    python scripts/speed_table.py FOLDER [--only WORD] [--rounds N] [--tables]

Each case is a call of `resnet-spec bench`, which leaves its files in FOLDER/CASE; one that is there
is not measured again, so that a call that was stopped goes on. --only: cases in whose name WORD
is. --tables: measure nothing. Contestants that are not installed are left out, as `bench` says.
Exit status 1 where a call of bench failed. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from products import told_of

from resnet_spec.bench import Case, Contestant
from resnet_spec.benchmarking.making import ours
from resnet_spec.benchmarking.results import Spread
from resnet_spec.folding import fold_norms

Fields = Mapping[str, Any]

_TRAIN, _PREDICT = "train", "predict"
_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "torch": {
        _TRAIN: (
            *("torch-by-hand", "torchvision", "torchvision-channels-last"),
            *("timm", "timm-channels-last"),
        ),
        _PREDICT: (
            *("torch-by-hand", "torchvision", "torchvision-channels-last"),
            *("timm-channels-last", "onnxruntime", "openvino"),
        ),
    },
    "flax": {
        _TRAIN: ("flax-by-hand", "linen", "flaxmodels"),
        _PREDICT: ("flax-by-hand", "speed_table:folded_flax", "linen", "flaxmodels"),
    },
    "mindspore": {
        _TRAIN: ("mindspore-by-hand", "mindcv"),
        _PREDICT: ("mindspore-by-hand", "mindcv"),
    },
}
"""Whom each backend is measured beside."""
_SHAPES = (
    (_TRAIN, "resnet50", 32, 64),
    (_TRAIN, "resnet18", 32, 64),
    (_TRAIN, "resnet50", 224, 8),
    (_PREDICT, "resnet50", 224, 1),
    (_PREDICT, "resnet50", 224, 16),
    (_PREDICT, "resnet18", 224, 1),
    (_PREDICT, "resnet18", 224, 16),
)
_BESIDE_EACH_OTHER = (*_SHAPES[:3], *_SHAPES[3:5])


def cases() -> dict[str, list[str]]:
    """Return the options of `bench` by the name of a case."""
    found: dict[str, list[str]] = {}
    for backend, against in _SETS.items():
        for mode, network, size, batch in _SHAPES:
            peers = ["--against", ",".join(against[mode])]
            found[_name(backend, mode, network, size, batch)] = [
                *_options(mode, network, size, batch, backend),
                *peers,
            ]
    for shape in _BESIDE_EACH_OTHER:
        found[_name("each-other", *shape)] = _options(*shape, ",".join(_SETS))
    for shape in (_SHAPES[0], _SHAPES[2], (_PREDICT, "resnet50", 224, 16)):
        beside = ["--precision", "bfloat16", "--against", "speed_table:in_float32"]
        found[_name("bfloat16", *shape)] = [*_options(*shape, "torch"), *beside]
    return found


def in_float32(case: Case) -> Contestant:
    """Return torch's session in float32, to be measured beside one in another precision."""
    _, found = ours(replace(case, precision="float32"), "torch")
    return found


def folded_flax(case: Case) -> Contestant:
    """Return Flax's module of the network whose norms are folded, by hand; a session folds none."""
    found = fold_norms(case.plan, case.state)
    peers: Any = importlib.import_module("resnet_spec_flax.peers")
    folded = peers.by_hand(replace(case, plan=found.plan, state=found.state))
    return replace(folded, params=None)  # They are fewer, of the same network.


def _name(who: str, mode: str, network: str, size: int, batch: int) -> str:
    return f"{who}-{mode}-{network}-{size}-{batch}"


def _options(mode: str, network: str, size: int, batch: int, backends: str) -> list[str]:
    sizes = ["--input-size", str(size), "--batch", str(batch)]
    return [network, "--mode", mode, *sizes, "--backends", backends]


def rows(found: Fields) -> Iterator[str]:
    """Yield a row of a table for each contestant of a `bench.json`."""
    for one in found["contestants"]:
        speed, ratio = one["images_per_second"]["median"], one["ratio"]
        told = "" if ratio is None else told_of(Spread(**ratio))
        share = one["share_of_product"]
        cells = (
            found["title"],
            one["name"],
            f"{speed:.3g}",
            told,
            "" if share is None else f"{share:.0%}",
            f"{one['first_step_s']:.1f}",
            "" if one["memory_mb"] is None else f"{one['memory_mb']:.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def table(found: Sequence[Fields]) -> str:
    """Return the Markdown of several calls' contestants."""
    head = "| case | who | images/s | base / this | share | first step, s | memory, MB |"
    lines = [row for one in found for row in rows(one)]
    return "\n".join([head, "|---|---|---:|---:|---:|---:|---:|", *lines])


def _measured(folder: Path, options: Sequence[str], rounds: int) -> bool:
    command = [sys.executable, "-m", "resnet_spec", "bench", *options]
    more = ["--rounds", str(rounds), "--out", str(folder), "--overwrite"]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    told = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    return subprocess.run([*command, *more], env=told).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args(arguments)
    known = {name: options for name, options in cases().items() if args.only in name}
    failed = False
    for name, options in known.items():
        file = args.folder / name / "bench.json"
        if not (args.tables or file.exists()):
            failed |= not _measured(file.parent, options, args.rounds)
    for who in dict.fromkeys(re.split("-(?:train|predict)-", name)[0] for name in known):
        names = [name for name in known if name.startswith(f"{who}-")]
        files = [args.folder / name / "bench.json" for name in names]
        there = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
        if there:
            print(f"\n## {who}\n\n{table(there)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
