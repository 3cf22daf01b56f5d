"""The plan's nodes with their addresses and counted: what schemes make paths of.

A post-activation `layer2.0.bn1` and a pre-activation `stages.1.blocks.0.norm2` are both a norm of
a body in stage 2, block 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, NamedTuple

from resnet_spec.ops import (
    Activation,
    Address,
    AvgPool,
    Chain,
    Conv,
    Gate,
    GlobalPool,
    Linear,
    MaxPool,
    Node,
    Norm,
    PadChannels,
    Part,
    Residual,
)
from resnet_spec.plan import Plan, walk

Kind = Literal["conv", "norm", "act", "pool", "pad", "fc", "gate", "other"]


@dataclass(frozen=True, slots=True)
class NumberedNode:
    """A node, and which of its kind it is in its part of the network.

    number: of its kind in its part, from 1: that of `layer1.0.bn2` is 2.
    block_number: of its block in the whole network, from 0; 0 outside blocks.
    depth: convolutions of its block's body; 0 outside blocks.
    ends_block: whether it is the activation after the sum, whose output is the block's.
        Pre-activation blocks have none.
    """

    node: Node
    kind: Kind
    number: int
    block_number: int
    depth: int
    ends_block: bool

    @property
    def name(self) -> str:
        """The node's canonical name."""
        return self.node.name

    @property
    def part(self) -> Part:
        """The part of the network it is in."""
        return self.node.address.part

    @property
    def stage(self) -> int:
        """The stage it is in, from 1; 0 outside stages."""
        return self.node.address.stage or 0

    @property
    def block(self) -> int:
        """The block of the stage it is in, from 0; 0 outside blocks."""
        return self.node.address.block or 0


NumberedNodes = tuple[NumberedNode, ...]
"""A plan's observed nodes, in their order."""


def number_nodes(plan: Plan) -> NumberedNodes:
    """Return the plan's observed nodes, in their order. Raises ValueError without addresses."""
    nodes = [node for node in walk(plan.root) if not isinstance(node, Chain | Residual)]
    bodies = [_block_of(node) for node in nodes if _kind(node) == "conv" and _is_body(node)]
    depths = Counter(bodies)
    last = {_block_of(node): node.name for node in nodes}
    numbers = {at: number for number, at in enumerate(dict.fromkeys(bodies))}
    seen = Counter[tuple[Address, Kind]]()
    found: list[NumberedNode] = []
    for node in nodes:
        at, kind = _block_of(node), _kind(node)
        seen[node.address, kind] += 1
        ends = kind == "act" and _is_body(node) and last[at] == node.name
        number = seen[node.address, kind]
        found.append(NumberedNode(node, kind, number, numbers.get(at, 0), depths[at], ends))
    return tuple(found)


class _Block(NamedTuple):
    """A block's stage and its number there; None outside."""

    stage: int | None
    block: int | None


def _block_of(node: Node) -> _Block:
    return _Block(node.address.stage, node.address.block)


def _is_body(node: Node) -> bool:
    return node.address.part == "body"


def is_pre_activation(nodes: NumberedNodes) -> bool:
    """Whether norm and activation come before the convolutions (canonical names differ)."""
    return any(node.part == "head" and node.kind == "norm" for node in nodes)


def _kind(node: Node) -> Kind:
    match node:
        case Conv() | Linear() if node.address.part == "head":
            return "fc"
        case Conv():
            return "conv"
        case Norm():
            return "norm"
        case Activation():
            return "act"
        case MaxPool() | AvgPool() | GlobalPool():
            return "pool"
        case PadChannels():
            return "pad"
        case Gate():
            return "gate"
        case _:
            return "other"
