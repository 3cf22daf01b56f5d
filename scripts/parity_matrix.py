#!/usr/bin/env python3
"""Compare every preset and every option on every backend, and print the matrix.

    python scripts/parity_matrix.py [--backends a,b] [--cut] [--store FILE] [--out FILE.md]

Presets of up to 60 million parameters, at the levels names, shapes, counts and logits, on two
images of 64 x 64 pixels (32 x 32 for CIFAR networks); then the networks of parity_tests/cases.py,
which cover every choice of a spec, at every level. `=` is bit-equal; a number is the worst error in
multiples of the noise floor. `--cut` takes a few of each, for continuous
integration. What is done is kept in the store, one JSON line each, and not done again.
Exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "parity_tests"))

from cases import CASES  # pyright: ignore[reportMissingImports]
from rich.progress import Progress
from store import Cell, append, read  # pyright: ignore[reportMissingImports]

from resnet_spec.describing.presets import list_presets
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.files.writing import write_text
from resnet_spec.loader import installed_backends, manifest_of
from resnet_spec.parity import LEVELS, compare_backends
from resnet_spec.parity.setup import make_recipe
from resnet_spec.plan import Plan
from resnet_spec.planning.costs import count_params
from resnet_spec.planning.lowering import lower
from resnet_spec.reporting.report import Row

LARGEST = 60_000_000
LEVELS_OF = {
    "preset": ("names", "shapes", "counts", "logits"),
    "case": tuple(level for level in LEVELS if level != "accuracy"),
}
CUT_PRESETS = ("resnet50d", "resnetv2_18", "seresnet18", "resnet20_cifar")
CUT_CASES = ("same_padding",)


class Job(NamedTuple):
    """One network to compare on every backend."""

    kind: str
    name: str
    plan: Plan

    def key(self, backend: str) -> str:
        return f"{self.kind}/{self.name}/{backend}"


def main() -> int:
    args = parse()
    backends = args.backends or [name for name in installed_backends() if name != "numpy"]
    store = read(args.store)
    jobs = list(wanted(args.cut))
    with Progress(transient=True) as bar:
        task = bar.add_task("starting", total=len(jobs))
        for job in jobs:
            bar.update(task, description=job.name, advance=1)
            missing = [b for b in backends if job.key(b) not in store]
            for backend, cell in run(job, missing).items() if missing else ():
                store[job.key(backend)] = cell
                append(args.store, job.key(backend), cell)
    text = "\n".join([*heading(backends), *page(store, backends, jobs)])
    print(text)
    if args.out is not None:
        write_text(args.out, text + "\n")
    keys = [job.key(backend) for job in jobs for backend in backends]
    wrong = [key for key in keys if store[key]["verdict"] != "agree"]
    print(f"{len(keys)} compared, {len(wrong)} differ: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare every preset on every backend.")
    parser.add_argument("--backends", type=lambda text: text.split(","))
    parser.add_argument("--cut", action="store_true")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def wanted(cut: bool) -> Iterator[Job]:
    """Yield everything to compare."""
    for name in list_presets():
        spec = load_spec(name)
        plan = lower(spec, min(spec.input.size, 64))
        if count_params(plan.tensors) <= LARGEST and (not cut or name in CUT_PRESETS):
            yield Job("preset", name, plan)
    for case in CASES.values():
        if not cut or case.name in CUT_CASES:
            yield Job("case", case.name, case.plan)


def run(job: Job, backends: list[str]) -> dict[str, Cell]:
    """Return each backend's verdict, and its worst multiples of the floor by level."""
    recipe = make_recipe(steps=1, batch=2) if job.kind == "preset" else make_recipe()
    report = compare_backends(job.plan, recipe, backends, LEVELS_OF[job.kind])
    cells: dict[str, Cell] = {}
    for backend in backends:
        rows = tuple(row for row in report.rows if row.backend == backend)
        cells[backend] = {
            "verdict": replace(report, rows=rows).verdict,
            "levels": {row.level: short(row) for row in rows},
            "findings": [str(f) for f in report.findings if f.backend == backend],
        }
    return cells


def short(row: Row) -> str:
    """Return a verdict in a few characters: `=` bit-equal, else multiples of the floor."""
    if row.verdict == "equal":
        return "="
    text = f"{row.worst.floor_multiples:.1f}"
    return f"**{row.verdict} {text}**" if row.verdict != "rounding" else text


def heading(backends: list[str]) -> Iterator[str]:
    """Yield the title, and what it was made with."""
    yield "# Every preset and every option, on every backend"
    yield ""
    yield "Made by `python scripts/parity_matrix.py --out docs/parity_matrix.md`, in float32, with"
    found = filter(None, map(manifest_of, backends))
    packages = sorted({"numpy", *(p for it in found for p in it.requires)})
    yield f"{', '.join(f'{name} {version(name)}' for name in packages)}."
    yield "`=` is bit-equal; a number is the worst error in multiples of the noise floor."
    yield ""


def page(store: dict[str, Cell], backends: list[str], jobs: list[Job]) -> Iterator[str]:
    """Yield the lines of the matrix as markdown."""
    for kind, levels in LEVELS_OF.items():
        yield f"| {kind} | parameters | backend | {' | '.join(levels)} |"
        yield f"|---|---:|---|{'---:|' * len(levels)}"
        for job in (job for job in jobs if job.kind == kind):
            for backend in backends:
                found = store[job.key(backend)]["levels"]
                cells = " | ".join(found[level] for level in levels)
                params = f"{count_params(job.plan.tensors):,}"
                yield f"| `{job.name}` | {params} | {backend} | {cells} |"
        yield ""


if __name__ == "__main__":
    sys.exit(main())
