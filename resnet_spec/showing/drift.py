"""How far backends are from the reference at every node, from the JSON of a parity report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from resnet_spec.errors import DataError, did_you_mean
from resnet_spec.printing.columns import Column, fitted
from resnet_spec.printing.consoles import table_width
from resnet_spec.reporting.plots import COLOURS, MARKERS, new_figure

_REMEDY = "give the parity.json that `resnet-spec parity ... --out DIR` writes"
LEVELS = ("activations", "gradients", "statistics", "update")
"""Those with an item per node or tensor."""


@dataclass(frozen=True, slots=True)
class Point:
    """One node of one backend. error, floor: relative to the tensor's largest magnitude.

    error: infinite where shapes or values cannot be compared. floor: what rounding alone does; 0
    where nothing may differ, infinite where the reference overflows in that precision.
    """

    node: str
    error: float
    floor: float
    verdict: str

    @property
    def multiples(self) -> float:
        """The error in multiples of the floor; infinite where there is nothing to compare."""
        if self.error == 0:
            return 0.0
        if not math.isfinite(self.error):
            return math.inf
        return self.error / self.floor if self.floor else math.inf


@dataclass(frozen=True, slots=True)
class Panel:
    """One level, `activations (eval)` say: per backend its points in order of execution.

    limit: the multiples of the floor that count as rounding.
    """

    name: str
    points: Mapping[str, tuple[Point, ...]]
    limit: float

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of all backends, in order."""
        longest_first = sorted(self.points.values(), key=lambda points: -len(points))
        return tuple(dict.fromkeys(point.node for points in longest_first for point in points))

    @property
    def worst(self) -> tuple[str, Point]:
        """The backend and the point that is furthest above its floor."""
        found = [(name, point) for name, points in self.points.items() for point in points]
        return max(found, key=lambda pair: (pair[1].multiples, pair[1].error))


def read_panels(path: Path, levels: Sequence[str] = ()) -> tuple[str, list[Panel]]:
    """Return the title of the report at `path` and a panel per level and mode.

    levels: () takes the activations and gradients that the report has. Raises DataError.
    """
    report = _read(path)
    backends = cast(dict[str, Any], report["backends"])
    try:
        known = [level for level in LEVELS if any(level in b["levels"] for b in backends.values())]
        for level in levels:
            if level not in known:
                hint = did_you_mean(level, known)
                raise DataError(f"--level = {level}: is not in {path}; {hint}".rstrip("; "))
        wanted = levels or [level for level in known if level in LEVELS[:2]] or known
        panels = [panel for level in wanted for panel in _panels(backends, level)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: is a damaged parity report ({error!r}); {_REMEDY}") from None
    if not panels:
        raise DataError(f"{path}: holds no errors by node; {_REMEDY}")
    return str(report.get("title", path.name)), panels


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; {_REMEDY}")
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path}: is not JSON; {_REMEDY}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: is no parity report; {_REMEDY}")
    report = cast(dict[str, Any], found)
    if not isinstance(report.get("backends"), dict):
        raise DataError(f"{path}: is no parity report; {_REMEDY}")
    return report


def _panels(backends: Mapping[str, Any], level: str) -> list[Panel]:
    """Return the panels of a level: one per mode, the word in brackets behind a node's name."""
    modes: dict[str, dict[str, list[Point]]] = {}
    limit = 0.0
    for backend, found in backends.items():
        row = found["levels"].get(level, {})
        limit = max(limit, float(row.get("limit", 0.0)))
        for item in row.get("items", ()):
            node, _, mode = str(item["name"]).partition(" (")
            error = math.inf if item["max_rel"] is None else float(item["max_rel"])
            floor = math.inf if item["floor"] is None else float(item["floor"])
            point = Point(node, error, floor, str(item["verdict"]))
            modes.setdefault(mode.removesuffix(")"), {}).setdefault(backend, []).append(point)
    return [
        Panel(
            f"{level} ({mode})" if mode else level,
            {backend: tuple(points) for backend, points in by_backend.items()},
            limit,
        )
        for mode, by_backend in modes.items()
    ]


def worst_points(panels: Sequence[Panel], count: int) -> list[tuple[Panel, str, Point]]:
    """Return the `count` points furthest above their floors, with their panel and backend."""
    found = [
        (panel, backend, point)
        for panel in panels
        for backend, points in panel.points.items()
        for point in points
    ]
    found.sort(key=lambda it: (-it[2].multiples, -it[2].error))
    return found[:count]


def lines(panels: Sequence[Panel], count: int = 12) -> list[str]:
    """Return the worst nodes as a table, and how many there are."""
    columns = [
        Column("backend"),
        Column("level"),
        Column("node", least=12),
        Column("error", right=True, drop=2),
        Column("floor", right=True, drop=1),
        Column("x floor", right=True),
        Column("verdict"),
    ]
    rows: list[Sequence[str]] = []
    for panel, backend, point in worst_points(panels, count):
        multiples = f"{point.multiples:.3g}" if math.isfinite(point.multiples) else "-"
        floor = f"{point.floor:.1e}" if point.floor else "exact"
        error = "not comparable" if math.isinf(point.error) else f"{point.error:.1e}"
        rows.append((backend, panel.name, point.node, error, floor, multiples, point.verdict))
    total = sum(len(points) for panel in panels for points in panel.points.values())
    shown = fitted(columns, rows, table_width())
    return [*shown, "", f"the worst {len(rows)} of {total} comparisons"]


