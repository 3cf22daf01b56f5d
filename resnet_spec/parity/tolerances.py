"""The one table of tolerances: the limit, the value measured, and the reason of both.

A figure is the largest error of a tensor over its largest magnitude, against the float64
reference, the worst of all cases of parity_tests/cases.py, on batches that keep clear of ReLU
corners. They were measured on x86-64 (AVX2) with torch 2.13, jax 0.10.2 and MindSpore 2.10;
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
    "update": "The rate times the gradients' error, and one rounding of the weight.",
    "velocity": "As the gradients, of which it is made.",
    "trajectory": "Rounding grows with the steps; see docs/parity.md for the backends' own drift.",
}

TOLERANCES: dict[tuple[str, str, str], Tolerance] = {
    ("logits", "numpy", "float32"): Tolerance(3e-6, 3.7e-7),
    ("logits", "torch", "float32"): Tolerance(3e-6, 3.3e-7),
    ("logits", "torch", "float64"): Tolerance(4e-15, 5.4e-16),
    ("logits", "flax", "float32"): Tolerance(3e-6, 3.7e-7),
    ("logits", "flax", "float64"): Tolerance(4e-15, 5e-16),
    ("logits", "mindspore", "float32"): Tolerance(3e-6, 3.3e-7),
    ("train_logits", "numpy", "float32"): Tolerance(4e-6, 4.4e-7),
    ("train_logits", "torch", "float32"): Tolerance(1e-5, 1.2e-6),
    ("train_logits", "torch", "float64"): Tolerance(2e-14, 2.9e-15),
    ("train_logits", "flax", "float32"): Tolerance(6e-6, 7.6e-7),
    ("train_logits", "flax", "float64"): Tolerance(2e-14, 2.2e-15),
    ("train_logits", "mindspore", "float32"): Tolerance(3e-6, 4.3e-7),
    ("gradients", "numpy", "float32"): Tolerance(1e-5, 1.6e-6),
    ("gradients", "torch", "float32"): Tolerance(9e-5, 1.1e-5),
    ("gradients", "torch", "float64"): Tolerance(2e-13, 2.5e-14),
    ("gradients", "flax", "float32"): Tolerance(9e-5, 1.1e-5),
    ("gradients", "flax", "float64"): Tolerance(1e-13, 1.6e-14),
    ("gradients", "mindspore", "float32"): Tolerance(2e-5, 2.2e-6),
    ("statistics", "numpy", "float32"): Tolerance(1e-6, 1.6e-7),
    ("statistics", "torch", "float32"): Tolerance(1e-5, 1.2e-6),
    ("statistics", "torch", "float64"): Tolerance(8e-15, 9.9e-16),
    ("statistics", "flax", "float32"): Tolerance(3e-6, 4.3e-7),
    ("statistics", "flax", "float64"): Tolerance(5e-15, 6.8e-16),
    ("statistics", "mindspore", "float32"): Tolerance(1e-6, 1.8e-7),
    ("update", "numpy", "float32"): Tolerance(5e-6, 6.2e-7),
    ("update", "torch", "float32"): Tolerance(6e-6, 7e-7),
    ("update", "torch", "float64"): Tolerance(1e-14, 1.3e-15),
    ("update", "flax", "float32"): Tolerance(3e-6, 4.2e-7),
    ("update", "flax", "float64"): Tolerance(1e-14, 1.5e-15),
    ("update", "mindspore", "float32"): Tolerance(7e-6, 9e-7),
    ("velocity", "numpy", "float32"): Tolerance(1e-5, 1.6e-6),
    ("velocity", "torch", "float32"): Tolerance(9e-5, 1.1e-5),
    ("velocity", "torch", "float64"): Tolerance(2e-13, 2.4e-14),
    ("velocity", "flax", "float32"): Tolerance(9e-5, 1.1e-5),
    ("velocity", "flax", "float64"): Tolerance(1e-13, 1.2e-14),
    ("velocity", "mindspore", "float32"): Tolerance(2e-5, 2.2e-6),
    ("trajectory", "numpy", "float32"): Tolerance(2e-6, 2.1e-7),
    ("trajectory", "torch", "float32"): Tolerance(2e-6, 2.9e-7),
    ("trajectory", "torch", "float64"): Tolerance(6e-15, 7e-16),
    ("trajectory", "flax", "float32"): Tolerance(3e-6, 3.2e-7),
    ("trajectory", "flax", "float64"): Tolerance(8e-15, 9.8e-16),
    ("trajectory", "mindspore", "float32"): Tolerance(4e-6, 5.3e-7),
}


def tolerance(level: str, backend: str, precision: Precision) -> float:
    """Return the limit for `backend`; one that is not in the table gets the widest of ours."""
    known = TOLERANCES.get((level, backend, precision))
    if known is not None:
        return known.limit
    limits = [t.limit for (at, _, p), t in TOLERANCES.items() if (at, p) == (level, precision)]
    return max(limits)
