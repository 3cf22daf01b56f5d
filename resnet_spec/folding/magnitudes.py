"""How large the values in a network can become, so that kernels which hide a NaN may be used.

Kernels that fuse a convolution with the ReLU after it may make 0 of NaN. Of finite weights and
images NaN comes from an overflow alone, and an overflow can be ruled out: a convolution's output is
at most the sum of its weights' magnitudes times the largest input. Such bounds multiply from op to
op and soon say nothing, so the network is cut into segments, and the largest value that enters each
is looked at while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.ops import (
    Activation,
    Add,
    AvgPool,
    Chain,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    Gate,
    GlobalPool,
    Linear,
    MaxPool,
    Node,
    Norm,
    PadChannels,
    Residual,
)
from resnet_spec.plan import Plan

LIMIT = 1e37
"""What float32 holds with room for rounding: its largest value is 3.4e38."""

_GAIN = 1e24
"""The greatest gain of a segment: values below 1e13 that enter it are known to be harmless."""


@dataclass(frozen=True, slots=True)
class Bound:
    """|y| <= gain * m + offset for all inputs of magnitude m or less."""

    gain: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gain", "offset"):
            if math.isnan(getattr(self, name)):  # `max` may pass over it.
                object.__setattr__(self, name, math.inf)

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.gain + other.gain, self.offset + other.offset)

    def __or__(self, other: Bound) -> Bound:
        """Return what bounds both."""
        return Bound(max(self.gain, other.gain), max(self.offset, other.offset))

    def then(self, gain: float, offset: float = 0.0) -> Bound:
        """Return the bound of gain * y + offset."""
        return Bound(gain * self.gain, gain * self.offset + offset)

    def allows(self, magnitude: float) -> bool:
        """Return whether inputs of that magnitude overflow nowhere; of NaN they may."""
        return self.gain * magnitude + self.offset <= LIMIT


_INPUT = Bound(1.0)
UNKNOWN = Bound(math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive nodes of a plan, and the bound of every value that is computed within them."""

    nodes: tuple[Node, ...]
    peak: Bound


def segments(plan: Plan, state: Mapping[str, Array]) -> tuple[Segment, ...]:
    """Cut the plan's line, from images to logits, into segments of at least a block each.

    state: canonical. What is not known of an op, or weights that are not finite, make the bound of
    its segment one that allows nothing.
    """
    found: list[Segment] = []
    nodes: list[Node] = []
    last, peak = _INPUT, _INPUT
    for node in _line(plan.root):
        then, inside = _bounds(node, last, state)
        if nodes and (peak | inside).gain > _GAIN:
            found.append(Segment(tuple(nodes), peak))
            nodes, peak = [], _INPUT
            then, inside = _bounds(node, _INPUT, state)
        nodes.append(node)
        last, peak = then, peak | inside
    return (*found, Segment(tuple(nodes), peak))


def _line(node: Node) -> Iterator[Node]:
    """Yield ops and blocks in order, without the chains that hold them."""
    if isinstance(node, Chain):
        for child in node.children:
            yield from _line(child)
    else:
        yield node


def _bounds(node: Node, given: Bound, state: Mapping[str, Array]) -> tuple[Bound, Bound]:
    """Return the bound of the node's output, and that of all that it computes on the way."""
    match node:
        case Chain():
            return _in_turn(node.children, given, state)
        case Residual():
            entered, first = _in_turn(node.entry, given, state)
            body, second = _in_turn(node.body, entered, state)
            shortcut = given, given
            if node.shortcut is not None:
                shortcut = _bounds(node.shortcut, entered, state)
            total = body + shortcut[0]
            output, last = _in_turn(node.tail, total, state)
            return output, reduce(Bound.__or__, (first, second, shortcut[1], total, last))
        case Gate():
            factor, inside = _in_turn(node.children, given, state)
            output = given.then(factor.offset) if factor.gain == 0 else UNKNOWN
            return output, inside | output
        case Conv() | Linear():
            output = _product(node, given, state)
            return output, output
        case Norm():
            output = _normalised(node, given, state)
            return output, given | output
        case Activation(kind="sigmoid"):
            return Bound(0.0, 1.0), given
        case AvgPool():
            return given, given.then(float(node.kernel**2))
        case GlobalPool():
            return given, given.then(float(np.prod(node.in_shape[1:])))
        case Activation() | MaxPool() | PadChannels() | Flatten() | Dropout() | DropPath():
            return given, given
        case Add():
            raise AssertionError(f"{node.name}: stands outside a residual block")
        case _:
            return UNKNOWN, UNKNOWN


def _in_turn(
    nodes: tuple[Node, ...], given: Bound, state: Mapping[str, Array]
) -> tuple[Bound, Bound]:
    peak = given
    for node in nodes:
        given, inside = _bounds(node, given, state)
        peak |= inside
    return given, peak


def _product(op: Conv | Linear, given: Bound, state: Mapping[str, Array]) -> Bound:
    weight = np.abs(state[op.weight.name], dtype=np.float64)
    gain = weight.reshape(len(weight), -1).sum(axis=1).max()
    offset = 0.0 if op.bias is None else np.abs(state[op.bias.name]).max()
    return given.then(float(gain), float(offset))


def _normalised(op: Norm, given: Bound, state: Mapping[str, Array]) -> Bound:
    scale, shift, mean, var = (state[t.name].astype(np.float64) for t in op.tensors)
    with np.errstate(divide="ignore", invalid="ignore"):  # Then it allows nothing.
        factor = scale / np.sqrt(var + op.eps)
    gain, offset = np.abs(factor).max(), np.abs(shift - mean * factor).max()
    return given.then(float(gain), float(offset))
