#!/usr/bin/env python3
"""Measure what the table of limits holds, and say where it is off.

    python scripts/measure_limits.py [BACKEND ...]

For every level: the largest error of a tensor in multiples of its noise floor over all cases,
backends and precisions, where it was, and the limit. Takes some minutes; exit status 1 when a limit
is exceeded, or is more than ten times what was measured.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "parity_tests"))

from cases import CASES  # pyright: ignore[reportMissingImports]
from pairs import PRECISIONS, REFERENCE  # pyright: ignore[reportMissingImports]

from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.limits import LIMITS
from resnet_spec.parity.settle import settle
from resnet_spec.parity.setup import make_recipe
from resnet_spec.parity.side import Side
from resnet_spec.parity.verdicts import first_look
from resnet_spec.report import Item

flush = partial(print, flush=True)
Worst = dict[str, tuple[float, str]]


def main() -> int:
    backends = sys.argv[1:] or installed_backends()
    found: Worst = {}
    for case in CASES.values():
        expected, _ = settle(case.plan, make_recipe(), whole_run=True)
        flush(f"{case.name}: seed {expected.setup.seed}", file=sys.stderr)
        for precision in PRECISIONS:
            floors = Floors(expected, precision)
            for backend in backends:
                if precision not in load_backend(backend).PRECISIONS or backend == REFERENCE:
                    continue
                side = Side(backend, expected.setup, precision)
                for level in LIMITS:
                    if level != "accuracy":
                        _note(found, level, first_look(level, side, floors).worst, side, case.name)
    fits = [report(level, *found[level]) for level in found]
    return 0 if all(fits) else 1


def _note(found: Worst, level: str, item: Item, side: Side, case: str) -> None:
    where = f"{case} {side.backend} {side.precision} {item.name}"
    for key in (level, f"{level} {side.backend} {side.precision}"):
        found[key] = max(found.get(key, (0.0, "")), (item.floor_multiples, where))


def report(level: str, measured: float, where: str) -> bool:
    """Print one line of the table; return whether its limit fits."""
    limit = LIMITS.get(level)
    if limit is None:
        flush(f"    {level:<35} {measured:8.2f}  {where}")
        return True
    verdict = "too tight" if measured > limit.multiples else "fits"
    verdict = "too wide" if limit.multiples > 10.0 * measured else verdict
    flush(f"{level:<13} {measured:6.2f}  limit {limit.multiples:5.1f}  {verdict:<9}  {where}")
    return verdict == "fits"


if __name__ == "__main__":
    sys.exit(main())
