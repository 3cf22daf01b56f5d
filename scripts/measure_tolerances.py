#!/usr/bin/env python3
"""Measure what parity_tests' table of tolerances holds, and say where the table is off.

    python scripts/measure_tolerances.py [BACKEND ...]

For each backend and precision: the worst relative error at every level over all cases, where it
was, and the limit; and each backend's own drift under one ulp, which bounds what a trajectory can
show. Takes some minutes; exit status 1 when a limit is exceeded, or is more than ten times what was
measured.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "parity_tests"))

from cases import CASES  # pyright: ignore[reportMissingImports]
from pairs import PRECISIONS  # pyright: ignore[reportMissingImports]

from resnet_spec.contract import Precision
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.comparison import worst
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.settle import REFERENCE, settle
from resnet_spec.parity.setup import make_recipe
from resnet_spec.parity.side import Side
from resnet_spec.parity.tolerances import TOLERANCES
from resnet_spec.parity.verdicts import own_drift

flush = partial(print, flush=True)


def main() -> int:
    backends = sys.argv[1:] or installed_backends()
    found: dict[tuple[str, str, Precision], tuple[float, str]] = {}
    drifts: dict[tuple[str, str], tuple[float, str]] = {}
    for name, expected in references():
        flush(f"{name}: seed {expected.setup.seed}", file=sys.stderr)
        for backend in backends:
            for precision in PRECISIONS:
                if precision not in load_backend(backend).PRECISIONS:
                    continue
                if (backend, precision) == (REFERENCE, "float64"):
                    continue
                got = Side(backend, expected.setup, precision)
                for level in (key for key in LEVELS if not LEVELS[key].exact):
                    error = worst(LEVELS[level].compare(got, expected))
                    key = (level, backend, precision)
                    found[key] = max(
                        found.get(key, (0.0, "")), (error.max_rel, f"{name} {error.name}")
                    )
                key = (backend, precision)
                drifts[key] = max(drifts.get(key, (0.0, "")), (own_drift(got), name))
    fits = [report(*key, *found[key]) for key in sorted(found)]
    for (backend, precision), (drift, name) in sorted(drifts.items()):
        flush(f"own drift under one ulp: {backend} {precision} {drift:.1e} ({name})")
    return 0 if all(fits) else 1


def references() -> Iterator[tuple[str, Side]]:
    for case in CASES.values():
        yield case.name, settle(case.plan, make_recipe(), whole_run=True)[0]


def report(level: str, backend: str, precision: str, measured: float, where: str) -> bool:
    """Print one line of the table; return whether its limit fits."""
    entry = TOLERANCES.get((level, backend, precision))
    limit = entry.limit if entry else 0.0
    verdict = "too tight" if measured > limit else "too wide" if limit > 10 * measured else "fits"
    line = f"{level:<13} {backend:<10} {precision}  {measured:.1e}  limit {limit:.1e}"
    flush(f"{line}  {verdict:<9}  {where}")
    return verdict == "fits"


if __name__ == "__main__":
    sys.exit(main())
