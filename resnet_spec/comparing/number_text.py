"""Numbers of a comparison as texts."""

from __future__ import annotations

from resnet_spec.comparing.statistics import Sample


def number(value: float | None, digits: int) -> str:
    """Return a number with so many decimals, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(accuracy: Sample) -> str:
    """Return an accuracy's error in percent, with its standard deviation."""
    if accuracy.mean is None:
        return "-"
    error = f"{100 * (1 - accuracy.mean):.2f}"
    return error if accuracy.std is None else f"{error} ± {100 * accuracy.std:.2f}"


def points(value: float) -> str:
    """Return a fraction in percentage points."""
    return f"{100 * value:.2f}"


def signed_points(value: float | None, digits: int = 2) -> str:
    """Return a difference in percentage points, with its sign."""
    # 0.0 is added, for a small negative number is not to be shown as -0.00.
    return "-" if value is None else f"{round(100 * value, digits) + 0.0:+.{digits}f}"


def duration(seconds: float | None) -> str:
    """Return a time in the unit that suits it."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"
