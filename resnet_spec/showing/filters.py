"""The filters of a network's first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import State
from resnet_spec.ops import Conv
from resnet_spec.plan import Plan
from resnet_spec.planning.costs_text import table
from resnet_spec.showing.canvas import Tile, tiles_figure, unit_range
from resnet_spec.showing.terminal import bar


@dataclass(frozen=True, slots=True)
class Filters:
    """The first convolution, called `name`: weight [filters, channels, height, width]."""

    name: str
    weight: NDArray[np.float64] = field(repr=False)

    @property
    def norms(self) -> NDArray[np.float64]:
        """The Euclidean norm of each filter, [filters]."""
        return np.sqrt((self.weight**2).sum(axis=(1, 2, 3)))


def first_filters(plan: Plan, state: State) -> Filters:
    """Return the filters of the plan's first convolution."""
    conv = next(op for op in plan.ops if isinstance(op, Conv))
    return Filters(conv.name, state[conv.weight.name].astype(np.float64))


def about(filters: Filters, source: str) -> tuple[str, str]:
    """Return a heading, and how the filters are shown."""
    count, channels, height, width = filters.weight.shape
    heading = f"{filters.name} of {source}: {count} filters of {height} x {width}"
    scaled = "each filter scaled to its own range"
    if channels == 3:
        return heading, f"{scaled}, which its red, green and blue weights share"
    if channels == 1:
        return heading, scaled
    return heading, f"the mean of each filter's {channels} channels; {scaled}"


def tiles(filters: Filters) -> list[Tile]:
    """Return each filter scaled to its own range: RGB, or one channel in a colour map."""
    channels = filters.weight.shape[1]
    shown = filters.weight.transpose(0, 2, 3, 1)
    if channels == 3:
        return [
            Tile(np.round(255 * unit_range(one)).astype(np.uint8), f"{i}")
            for i, one in enumerate(shown)
        ]
    return [Tile(unit_range(one.mean(axis=2)), f"{i}") for i, one in enumerate(shown)]


def lines(filters: Filters) -> list[str]:
    """Return a table: filter, norm, a bar of it, least and largest weight."""
    norms = filters.norms
    rows: list[Sequence[str]] = [("filter", "norm", "", "least", "largest")]
    for i, (norm, one) in enumerate(zip(norms, filters.weight, strict=True)):
        share = bar(norm / norms.max()) if norms.max() > 0 else ""
        rows.append((f"{i}", f"{norm:.4f}", share, f"{one.min():.4f}", f"{one.max():.4f}"))
    return table(rows, right=(0, 1, 3, 4))


def figure(filters: Filters, source: str) -> Any:
    """Draw the grid."""
    return tiles_figure(tiles(filters), *about(filters, source))
