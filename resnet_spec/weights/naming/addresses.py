"""Where each node stands in the network, whatever its canonical name: what schemes make paths of.

A post-activation `layer2.0.bn1` and a pre-activation `stages.1.blocks.0.norm2` are both a norm of
a body in stage 2, block 0. Imports `ops` and `plan` of the core.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, NamedTuple

from resnet_spec.ops import (
    Activation,
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
    Residual,
)
from resnet_spec.plan import Plan, walk

Where = Literal["stem", "body", "gate", "shortcut", "head"]
Kind = Literal["conv", "norm", "act", "pool", "pad", "fc", "gate", "other"]


@dataclass(frozen=True, slots=True)
class Place:
    """A node's place.

    number: of its kind in its part, from 1: that of `layer1.0.bn2` is 2. count: how many of its
        kind the part has.
    stage, block: of a block's nodes, from 1 and, within the stage, from 0. flat: the block's number
        in the whole network, from 0. depth: convolutions of the block's body.
    """

    node: Node
    where: Where
    kind: Kind
    number: int = 1
    count: int = 1
    stage: int = 0
    block: int = 0
    flat: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        """The node's canonical name."""
        return self.node.name

    @property
    def ends_block(self) -> bool:
        """Whether it is the activation after the sum, whose output is the block's.

        Pre-activation blocks have none.
        """
        is_last = self.where == "body" and self.kind == "act" and self.number == self.depth
        return is_last and self.name.startswith("layer")


Places = tuple[Place, ...]
"""Those of a plan's observed nodes, in their order."""


def places(plan: Plan) -> Places:
    """Return the places of the plan's observed nodes, in their order."""
    nodes = [node for node in walk(plan.root) if not isinstance(node, Chain | Residual)]
    parts = [_part(node) for node in nodes]
    counts = Counter(parts)
    depths = {at: n for (at, where, kind), n in counts.items() if (where, kind) == _BODY}
    flats = {at: number for number, at in enumerate(dict.fromkeys(_blocks(parts)))}
    seen = Counter[_Part]()
    found: list[Place] = []
    for node, part in zip(nodes, parts, strict=True):
        seen[part] += 1
        at, where, kind = part
        order = (seen[part], counts[part])
        found.append(Place(node, where, kind, *order, *at, flats.get(at, 0), depths.get(at, 0)))
    return tuple(found)


_BODY: tuple[Where, Kind] = ("body", "conv")


def is_pre_activation(nodes: Places) -> bool:
    """Whether norm and activation come before the convolutions (canonical names differ)."""
    return any(place.where == "head" and place.kind == "norm" for place in nodes)


class _Part(NamedTuple):
    """Nodes of one kind in one part of the network; `at`: stage and block, (0, 0) outside."""

    at: tuple[int, int]
    where: Where
    kind: Kind


def _blocks(parts: list[_Part]) -> list[tuple[int, int]]:
    return [part.at for part in parts if part.at != (0, 0)]


_HEAD = ("global_pool", "drop", "fc", "norm", "act", "head")
_IN_BLOCK: dict[str, Where] = {"downsample": "shortcut", "se": "gate"}


def _part(node: Node) -> _Part:
    match node.name.split("."):
        case ["stages", stage, "blocks", block, key, *_]:
            where, at = _IN_BLOCK.get(key, "body"), (int(stage) + 1, int(block))
        case [stage, block, key, *_] if stage.startswith("layer"):
            where, at = _IN_BLOCK.get(key, "body"), (int(stage.removeprefix("layer")), int(block))
        case [key, *_] if key in _HEAD:
            where, at = "head", (0, 0)
        case _:
            where, at = "stem", (0, 0)
    return _Part(at, where, _kind(node, where))


def _kind(node: Node, where: Where) -> Kind:
    match node:
        case Conv() | Linear() if where == "head":
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
