"""The one table of tolerances: the limit, the value measured, and the reason of both.

A figure is the largest error of a tensor over its largest magnitude, against the float64
reference, the worst of all cases of parity_tests/cases.py and of resnet20_cifar. They were
measured on x86-64 (AVX2) with torch 2.13, jax 0.10.2 and MindSpore 2.10;
`scripts/measure_tolerances.py` measures them again. A limit is at most ten times what was measured.
"""

from __future__ import annotations

from typing import NamedTuple

from resnet_spec.contract import Precision


class Tolerance(NamedTuple):
    """The largest relative error that counts as rounding, and the largest one measured."""

    limit: float
    measured: float


REASONS = {
    "logits": "A few rounding errors per layer, averaged by the global pool.",
    "train_logits": "As in evaluation, and those of the batch statistics.",
    "gradients": "Sums over batch and pixels that cancel: norm shifts have the largest errors.",
    "statistics": "The mean of a channel cancels where it is small against the deviation.",
    "update": "The velocity after one step is the gradient and the decayed weight.",
    "trajectory": "Rounding grows with the steps; see docs/parity.md for the backends' own drift.",
}

TOLERANCES: dict[tuple[str, str, str], Tolerance] = {}


def tolerance(level: str, backend: str, precision: Precision) -> float:
    """Return the limit for `backend`; one that is not in the table gets the widest of ours."""
    known = TOLERANCES.get((level, backend, precision))
    if known is not None:
        return known.limit
    limits = [t.limit for (at, _, p), t in TOLERANCES.items() if (at, p) == (level, precision)]
    return max(limits)
