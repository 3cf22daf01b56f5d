"""The one table of limits: how many noise floors count as rounding, and what was measured.

A figure is the largest error of a tensor in multiples of its noise floor (see `floors`), the worst
of all backends, precisions and cases of parity_tests/cases.py, as `scripts/measure_limits.py` finds
it. A limit is at most ten times what was measured.
"""

from __future__ import annotations

from typing import NamedTuple


class Limit(NamedTuple):
    """The largest multiple of the floor that counts as rounding, and the largest one measured."""

    multiples: float
    measured: float
    reason: str


SUSPECT = 10.0
"""Up to this many limits an error is suspect: more than was ever seen of rounding, and less than
most bugs make."""

LIMITS: dict[str, Limit] = {
    "logits": Limit(8.0, 1.6, "A few rounding errors per layer, averaged by the global pool."),
    "activations": Limit(
        24.0,
        14.4,
        "MindSpore's sigmoid is off by 21 roundings; 2.4 in torch and Flax.",
    ),
    "train_logits": Limit(8.0, 1.5, "As in evaluation, and those of the batch statistics."),
    "gradients": Limit(
        16.0,
        10.4,
        "Sums over batch and pixels that cancel; MindSpore's sigmoid. 4.9 in torch and Flax.",
    ),
    "statistics": Limit(12.0, 3.0, "A channel's mean cancels where small against the deviation."),
    "update": Limit(16.0, 6.5, "The rate times the gradients' error, and one rounding."),
    "trajectory": Limit(16.0, 4.6, "Rounding grows with the steps."),
    "processes": Limit(16.0, 4.6, "As in a run of one process; slots and averages, too."),
    "accuracy": Limit(
        16.0,
        3.2,
        "Not measured but derived: a gap of two logits, so twice the figures of `logits`.",
    ),
}
