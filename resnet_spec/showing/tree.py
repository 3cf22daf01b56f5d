"""A network as an indented tree of text: costs by stage, blocks with repeat counts, ops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from resnet_spec.ops import BaseOp, Chain, Gate, Node, Op, Residual, Shape
from resnet_spec.showing.network import End, Kind, Network, Stage
from resnet_spec.showing.op_text import op_text, shape_text


def lines(network: Network) -> list[str]:
    """Return the tree, and below it one block of each kind in detail."""
    found = [
        f"{network.name}  {shape_text(network.input_shape)} -> {network.classes:,} classes, "
        f"{network.params:,} params, {network.macs:,} MACs",
        *_end_lines(network.stem),
    ]
    for stage in network.stages:
        found += _stage_lines(stage)
    found += _end_lines(network.head)
    for kind in network.kinds:
        found += ["", *_kind_lines(kind)]
    return [line.rstrip() for line in found]


def _part(name: str, shape: Shape, params: int, macs: int) -> str:
    return f"  {name:<10} {shape_text(shape):<18} {params:>12,} params  {macs:>15,} MACs"


def _end_lines(end: End) -> Iterator[str]:
    yield _part(end.row.name, end.row.output_shape, end.row.params, end.row.macs)
    yield from (f"    {_op_line(op)}" for op in end.ops)


def _stage_lines(stage: Stage) -> Iterator[str]:
    row = stage.row
    yield _part(row.name, row.output_shape, row.params, row.macs)
    for it in stage.repeats:
        yield f"    {it.count:>2} x {it.letter}: {it.about}"


def _op_line(op: Op) -> str:
    return f"{op.name:<24} {op_text(op)}"


def _kind_lines(kind: Kind) -> Iterator[str]:
    count = len(kind.names)
    which = "the only one" if count == 1 else f"one of {count}"
    yield f"{kind.letter}: {kind.about}; {kind.example.name}, {which}"
    block = kind.example
    if isinstance(block, Chain):
        yield from _inside(block.children, 1)
        return
    yield from _inside(block.entry, 1)
    yield "  body"
    yield from _inside(block.body, 2)
    if block.shortcut is None:
        yield "  shortcut: identity" + (f" on the input of {block.name}" if block.entry else "")
    else:
        yield "  shortcut"
        yield from _inside((block.shortcut,), 2)
    yield from _inside((block.add, *block.tail), 1)


def _inside(nodes: tuple[Node, ...], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for node in nodes:
        match node:
            case Gate():
                yield f"{indent}{node.key}: times what follows from it"
                yield from _inside(node.children, depth + 1)
            case Chain():
                yield from _inside(node.children, depth)
            case Residual():
                raise AssertionError("a block inside a block")
            case BaseOp():
                yield f"{indent}{node.key:<{24 - 2 * depth}} {op_text(node)}"
            case _:
                assert_never(node)
