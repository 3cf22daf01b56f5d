"""The chart of a level: one bar per item in order of execution, one strip per backend.

The strips share both axes, so that a column is one item. Bars of a verdict are one path, and an
item's tooltip is one for all strips: a thousand items stay a few hundred kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from resnet_spec.printing.markup import Markup, element, join, px, small, times
from resnet_spec.reporting.html.axes import Axis, grid, log_axis
from resnet_spec.reporting.html.words import SIGNS
from resnet_spec.reporting.report import Item, Row

_LEFT, _RIGHT, _WIDTH = 56, 1092, 1100
_HEAD, _PLOT, _GAP = 22, 96, 12
_BEYOND = 14
"""Height of the strip above an axis in which bars of infinite errors end."""
_NAMED = 36
"""Up to so many items each have their name below; more have the names of their stages."""
_LETTERS = 30
"""Of a longer name both ends are shown."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the items called `names` stand."""

    names: tuple[str, ...]

    @property
    def slot(self) -> float:
        return min((_RIGHT - _LEFT) / len(self.names), 48.0)

    @property
    def bar(self) -> float:
        """How wide a bar is; without gaps where they would be finer than a screen shows."""
        return min(0.8 * self.slot, 16.0) if self.slot > 2.5 else self.slot

    @property
    def are_named(self) -> bool:
        """Whether every column has its name below it."""
        return len(self.names) <= _NAMED

    @property
    def foot(self) -> float:
        """How high the labels are."""
        return 5.7 * min(_LETTERS, max(map(len, self.names))) + 8 if self.are_named else 28

    def middle(self, place: int) -> float:
        return _LEFT + (place + 0.5) * self.slot


def error_chart(rows: Sequence[Row]) -> Markup | None:
    """Return the chart of one level's rows; None when no item is off at all."""
    if all(item.max_rel == 0 for row in rows for item in row.items):
        return None
    shown = [row for row in rows if row.items]
    # The row with most items gives the order; what others have besides follows.
    longest_first = sorted(shown, key=lambda row: -len(row.items))
    columns = _Columns(tuple(dict.fromkeys(i.name for row in longest_first for i in row.items)))
    strips = [_strip(row, columns, place, _axis(shown, place)) for place, row in enumerate(shown)]
    foot = _top(len(shown))
    parts = [*strips, *_labels(columns, foot), *_tooltips(shown, columns, foot)]
    label = f"Errors of {rows[0].level} by item"
    view = f"0 0 {_WIDTH} {foot + columns.foot:.0f}"
    return element("svg", Markup("".join(parts)), viewBox=view, role="img", aria_label=label)


def _top(place: int) -> int:
    """Return where the strip of the row at `place` begins."""
    return place * (_HEAD + _BEYOND + _PLOT + _GAP)


def _axis(rows: Sequence[Row], place: int) -> Axis:
    """Return one axis for all rows, at the height of the strip at `place`."""
    values: list[float] = []
    for row in rows:
        for item in row.items:
            values += (item.max_rel, item.floor, item.floor * row.limit)
    end = _top(place) + _HEAD + _BEYOND
    axis = log_axis(values, end + _PLOT, end)
    return axis or Axis(1e-9, 1.0, end + _PLOT, end, log=True)


def _strip(row: Row, columns: _Columns, place: int, axis: Axis) -> Markup:
    at = {name: n for n, name in enumerate(columns.names)}
    title = element("text", row.backend, class_="strip", x=_LEFT, y=_top(place) + 15)
    verdict = f"{SIGNS[row.verdict]} {row.verdict}"
    side = element("text", verdict, class_="tick end", x=_RIGHT, y=_top(place) + 15)
    parts = [title, side, grid(axis, _LEFT, _RIGHT)]
    if any(not math.isfinite(item.max_rel) for item in row.items):
        parts.append(element("text", "∞", class_="tick end", x=_LEFT - 5, y=axis.end - 5))
    band, floor = _rounding(row, columns, at, axis)
    return Markup("".join([*parts, band, *_bars(row, columns, at, axis), floor]))


def _bars(row: Row, columns: _Columns, at: dict[str, int], axis: Axis) -> Iterator[Markup]:
    """Yield one path per verdict; no error is a bar of 1.5 pixels, to be told from no item."""
    for verdict in SIGNS:
        steps: list[str] = []
        for item in row.items:
            if item.verdict == verdict:
                x = columns.middle(at[item.name])
                steps.append(f"M{px(x)} {px(axis.start)}V{px(_end(item, axis))}")
        if steps:
            kind = f"bar {verdict}"
            yield element("path", class_=kind, d="".join(steps), stroke_width=columns.bar)


