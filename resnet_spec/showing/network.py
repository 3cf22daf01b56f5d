"""A plan as a person draws it: ends, stages, and the few kinds of blocks that they repeat.

Two blocks are of one kind when they are built of the same ops with the same kernels, strides and
pads; widths and drop rates may differ.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import assert_never

from resnet_spec.ops import (
    AvgPool,
    BaseOp,
    Chain,
    Conv,
    DropPath,
    Gate,
    Node,
    Op,
    PadChannels,
    Residual,
    Shape,
)
from resnet_spec.plan import Plan, children_of, walk
from resnet_spec.planning.costs import StageRow, describe
from resnet_spec.planning.op_rows import row_of

Block = Chain | Residual
"""A Chain in plain networks, which have no shortcuts."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Blocks that are built alike. example: the first of them; names: all of them."""

    letter: str
    about: str
    example: Block = field(repr=False)
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`count` blocks of a kind, one after another; `first` is the first one's name."""

    letter: str
    about: str
    first: str
    count: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage with its costs (`row.output_shape` is what it puts out)."""

    row: StageRow
    repeats: tuple[Repeat, ...]


@dataclass(frozen=True, slots=True)
class End:
    """The stem or the head with its ops and costs."""

    row: StageRow
    ops: tuple[Op, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Network:
    """All that is drawn. params, macs: of the whole network (see `describe`)."""

    name: str
    input_shape: Shape
    classes: int
    params: int
    macs: int
    stem: End
    stages: tuple[Stage, ...]
    head: End
    kinds: tuple[Kind, ...]


def network_of(plan: Plan) -> Network:
    """Return `plan` in parts."""
    costs = describe(plan)
    rows = {row.name: row for row in costs.stages}
    blocks = {stage.name: _blocks(stage) for stage in plan.stages}
    kinds = _kinds([block for found in blocks.values() for block in found])
    by_name = {name: kind for kind in kinds for name in kind.names}
    stages = tuple(
        Stage(rows[name], tuple(_repeats(found, by_name))) for name, found in blocks.items()
    )
    stem, head = _ends(plan)
    return Network(
        name=costs.name,
        input_shape=costs.input_shape,
        classes=costs.classes,
        params=costs.params,
        macs=costs.macs,
        stem=End(rows["stem"], stem),
        stages=stages,
        head=End(rows["head"], head),
        kinds=kinds,
    )


def _blocks(stage: Node) -> list[Block]:
    return [
        node
        for node in walk(stage)
        if isinstance(node, Chain | Residual) and node.address.part == "block"
    ]


def _ends(plan: Plan) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """Return the ops before the first stage and those after the last."""
    stem = tuple(op for op in plan.ops if op.address.part == "stem")
    return stem, tuple(op for op in plan.ops if op.address.part == "head")


# --- Kinds ----------------------------------------------------------------------------------------


def _kinds(blocks: Sequence[Block]) -> tuple[Kind, ...]:
    """Return the kinds in order of their first block, lettered A, B ..."""
    found: dict[Hashable, list[Block]] = {}
    for block in blocks:
        found.setdefault(_signature(block), []).append(block)
    return tuple(
        Kind(_letter(i), about_block(alike[0]), alike[0], tuple(block.name for block in alike))
        for i, alike in enumerate(found.values())
    )


def _letter(place: int) -> str:
    first, last = divmod(place, 26)
    return (chr(ord("A") + first - 1) if first else "") + chr(ord("A") + last)


def _signature(node: Node) -> Hashable:
    """Return what makes two nodes alike: their ops and windows, not their widths."""
    match node:
        case Residual():
            parts = [[_signature(one) for one in part] for part in (node.entry, node.body)]
            shortcut = None if node.shortcut is None else _signature(node.shortcut)
            return tuple(map(tuple, parts)), shortcut, len(node.tail)
        case Chain() | Gate():
            return type(node).__name__, tuple(_signature(one) for one in children_of(node))
        case BaseOp():
            return type(node).__name__, row_of(node).alike(node)
        case _:
            assert_never(node)


def about_block(block: Block) -> str:
    """Return `basic, projection, stride 2` and the like."""
    body = block.body if isinstance(block, Residual) else block.children
    convs = [op for op in body if isinstance(op, Conv)]
    parts = ["bottleneck" if len(convs) == 3 else "basic"]
    parts.append(_about_shortcut(block))
    stride = max((op.stride for op in convs), default=1)
    if stride > 1:
        parts.append(f"stride {stride}")
    dilation = max((op.dilation for op in convs), default=1)
    if dilation > 1:
        parts.append(f"dilation {dilation}")
    if any(isinstance(node, DropPath) for node in body):
        parts.append("drop path")
    return ", ".join(parts)


def _about_shortcut(block: Block) -> str:
    if isinstance(block, Chain):
        return "no shortcut"
    if block.shortcut is None:
        return "identity"
    inside = list(walk(block.shortcut))
    if any(isinstance(op, PadChannels) for op in inside):
        return "zero-padded"
    pooled = any(isinstance(op, AvgPool) for op in inside)
    return "pooled projection" if pooled else "projection"


def _repeats(blocks: Sequence[Block], kinds: dict[str, Kind]) -> Iterator[Repeat]:
    for letter, run in groupby(blocks, key=lambda block: kinds[block.name].letter):
        alike = list(run)
        yield Repeat(letter, kinds[alike[0].name].about, alike[0].name, len(alike))
