"""A plan as a list of steps, each with the names of the values it reads.

The tree says how a network is built; the folds that follow a value from its maker to its readers
(receptive field, memory) need the edges.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple, assert_never

from resnet_spec.ops import BaseOp, Chain, Gate, Node, Op, Residual, Shape
from resnet_spec.plan import Plan


class Value(NamedTuple):
    """Something that an op reads: the name of the node that made it, and its shape."""

    name: str
    shape: Shape


class Step(NamedTuple):
    """One op, or the product of a gate. A gate reads what is gated and the factors, in this order.

    Its output is called by the node's own name.
    """

    node: Op | Gate
    inputs: tuple[Value, ...]
    output: Value


def image(plan: Plan) -> Value:
    """Return the value that the first op reads."""
    return Value("input", (plan.input.channels, plan.input.height, plan.input.width))


def steps(plan: Plan) -> Iterator[Step]:
    """Yield the steps of `plan` in order of execution."""
    yield from _flow(plan.root, image(plan))


_Flow = Generator[Step, None, Value]
"""Yields steps and returns the value that the last one made."""


def _flow(node: Node, x: Value) -> _Flow:
    match node:
        case Chain():
            return (yield from _chain(node.children, x))
        case Gate():
            factors = yield from _chain(node.children, x)
            return (yield from _step(node, (x, factors), x.shape))
        case Residual():
            entered = yield from _chain(node.entry, x)
            body = yield from _chain(node.body, entered)
            other = x if node.shortcut is None else (yield from _flow(node.shortcut, entered))
            total = yield from _step(node.add, (body, other), node.add.out_shape)
            return (yield from _chain(node.tail, total))
        case BaseOp():
            return (yield from _step(node, (x,), node.out_shape))
        case _:
            assert_never(node)


def _chain(nodes: tuple[Node, ...], x: Value) -> _Flow:
    for node in nodes:
        x = yield from _flow(node, x)
    return x


def _step(node: Op | Gate, inputs: tuple[Value, ...], shape: Shape) -> _Flow:
    output = Value(node.name, shape)
    yield Step(node, inputs, output)
    return output
