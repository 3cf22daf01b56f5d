"""How far two arrays are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from resnet_spec.contract import Array

_PART = 1 << 13
"""Values that are compared at a time: what is made of them stays in a processor's cache, and NumPy
takes products of so few in one thread."""


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
    flat_got, flat_expected = got.reshape(-1), expected.reshape(-1)
    sums, error, place = np.zeros(3), 0.0, 0
    scale = by_element = 0.0
    for start in range(0, expected.size, _PART):
        a = flat_got[start : start + _PART].astype(np.float64)
        b = flat_expected[start : start + _PART].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            errors, sizes = np.abs(a - b), np.abs(b)
            sums += np.dot(a, b), np.dot(a, a), np.dot(b, b)
        worst, largest = int(errors.argmax()), float(sizes.max())
        if not (math.isfinite(errors[worst]) and math.isfinite(largest)):
            return apart(name)
        scale = max(scale, largest)
        if errors[worst] > error:
            error, place = float(errors[worst]), start + worst
        if errors[worst] > 0.0:
            with np.errstate(divide="ignore", invalid="ignore"):
                found = float(np.max(errors / sizes, initial=0.0, where=errors > 0))
            by_element = max(by_element, found)
    if error == 0.0:
        return Difference(name, 0.0, 0.0)
    index = tuple(int(i) for i in np.unravel_index(place, expected.shape))
    max_rel = error / scale if scale > 0 else math.inf
    return Difference(name, error, max_rel, by_element, _cosine(*sums.tolist()), index)


def differences(
    got: Mapping[str, Array], expected: Mapping[str, Array], names: Iterable[str]
) -> list[Difference]:
    """Compare the arrays called `names`; one that a side lacks is infinitely far off."""
    return [difference(name, got.get(name), expected.get(name)) for name in names]


def _cosine(product: float, got: float, expected: float) -> float:
    """Return the cosine of two vectors of their product and each one's with itself."""
    lengths = math.sqrt(got) * math.sqrt(expected)
    return product / lengths if lengths > 0 else 0.0
