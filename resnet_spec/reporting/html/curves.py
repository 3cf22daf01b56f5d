"""The curves of a trajectory: losses on a linear axis, everything else on a logarithmic one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from resnet_spec.printing.markup import Markup, element, join, px
from resnet_spec.reporting.html.axes import Axis, grid, linear_axis, log_axis
from resnet_spec.reporting.report import Row

_LEFT, _RIGHT, _WIDTH, _TOP, _BOTTOM = 56.0, 532.0, 540, 12.0, 200.0
_COLOURS = 7
"""How many colours the style sheet has for curves; dashes tell the next seven apart."""
_BUCKETS = 240
"""A longer curve is drawn by the extremes of so many stretches."""

Curves = Mapping[str, Sequence[float]]


def curve_charts(row: Row) -> Markup | None:
    """Return a row's charts side by side; None without curves."""
    losses = {name: values for name, values in row.curves.items() if _is_loss(name)}
    others = {name: values for name, values in row.curves.items() if not _is_loss(name)}
    others = loss_error(losses) | others
    charts = [
        _chart(f"{row.backend}: loss", losses, log=False),
        _chart(f"{row.backend}: how far apart", others, log=True),
    ]
    drawn = [chart for chart in charts if chart is not None]
    return element("div", *drawn, class_="charts") if drawn else None


def loss_error(losses: Curves) -> dict[str, Sequence[float]]:
    """Return the error of the loss at every step, over the largest loss of the reference.

    Two losses that agree lie on each other; the error shows by how much they do. Nothing when
    either curve is missing.
    """
    got, expected = losses.get("loss", ()), losses.get("reference loss", ())
    scale = max((abs(value) for value in expected if math.isfinite(value)), default=0.0)
    if not got or len(got) != len(expected) or scale == 0:
        return {}
    errors = tuple(abs(a - b) / scale for a, b in zip(got, expected, strict=True))
    return {"error of the loss": errors}


def extremes(values: Sequence[float], buckets: int = _BUCKETS) -> list[tuple[int, float]]:
    """Return (step, value), of a long curve only the least and the largest of each bucket.

    A value that is not finite stays, so that the curve is seen to break there.
    """
    if len(values) <= 2 * buckets:
        return list(enumerate(values))
    kept: list[tuple[int, float]] = []
    for n in range(buckets):
        first, last = n * len(values) // buckets, (n + 1) * len(values) // buckets
        known = [step for step in range(first, last) if math.isfinite(values[step])]
        broken = [step for step in range(first, last) if not math.isfinite(values[step])][:1]
        by_value = sorted(known, key=lambda step: values[step])
        kept += [(step, values[step]) for step in sorted({*by_value[:1], *by_value[-1:], *broken})]
    return kept


def _is_loss(name: str) -> bool:
    return name == "loss" or name.endswith(" loss")


def _chart(title: str, curves: Curves, log: bool) -> Markup | None:
    values = [value for curve in curves.values() for value in curve]
    axis = (log_axis if log else linear_axis)(values, _BOTTOM, _TOP)
    if axis is None:
        return None
    steps = Axis(0, max(1, *(len(curve) - 1 for curve in curves.values())), _LEFT, _RIGHT)
    lines = [_line(n, curve, steps, axis) for n, curve in enumerate(curves.values())]
    parts = [grid(axis, _LEFT, _RIGHT), *_steps(steps), *lines]
    picture = element(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_BOTTOM + 34:g}", role="img", aria_label=title
    )
    keys = [_key(n, name) for n, name in enumerate(curves)]
    caption = element("figcaption", element("b", title), " ", join(keys, " "))
    return element("figure", caption, picture)


def _steps(steps: Axis) -> Iterator[Markup]:
    for step in steps.ticks():
        if step == round(step):
            yield element(
                "text", f"{step:g}", class_="tick middle", x=steps.at(step), y=_BOTTOM + 15
            )
    middle = (_LEFT + _RIGHT) / 2
    yield element("text", "step", class_="tick middle", x=middle, y=_BOTTOM + 29)


def _line(place: int, values: Sequence[float], steps: Axis, axis: Axis) -> Markup:
    """Return a curve, broken where it is not finite or where a logarithm has no place for zero."""
    path: list[str] = []
    command = "M"
    for step, value in extremes(values):
        if not math.isfinite(value) or (axis.log and value <= 0):
            command = "M"
            continue
        path.append(f"{command}{px(steps.at(step))} {px(axis.at(value))}")
        if command == "M":
            path.append("h.1")  # A point between two gaps is seen as one.
        command = "L"
    return element("path", class_=_look(place), d="".join(path))


def _key(place: int, name: str) -> Markup:
    sample = element("path", class_=_look(place), d="M0 5H26")
    picture = element("svg", sample, viewBox="0 0 26 10", class_="key", aria_hidden="true")
    return element("span", picture, " ", name, class_="legend")


def _look(place: int) -> str:
    dashed = " dashed" if place % 2 or place >= _COLOURS else ""
    return f"curve c{place % _COLOURS}{dashed}"
