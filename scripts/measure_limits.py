#!/usr/bin/env python3
"""Measure what the table of limits holds, and say where it is off.

    python scripts/measure_limits.py [BACKEND ...]

For every level: the largest error of a tensor in multiples of its noise floor over all cases,
backends and precisions, where it was, and the limit; then the same by backend and precision. The
last lines are the largest error of a sigmoid in roundings, given its own input. Takes ten minutes;
exit status 1 when a limit is exceeded, or is more than ten times what was measured.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "parity_tests"))

from cases import CASES  # pyright: ignore[reportMissingImports]
from pairs import PRECISIONS, REFERENCE  # pyright: ignore[reportMissingImports]

from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.ops import Activation
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.limits import LIMITS
from resnet_spec.parity.setup import make_recipe
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import smooth_side
from resnet_spec.parity.verdicts import first_look
from resnet_spec.planning.dataflow import steps

SIGMOID = "sigmoid"
"""Not a level, and so without a limit: what localise/evidence.py allows an exponential."""
flush = partial(print, flush=True)
Worst = dict[str, tuple[float, str]]


def main() -> int:
    backends = sys.argv[1:] or installed_backends()
    found: Worst = {}
    for case in CASES.values():
        expected, _ = smooth_side(case.plan, make_recipe(), whole_run=True)
        flush(f"{case.name}: seed {expected.setup.seed}", file=sys.stderr)
        for precision in PRECISIONS:
            floors = Floors(expected, precision)
            for backend in backends:
                if precision not in load_backend(backend).PRECISIONS or backend == REFERENCE:
                    continue
                side = Side(backend, expected.setup, precision)
                for level in LIMITS:
                    if level != "accuracy":
                        item = first_look(level, side, floors).worst
                        _note(found, level, item.floor_multiples, side, f"{case.name} {item.name}")
                for name, roundings in sigmoids(side):
                    _note(found, SIGMOID, roundings, side, f"{case.name} {name}")
    fits = [report(level, *found[level]) for level in found]
    return 0 if all(fits) else 1


def _note(found: Worst, level: str, multiples: float, side: Side, where: str) -> None:
    who = f"{side.backend} {side.precision}"
    for key, text in ((level, f"{who}: {where}"), (f"{level} {who}", where)):
        found[key] = max(found.get(key, (0.0, "")), (multiples, text))


def sigmoids(side: Side) -> Iterator[tuple[str, float]]:
    """Yield the error of each sigmoid given its own input, in roundings of the largest output."""
    for step in steps(side.setup.plan):
        if isinstance(step.node, Activation) and step.node.kind == "sigmoid":
            x = side.evaluated[step.inputs[0].name].astype(np.float64)
            error = difference("", side.evaluated[step.node.name], 1.0 / (1.0 + np.exp(-x)))
            yield step.node.name, error.max_rel / UNIT[side.precision]


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
