"""What a network makes of one image, stage by stage: the channels that answer most strongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Batch, Session
from resnet_spec.plan import Plan
from resnet_spec.printing.columns import Column, fitted
from resnet_spec.printing.consoles import table_width
from resnet_spec.showing.canvas import Tile, fixed, head, page, picture, short, words
from resnet_spec.showing.terminal import bar

CHANNELS = 8
"""Channels drawn per stage."""


@dataclass(frozen=True, slots=True)
class StageFeatures:
    """The output of one stage for one image.

    node: whose output it is. shape: (channels, height, width). zeros: the fraction of values that
    are exactly zero. strongest: channels by falling mean magnitude, and `maps` theirs, float64
    [n, height, width].
    """

    stage: str
    node: str
    shape: tuple[int, ...]
    mean: float
    std: float
    zeros: float
    strongest: tuple[int, ...]
    maps: NDArray[np.float64] = field(repr=False)


def last_nodes(plan: Plan) -> dict[str, str]:
    """Return for the stem and each stage the last node in it; these are the stages' outputs."""
    last = {section: name for name, section in plan.sections.items()}
    return {section: name for section, name in last.items() if section != "head"}


def stage_features(session: Session, plan: Plan, batch: Batch) -> list[StageFeatures]:
    """Return what each stage puts out for the one image of `batch`, in evaluation mode."""
    stages = {node: stage for stage, node in last_nodes(plan).items()}
    return [
        _features(stages[name], name, output[0].astype(np.float64))
        for name, output in session.activations(batch)
        if name in stages
    ]


def _features(stage: str, node: str, values: NDArray[np.float64]) -> StageFeatures:
    strength = np.abs(values).mean(axis=(1, 2))
    strongest = np.argsort(-strength, kind="stable")[:CHANNELS]
    return StageFeatures(
        stage=stage,
        node=node,
        shape=values.shape,
        mean=float(values.mean()),
        std=float(values.std()),
        zeros=float((values == 0).mean()),
        strongest=tuple(strongest.tolist()),
        maps=values[strongest],
    )


def lines(found: Sequence[StageFeatures]) -> list[str]:
    """Return a table: stage, node, shape, mean, deviation, zeros, strongest channels."""
    columns = [
        Column("stage"),
        Column("output of", least=10, drop=3),
        Column("shape"),
        Column("mean", right=True),
        Column("std", right=True, drop=2),
        Column("zeros", right=True),
        Column("", drop=1),
        Column("strongest channels", least=18, tail=True),
    ]
    rows: list[Sequence[str]] = []
    for it in found:
        rows.append(
            (
                it.stage,
                it.node,
                " x ".join(map(str, it.shape)),
                f"{it.mean:.4f}",
                f"{it.std:.4f}",
                f"{100 * it.zeros:.1f} %",
                bar(it.zeros, 10),
                ", ".join(map(str, it.strongest)),
            )
        )
    return fitted(columns, rows, table_width())


_TILE, _GAP, _LEFT, _TOP = 0.92, 0.09, 1.62, 0.66
_ROW = _TILE + 0.3


def figure(
    found: Sequence[StageFeatures], pixels: NDArray[np.uint8], heading: str, label: str
) -> Any:
    """Draw the image, and below it a row of channels per stage, each row on a scale of its own."""
    width = _LEFT + CHANNELS * (_TILE + _GAP) + 0.15
    height = _TOP + (len(found) + 1) * _ROW + 0.05
    drawn, axes = page(width, height)
    caption = "the channels of largest mean magnitude; colours go from each stage's least value"
    head(axes, heading, f"{caption} (dark) to its largest (light)")
    _beside(axes, _TOP, "image", [short(label), " x ".join(map(str, pixels.shape[:2]))])
    picture(axes, Tile(pixels, ""), _LEFT, _TOP + 0.16, _TILE)
    for row, it in enumerate(found, start=1):
        _stage_row(axes, it, _TOP + row * _ROW)
    fixed(axes, width, height)
    return drawn


def _stage_row(axes: Any, it: StageFeatures, top: float) -> None:
    low, high = float(it.maps.min()), float(it.maps.max())
    facts = [
        " x ".join(map(str, it.shape)),
        f"{low:.2f} to {high:.2f}",
        f"{100 * it.zeros:.0f} % zero",
    ]
    _beside(axes, top, it.stage, facts)
    span = high - low or 1.0
    for place, (channel, one) in enumerate(zip(it.strongest, it.maps, strict=True)):
        left = _LEFT + place * (_TILE + _GAP)
        picture(axes, Tile((one - low) / span, ""), left, top + 0.16, _TILE)
        look = {"ha": "center", "fontsize": 7, "color": "#444444"}
        words(axes, left + _TILE / 2, top + 0.08, f"channel {channel}", **look)


def _beside(axes: Any, top: float, name: str, facts: Sequence[str]) -> None:
    words(axes, 0.18, top + 0.34, name, fontsize=10, fontweight="bold")
    for i, fact in enumerate(facts):
        words(axes, 0.18, top + 0.54 + 0.165 * i, fact, fontsize=8, color="#444444")
