"""How far two arrays are apart. Imports `contract` only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array


class Difference(NamedTuple):
    """Errors of one named thing: the largest absolute one, and that over the largest magnitude.

    Relative errors are by tensor and not by element: an element that cancels to nearly nothing
    has no digits to agree in.
    """

    name: str
    max_abs: float
    max_rel: float


EQUAL = Difference("", 0.0, 0.0)


def apart(name: str) -> Difference:
    """Return the difference of things that cannot be subtracted."""
    return Difference(name, math.inf, math.inf)


def difference(name: str, got: Array | None, expected: Array | None) -> Difference:
    """Compare two arrays in float64; another shape, or a value that is not finite, is infinite."""
    if got is None or expected is None or got.shape != expected.shape:
        return apart(name)
    if expected.size == 0:
        return Difference(name, 0.0, 0.0)
    error = float(np.max(np.abs(got.astype(np.float64) - expected)))
    scale = float(np.max(np.abs(expected)))
    if not math.isfinite(error):
        return apart(name)
    if error == 0.0:
        return Difference(name, 0.0, 0.0)
    return Difference(name, error, error / scale if scale > 0 else math.inf)


def differences(
    got: Mapping[str, Array], expected: Mapping[str, Array], names: Iterable[str]
) -> list[Difference]:
    """Compare the arrays called `names`; one that a side lacks is infinitely far off."""
    return [difference(name, got.get(name), expected.get(name)) for name in names]


def worst(found: Iterable[Difference]) -> Difference:
    """Return the largest by relative, then by absolute error."""
    return max(found, key=lambda d: (d.max_rel, d.max_abs), default=EQUAL)