def _end(item: Item, axis: Axis) -> float:
    if not math.isfinite(item.max_rel):
        return axis.end - _BEYOND
    return axis.at(item.max_rel) if item.max_rel > 0 else axis.start - 1.5


def _rounding(row: Row, columns: _Columns, at: dict[str, int], axis: Axis) -> tuple[Markup, Markup]:
    """Return the band from the floor to the limit, and the line of the floor to lie on the bars."""
    floors: list[float] = [0.0] * len(columns.names)
    for item in row.items:
        floors[at[item.name]] = item.floor
    band: list[str] = []
    line: list[str] = []
    for known, places in groupby(range(len(floors)), key=lambda place: floors[place] > 0):
        run = list(places)
        if known:
            lower = _stairs([axis.at(floors[place]) for place in run], run[0], columns)
            upper = [axis.at(floors[place] * max(row.limit, 1.0)) for place in run]
            back = _stairs(upper, run[0], columns, backwards=True)
            line.append(f"M{lower}")
            band.append(f"M{lower}L{back}Z")
    return (
        element("path", class_="band", d="".join(band)),
        element("path", class_="floor", d="".join(line)),
    )


def _stairs(heights: list[float], first: int, columns: _Columns, backwards: bool = False) -> str:
    """Return a path through `heights`, level over each column; its first command is left out."""
    edges = [_LEFT + (first + n) * columns.slot for n in range(len(heights) + 1)]
    if backwards:
        heights, edges = heights[::-1], edges[::-1]
    steps = [f"{px(edges[0])} {px(heights[0])}"]
    for n, height in enumerate(heights):
        last = n + 1 == len(heights)
        if last or px(heights[n + 1]) != px(height):
            steps.append(f"H{px(edges[n + 1])}" + ("" if last else f"V{px(heights[n + 1])}"))
    return "".join(steps)


# --- What stands below, and the tooltips ----------------------------------------------------------


def _labels(columns: _Columns, foot: int) -> Iterator[Markup]:
    """Yield the names of the items where they fit, else of the stages that they are of."""
    if columns.are_named:
        for place, name in enumerate(columns.names):
            half = _LETTERS // 2
            shown = name if len(name) <= _LETTERS else f"{name[: half - 1]}…{name[-half:]}"
            x, y = columns.middle(place) + 3.5, foot
            turned = f"rotate(-90 {px(x)} {y})"
            yield element("text", shown, class_="tick end", x=x, y=y, transform=turned)
        return
    yield from _runs([_stage(name) for name in columns.names], columns, foot + 6)
    yield from _runs([_mode(name) for name in columns.names], columns, foot + 21)


def _runs(labels: list[str], columns: _Columns, y: float) -> Iterator[Markup]:
    """Yield a label for every run of equal ones that is wide enough to hold it."""
    place = 0
    for label, run in groupby(labels):
        count = len(list(run))
        x = _LEFT + place * columns.slot
        if label and count * columns.slot > 6.2 * len(label) + 4:
            yield element("path", class_="grid", d=f"M{px(x)} {px(y - 11)}v14")
            yield element("text", label, class_="tick", x=x + 3, y=y)
        place += count


def _stage(name: str) -> str:
    """Return `layer1` of `momentum/layer1.0.bn1.weight` and of `layer1.0.bn1 (train)`."""
    return name.rpartition("/")[2].partition(" ")[0].partition(".")[0]


def _mode(name: str) -> str:
    """Return `momentum` of the one, `train` of the other."""
    slot, slash, _ = name.rpartition("/")
    return slot if slash else name.partition(" (")[2].removesuffix(")")


def _tooltips(rows: Sequence[Row], columns: _Columns, foot: int) -> Iterator[Markup]:
    """Yield an unseen column per item over all strips, with its numbers in all of them."""
    found = [{item.name: item for item in row.items} for row in rows]
    hits: list[str] = []
    for place, name in enumerate(columns.names):
        pairs = zip(rows, found, strict=True)
        lines = [_numbers(row, items[name]) for row, items in pairs if name in items]
        title = element("title", join([name, *lines], "\n"))
        hits.append(element("path", title, d=f"M{px(columns.middle(place))} 0V{foot}"))
    yield element("g", Markup("".join(hits)), class_="hits", stroke_width=columns.slot)


def _numbers(row: Row, item: Item) -> str:
    error = f"{row.backend}: {small(item.max_rel)}"
    if not item.floor:
        return error if item.max_rel == 0 else f"{error} {item.verdict}"
    return f"{error} = {times(item.floor_multiples)} × {small(item.floor)} {item.verdict}"
