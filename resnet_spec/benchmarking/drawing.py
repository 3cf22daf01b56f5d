"""Bars of a benchmark: who is how fast, with the spread over rounds.

Needs matplotlib: pip install 'resnet-spec[plots]'.
"""

from __future__ import annotations

import textwrap
from typing import Any

from resnet_spec.benchmarking.results import Result
from resnet_spec.benchmarking.tables import turns_of
from resnet_spec.reporting.plots import COLOURS, new_figure

_CAPTION = 90
"""Characters that a line under the figure has room for."""


def bars_figure(result: Result) -> Any:
    """Return a bar of images/s for each contestant, the first on top.

    A whisker goes from the lower to the upper quartile, behind it stands the number, and below it
    the ratio to whom it is compared with. Backends and peers differ in colour. Raises DataError
    without matplotlib.
    """
    count = len(result.measured)
    figure = new_figure(8, 1.3 + 0.5 * max(count, 1), result.asked.title)
    axes = figure.subplots()
    speeds = [result.speed(one) for one in result.measured]
    widths = [speed.median for speed in speeds]
    errors = [[s.median - s.low for s in speeds], [s.high - s.median for s in speeds]]
    colours = [COLOURS[0] if one.entry.is_ours else COLOURS[5] for one in result.measured]
    look = {"color": colours, "height": 0.62, "ecolor": "0.25", "capsize": 3}
    drawn = axes.barh(range(count), widths, xerr=errors, **look)
    labels = [_label(result, place) for place in range(count)]
    axes.bar_label(drawn, labels, padding=6, fontsize=9)
    axes.set_yticks(range(count), [one.name for one in result.measured])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.5 * max((speed.high for speed in speeds), default=1.0))
    axes.set_xlabel("images/s, the median over rounds (whisker: quartiles)")
    # Of the whole figure's width: long names leave the axes little.
    figure.supxlabel(_where(result), fontsize=9).set_parse_math(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _where(result: Result) -> str:
    """Return where and how often it was measured: a timing says nothing without."""
    asked, machine = result.asked, result.machine
    devices = ", ".join(dict.fromkeys(one.device for one in result.measured))
    where = f"{machine.cpu}, {machine.isa}" if machine.isa else machine.cpu
    lines = [f"device {devices}; {where}", f"threads {asked.threads}; {turns_of(result)}"]
    return "\n".join(piece for line in lines for piece in textwrap.wrap(line, _CAPTION))


def _label(result: Result, place: int) -> str:
    one = result.measured[place]
    speed, ratio, base = result.speed(one).median, result.ratio(one), result.base(one)
    text = f"{speed:.0f}" if speed >= 100 else f"{speed:.3g}"
    if ratio is None or base is None or ratio.median <= 0:
        return text
    return f"{text}  ({1 / ratio.median:.2f} times {base.name})"
