"""Marked plans: plans whose every number is a marker, made to ask a scheme for names.

Which names a network's tensors have depends on its structure alone. A marked plan has the
structure; where one of its tensors has a marker, the file's tensor of the same name has the number
wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError
from resnet_spec.ops import Address, Conv, Init, Op, Part, Shape, Tensor
from resnet_spec.plan import Plan
from resnet_spec.planning.classifier import classifier
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming.dialects import Layout
from resnet_spec.weights.naming.lifting import foreign_shape
from resnet_spec.weights.naming.names import Foreign, Scheme

MOST_STAGES = 64
MOST_STEM_CONVOLUTIONS = 3


@dataclass(frozen=True, slots=True)
class Structure:
    """What names depend on, blocks aside. stem: how many convolutions come before the stages."""

    block: Literal["basic", "bottleneck"]
    order: Literal["post_activation", "pre_activation"]
    stem: int
    downsample: Literal["conv", "avg_pool"]
    squeeze: bool


KINDS = tuple(
    Structure(block, order, 1, "conv", False)
    for block in ("bottleneck", "basic")
    for order in ("post_activation", "pre_activation")
)
"""The plainest structure of each kind."""


def structures(kind: Structure) -> Iterator[Structure]:
    """Yield all structures of a kind.

    Where names leave open whether a shortcut pools, a deep stem speaks for it (T. He et al. 2019:
    D), and one convolution against it.
    """
    for stem in range(1, MOST_STEM_CONVOLUTIONS + 1):
        downsamples: tuple[Any, ...] = ("conv", "avg_pool") if stem == 1 else ("avg_pool", "conv")
        for downsample in downsamples:
            for squeeze in (True, False):
                yield replace(kind, stem=stem, downsample=downsample, squeeze=squeeze)


class Unknown(NamedTuple):
    """A number to find: what it is, and of which stage or stem convolution."""

    what: Literal["inner", "group", "out", "reduced", "stem", "kernel", "channels", "classes"]
    place: int = 0


@dataclass(frozen=True)
class MarkedPlan:
    """The tensors of a structure, as the scheme calls them, with markers for their numbers.

    stem, head: the tensors of the ends, the classifier's apart. bodies: of every block, by stage,
    without its shortcut's; those are in `shortcuts`. All are keys of `tensors` and `names`,
    canonical.
    """

    tensors: Mapping[str, Tensor]
    names: Mapping[str, Foreign]
    unknowns: Mapping[int, Unknown]
    stem: tuple[str, ...]
    head: tuple[str, ...]
    classifier: tuple[str, ...]
    bodies: tuple[tuple[tuple[str, ...], ...], ...]
    shortcuts: tuple[tuple[tuple[str, ...], ...], ...]


@lru_cache(maxsize=4096)
def marked_plan(scheme: Scheme, structure: Structure, blocks: tuple[int, ...]) -> MarkedPlan | None:
    """Return the marked plan with `blocks` blocks in each stage, every one with a projection.

    None where the scheme has no name for a part; what its project refuses is not asked here.
    """
    plan = lower(_spec(structure, blocks), 1)
    try:
        names = replace(scheme, refuses=()).in_file(plan)
    except CheckpointError:
        return None
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    parts: dict[Address, list[str]] = {}
    for op in plan.ops:
        parts.setdefault(_part(op), []).extend(tensor.name for tensor in op.tensors)
    last = tuple(tensor.name for tensor in classifier(plan).tensors)
    return MarkedPlan(
        tensors,
        names,
        _unknowns(structure, len(blocks), plan),
        stem=tuple(parts[Address(None, None, "stem")]),
        head=tuple(it for it in parts[Address(None, None, "head")] if it not in last),
        classifier=last,
        bodies=_by_block(parts, blocks, "body"),
        shortcuts=_by_block(parts, blocks, "shortcut"),
    )


def canonical_shape(tensor: Tensor, layout: Foreign, shape: Shape) -> Shape | None:
    """Return `shape`, that of a foreign tensor, with its axes in the canonical order.

    An axis that the foreign one has not is 1. None: it has another number of axes.
    """
    axes = _axes(layout.layout)
    if len(axes) != len(shape):
        return None
    there = dict(zip(axes, shape, strict=True))
    return tuple(there.get(axis, 1) for axis in range(len(tensor.shape)))


@cache
def _axes(layout: Layout) -> tuple[int, ...]:
    """Return which canonical axis each axis of a foreign tensor is."""
    numbered = Tensor("axes", (0, 1, 2, 3), "OIHW", "conv_weight", Init("constant", 0.0))
    return foreign_shape(numbered, layout)


# Markers of the stages lie in ranges of their own: 8x (width), 16x (inner, of two groups), 24x
# (out, expanded by three) and about 12x (half of out, reduced to a multiple of 8).
_WIDTH, _EXPANSION, _GROUPS, _SQUEEZE = 1000, 3, 2, 0.5
_STEM, _CHANNELS, _CLASSES = 7001, 6999, 6001
KERNEL = 9


def _spec(structure: Structure, blocks: tuple[int, ...]) -> Spec:
    is_bottleneck = structure.block == "bottleneck"
    return Spec(
        name="marked",
        classes=_CLASSES,
        input={"size": 1, "channels": _CHANNELS},
        stem={
            "widths": [_STEM + i for i in range(structure.stem)],
            "kernel": KERNEL,
            "pool": False,
        },
        stages=[
            {"width": 8 * (_WIDTH + i), "blocks": count, "stride": 2}
            for i, count in enumerate(blocks)
        ],
        block=structure.block,
        expansion=_EXPANSION,
        order=structure.order,
        groups=_GROUPS if is_bottleneck else 1,
        shortcut="projection_all",
        downsample=structure.downsample,
        squeeze=_SQUEEZE if structure.squeeze else 0.0,
    )


def _unknowns(structure: Structure, stages: int, plan: Plan) -> dict[int, Unknown]:
    found = {_CHANNELS: Unknown("channels"), _CLASSES: Unknown("classes")}
    found |= {_STEM + i: Unknown("stem", i) for i in range(structure.stem)}
    for stage in range(stages):
        width = 8 * (_WIDTH + stage)
        found[width * _EXPANSION] = Unknown("out", stage)
        if structure.block == "bottleneck":
            found[width * _GROUPS] = Unknown("inner", stage)
            found[width] = Unknown("group", stage)
        else:
            found[width] = Unknown("inner", stage)
    for stage, reduced in enumerate(reduced_channels(plan)):
        assert reduced not in found
        found[reduced] = Unknown("reduced", stage)
    return found


def reduced_channels(plan: Plan) -> list[int]:
    """Return for every stage with gates how many channels the first convolution of one leaves."""
    first: dict[int | None, int] = {}
    for op in plan.ops:
        if isinstance(op, Conv) and op.address.part == "gate":
            first.setdefault(op.address.stage, op.out_shape[0])
    return list(first.values())


def _part(op: Op) -> Address:
    """Return the address of the part of the network that an op is in; a gate is in the body."""
    address = op.address
    return replace(address, part="body") if address.part == "gate" else address


def _by_block(
    parts: Mapping[Address, list[str]], blocks: tuple[int, ...], part: Part
) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Return the names of every block's tensors in `part`, by stage."""
    return tuple(
        tuple(tuple(parts[Address(stage, block, part)]) for block in range(count))
        for stage, count in enumerate(blocks, start=1)
    )