# --- Drawing --------------------------------------------------------------------------------------


def stage_spans(nodes: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return (stage, first place, place after the last) for every run of nodes of one stage."""
    spans: list[tuple[str, int, int]] = []
    for stage, run in groupby(enumerate(nodes), key=lambda pair: _stage_of(_bare(pair[1]))):
        places = [place for place, _ in run]
        spans.append((stage, places[0], places[-1] + 1))
    return spans


def _stage_of(name: str) -> str:
    """Return `layer1` of `layer1.0.conv1`, `stages.0` of `stages.0.blocks...`; else "".

    A report names nodes and holds no plan that could say where they stand.
    """
    first, *rest = name.split(".")
    if first == "stages" and rest:
        return f"{first}.{rest[0]}"
    return first if first.startswith("layer") else ""


def _bare(name: str) -> str:
    """Return `layer1.0.bn1.weight` of `momentum/layer1.0.bn1.weight`."""
    return name.rpartition("/")[2]


def figure(title: str, panels: Sequence[Panel]) -> Any:
    """Draw a panel per level: errors on a log scale, the floor, the limit, the worst node named."""
    drawn = new_figure(11, 0.7 + 2.9 * len(panels), title)
    rows = drawn.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        _draw(axes, panel)
    handles = dict[str, Any]()
    for axes in rows:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    drawn.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False
    )
    return drawn


def _draw(axes: Any, panel: Panel) -> None:
    nodes = panel.nodes
    at = {node: place for place, node in enumerate(nodes)}
    low, high = _bounds(panel)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_xlim(-1, len(nodes))
    _draw_floor(axes, panel, at, high)
    for i, (backend, points) in enumerate(panel.points.items()):
        places = [at[point.node] for point in points]
        # No error, and one without bounds, stand at the edges.
        heights = [min(max(point.error, low * 1.25), high / 1.25) for point in points]
        look = {"color": COLOURS[i % 7], "marker": MARKERS[i % 7], "s": 16, "zorder": 3}
        axes.scatter(places, heights, label=backend, linewidths=0, alpha=0.85, **look)
    _name_worst(axes, panel, at, low, high)
    _mark_stages(axes, nodes)
    axes.set_title(panel.name, loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel("relative error")
    axes.grid(axis="y", alpha=0.25)


def _bounds(panel: Panel) -> tuple[float, float]:
    """Return the axis around all that is shown, with room above for the worst node's name."""
    values = [
        value
        for points in panel.points.values()
        for point in points
        for value in (point.error, point.floor, point.floor * panel.limit)
        if 0 < value < math.inf
    ] or [1e-9, 1.0]
    low, high = math.log10(min(values)), math.log10(max(values))
    return 10.0 ** (low - 0.3), 10.0 ** (high + 0.3 + 0.2 * (high - low))


def _draw_floor(axes: Any, panel: Panel, at: Mapping[str, int], high: float) -> None:
    floors: dict[int, float] = {}
    for points in panel.points.values():
        floors |= {at[p.node]: p.floor for p in points if 0 < p.floor < math.inf}
    if not floors:
        return
    places = sorted(floors)
    heights = [floors[place] for place in places]
    axes.plot(
        places, heights, drawstyle="steps-mid", color="#555555", lw=1.1, label="rounding floor"
    )
    upper = [min(height * panel.limit, high) for height in heights]
    if panel.limit > 1:
        look = {"step": "mid", "color": "#999999", "alpha": 0.18, "lw": 0}
        axes.fill_between(places, heights, upper, label="counts as rounding", **look)


def _name_worst(axes: Any, panel: Panel, at: Mapping[str, int], low: float, high: float) -> None:
    backend, point = panel.worst
    if point.error == 0:
        axes.text(0.5, 0.5, "no error at all", transform=axes.transAxes, ha="center", va="center")
        return
    place = at[point.node]
    times = f"{point.multiples:.3g} x its floor" if math.isfinite(point.multiples) else "no floor"
    if math.isinf(point.error):
        times = "not comparable"
    left = place > len(at) / 2
    line = {"arrowstyle": "-", "color": "black", "lw": 0.8, "shrinkA": 0, "shrinkB": 3}
    axes.annotate(
        f"worst: {backend}, {point.node}, {times}",
        (place, min(max(point.error, low * 1.25), high / 1.25)),
        (place + (-1 if left else 1), 0.93),
        textcoords=axes.get_xaxis_transform(),
        ha="right" if left else "left",
        va="center",
        fontsize=8,
        parse_math=False,
        arrowprops={**line, "relpos": (1 if left else 0, 0.5)},
        zorder=5,
    )


def _mark_stages(axes: Any, nodes: Sequence[str]) -> None:
    """Name the stages below the axis, with a line between them."""
    spans = stage_spans(nodes)
    axes.set_xticks([])
    for i, (stage, first, last) in enumerate(spans):
        if i:
            axes.axvline(first - 0.5, color="#bbbbbb", lw=0.8, zorder=1)
        name = stage or ("stem" if i == 0 else "head")
        if (last - first) / len(nodes) > 0.012 * len(name):
            axes.text(
                (first + last - 1) / 2,
                -0.04,
                name,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="top",
                fontsize=8,
            )
