"""How far two arrays are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from resnet_spec.contract import Array


@dataclass(frozen=True, slots=True)
class Difference:
    """Errors of one named thing.

    max_abs: the largest absolute error, and `index` where it is.
    max_rel: that over the largest magnitude expected. Relative errors are by tensor and not by
        element: an element that cancels to nearly nothing has no digits to agree in.
    element_rel: the largest error of an element over that element, all the same.
    cosine: of the angle between both, as vectors.
    """

    name: str
    max_abs: float
    max_rel: float
    element_rel: float = 0.0
    cosine: float = 1.0
    index: tuple[int, ...] = ()


def apart(name: str) -> Difference:
    """Return the difference of things that cannot be subtracted."""
    return Difference(name, math.inf, math.inf, math.inf, math.nan)


def difference(name: str, got: Array | None, expected: Array | None) -> Difference:
    """Compare two arrays in float64; another shape, or a value that is not finite, is infinite."""
    if got is None or expected is None or got.shape != expected.shape:
        return apart(name)
    if expected.size == 0:
        return Difference(name, 0.0, 0.0)
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        errors, sizes = np.abs(a - b), np.abs(b)
    place = int(errors.argmax())
    error, scale = float(errors.flat[place]), float(sizes.max())
    if not (math.isfinite(error) and math.isfinite(scale)):
        return apart(name)
    if error == 0.0:
        return Difference(name, 0.0, 0.0)
    index = tuple(int(i) for i in np.unravel_index(place, b.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        by_element = float(np.max(errors / sizes, initial=0.0, where=errors > 0))
    max_rel = error / scale if scale > 0 else math.inf
    return Difference(name, error, max_rel, by_element, _cosine(a, b), index)


def differences(
    got: Mapping[str, Array], expected: Mapping[str, Array], names: Iterable[str]
) -> list[Difference]:
    """Compare the arrays called `names`; one that a side lacks is infinitely far off."""
    return [difference(name, got.get(name), expected.get(name)) for name in names]


def _cosine(a: Array, b: Array) -> float:
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.vdot(a, b)) / lengths if lengths > 0 else 0.0
