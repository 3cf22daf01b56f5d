"""Axes: from values to pixels, linear or logarithmic, and where their ticks stand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from resnet_spec.printing.markup import Markup, element

_DECADES = 20
"""A logarithmic axis shows no more than this many powers of ten below its largest value."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end` (up the page, end < start).

    log: whether equal factors, and not equal steps, are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of `value`; values beyond the ends are put at the ends."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values on the axis, at most about `most` of them."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1, -(-(last - first) // most))]
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def log_axis(values: Iterable[float], start: float, end: float) -> Axis | None:
    """Return an axis of whole powers of ten around the positive, finite values; None without.

    It begins clearly below the least of them, so that a bar of it is seen.
    """
    known = [value for value in values if value > 0 and math.isfinite(value)]
    if not known:
        return None
    high = math.ceil(math.log10(max(known)))
    low = max(math.floor(math.log10(min(known)) - 0.2), high - _DECADES)
    return Axis(10.0 ** min(low, high - 1), 10.0**high, start, end, log=True)


def linear_axis(values: Iterable[float], start: float, end: float) -> Axis | None:
    """Return an axis around the finite values; None without."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    low, high = min(known), max(known)
    spare = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low - spare, high + spare, start, end)


def grid(axis: Axis, left: float, right: float) -> Markup:
    """Return the lines and labels of an upright axis."""
    parts: list[str] = []
    ticks = axis.ticks()
    for value in ticks:
        y = axis.at(value)
        parts.append(element("path", class_="grid", d=f"M{left:g} {y:.1f}H{right:g}"))
        label = f"{value:.0e}" if axis.log else f"{value:.4g}"
        parts.append(element("text", label, class_="tick end", x=left - 5, y=y + 3.5))
    return Markup("".join(parts))


def _round_step(step: float) -> float:
    """Return the next larger of 1, 2, 5, 10 ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))
