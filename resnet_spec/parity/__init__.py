"""Proof that backends compute the same function, in inference and in training.

One setup (weights, batches, noise, rates) is given to a backend and to the float64 reference; what
they compute is compared level by level, and each difference judged in multiples of the noise floor.
"""

from __future__ import annotations

from resnet_spec.parity.compare import compare_backends
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.own import compare

__all__ = ["LEVELS", "compare", "compare_backends"]
