"""Where the time of a step goes: what a framework's profiler tells, by nodes of the plan.

Imports no framework: the numbers come from the contestants' processes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from resnet_spec.bench import Direction, Profile, TimedKind
from resnet_spec.errors import did_you_mean
from resnet_spec.ops import BaseOp
from resnet_spec.plan import Plan, walk
from resnet_spec.planning.op_rows import Sort, row_of

LEAST_STEPS, MOST_STEPS = 3, 10
"""Of a profile: the record of a step has thousands of events."""
MOST_ROWS = 30
"""Of a table by nodes; where there are more, blocks are its rows."""

UNKNOWN = "not attributed"
OUTSIDE: Mapping[TimedKind, str] = {
    "images": "images and results",
    "loss": "loss",
    "optimizer": "optimiser",
    "copies": "copies and casts",
    "": UNKNOWN,
}
"""What rows are called that are of no node, in their order."""

_SORTS: Mapping[Sort, str] = {
    "norm": "norm",
    "activation": "activation and sum",
    "plain": "activation and sum",
    "pool": "pool",
    "channels": "zero channels",
    "noise": "noise",
}
KINDS = ("convolution", "linear", *dict.fromkeys(_SORTS.values()), *OUTSIDE.values())
"""Of what kinds a row can be, in the order of a table."""


class Part(NamedTuple):
    """Seconds of a step that went into a node, in one direction; of no node: "" and a kind."""

    node: str
    kind: str
    direction: Direction
    seconds: float


@dataclass(frozen=True)
class Profiled:
    """A contestant's profile, in seconds of one step.

    parts: in the plan's order, what is of no node last. step_s: a step as it took with the profiler
    on, plain_s: without it, in the middle round.
    """

    name: str
    steps: int
    parts: tuple[Part, ...]
    step_s: float
    plain_s: float
    notes: tuple[str, ...] = ()

    @property
    def ops_s(self) -> float:
        """All ops of a step."""
        return sum(part.seconds for part in self.parts)

    def sums(self, key: Callable[[Part], str], direction: Direction = "") -> dict[str, float]:
        """Return the seconds of all parts with one key; of a `direction`, where one is given."""
        found: dict[str, float] = defaultdict(float)
        for part in self.parts:
            if not direction or part.direction == direction:
                found[key(part)] += part.seconds
        return dict(found)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "name": self.name,
            "steps": self.steps,
            "ops_s": self.ops_s,
            "profiled_step_s": self.step_s,
            "plain_step_s": self.plain_s,
            "parts": [part._asdict() for part in self.parts],
            "notes": list(self.notes),
        }


def answer_of(profile: Profile, plan: Plan, steps: int) -> dict[str, Any]:
    """Return `profile` as a line of a worker's answer: sums of a step, and notes.

    Raises ValueError for a node that the plan has not, and for what is no kind, direction or time.
    """
    kinds = {node.name: _kind_of(node) for node in walk(plan.root) if node.name}
    order = {name: place for place, name in enumerate(kinds)}
    sums: dict[tuple[str, str, Direction], float] = defaultdict(float)
    for timing in profile.timings:
        if timing.node and timing.node not in kinds:
            hint = did_you_mean(timing.node, kinds)
            raise ValueError(f"its profile names {timing.node!r}, no node of the plan; {hint}")
        if timing.kind not in get_args(TimedKind) or timing.direction not in get_args(Direction):
            raise ValueError(f"its profile has {timing}, whose kind or direction is none")
        if not 0.0 <= timing.seconds < float("inf"):
            raise ValueError(f"its profile has {timing}, whose seconds are no time")
        kind = OUTSIDE[timing.kind] if timing.kind or not timing.node else kinds[timing.node]
        sums[timing.node, kind, timing.direction] += timing.seconds / steps
    places = sorted(sums, key=lambda key: (order.get(key[0], len(order)), KINDS.index(key[1])))
    parts = [[*key, sums[key]] for key in places]
    return {"parts": parts, "notes": list(profile.notes)}


def profiled_of(name: str, answer: Mapping[str, Any], steps: int, plain_s: float) -> Profiled:
    """Return what a worker has answered (see `answer_of`)."""
    parts = tuple(Part(*part) for part in answer["parts"])
    step_s = answer["seconds"] / steps
    return Profiled(name, steps, parts, step_s, plain_s, tuple(answer["notes"]))


def _kind_of(node: Any) -> str:
    """Return the kind of a node's ops; a container's are a gate's product, or a sum."""
    if not isinstance(node, BaseOp):
        return "activation and sum"
    sort = row_of(node).sort
    if sort == "weights":
        return "convolution" if len(node.out_shape) == 3 else "linear"
    return _SORTS[sort]


def key_of(plan: Plan, profiles: Sequence[Profiled]) -> Callable[[Part], str]:
    """Return what names a part's row in a table by nodes.

    Nodes, or where they are more than `MOST_ROWS`: stem, blocks and head.
    """
    nodes = {part.node for profiled in profiles for part in profiled.parts}
    groups = None if len(nodes) <= MOST_ROWS else groups_of(plan)

    def key(part: Part) -> str:
        if not part.node:
            return part.kind
        return part.node if groups is None else groups[part.node]

    return key


def groups_of(plan: Plan) -> dict[str, str]:
    """Return for every node its block, or stage, or whether it is of stem or head."""
    blocks, stages = ([node.name for node in of] for of in (plan.blocks, plan.stages))
    return {
        node.name: _around(node.name, blocks) or _around(node.name, stages) or node.address.part
        for node in walk(plan.root)
    }


def _around(name: str, containers: Iterable[str]) -> str:
    return next((it for it in containers if name == it or name.startswith(f"{it}.")), "")


def rows_of(plan: Plan, key: Callable[[Part], str], profiles: Sequence[Profiled]) -> list[str]:
    """Return the rows that parts have, in the plan's order; always with what is not attributed."""
    order = {node.name: place for place, node in enumerate(walk(plan.root))}
    found: dict[str, int] = {}
    for part in (part for profiled in profiles for part in profiled.parts):
        place = order[part.node] if part.node else len(order) + KINDS.index(part.kind)
        found[key(part)] = min(found.get(key(part), place), place)
    found[UNKNOWN] = len(order) + len(KINDS)
    return sorted(found, key=found.__getitem__)


def kinds_of(profiles: Sequence[Profiled]) -> list[str]:
    """Return the kinds that parts have, and that which is not attributed, in their order."""
    found = {part.kind for profiled in profiles for part in profiled.parts} | {UNKNOWN}
    return [kind for kind in KINDS if kind in found]
