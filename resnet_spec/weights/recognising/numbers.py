"""The numbers of a network out of the shapes of its tensors: every tensor has a vote.

A single tensor of a wrong shape is outvoted, and so can be named afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from resnet_spec.describing.spec import Spec
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.recognising.depth_search import FoundStages, Shapes
from resnet_spec.weights.recognising.marked_plans import (
    KERNEL,
    MarkedPlan,
    Structure,
    Unknown,
    canonical_shape,
    reduced_channels,
)

Fields = dict[str, Any]
Numbers = Mapping[Unknown, int]


def numbers_of(marked: MarkedPlan, shapes: Shapes) -> Numbers:
    """Return the number that most tensors have where the marked plan has a marker."""
    votes: dict[Unknown, Counter[int]] = {}
    for name, tensor in marked.tensors.items():
        there = marked.names[name]
        shape = canonical_shape(tensor, there, shapes.get(there.name, ()))
        if shape is None:
            continue
        for axis, (marker, number) in enumerate(zip(tensor.shape, shape, strict=True)):
            unknown = marked.unknowns.get(marker)
            if axis < 2 and unknown is not None:
                votes.setdefault(unknown, Counter())[number] += 1
        if tensor.shape[2:] == (KERNEL, KERNEL):
            votes.setdefault(Unknown("kernel"), Counter())[shape[2]] += 1
    return {unknown: count.most_common(1)[0][0] for unknown, count in votes.items()}


def fields_of(structure: Structure, found: FoundStages, numbers: Numbers) -> Fields | None:
    """Return the fields of a spec that tensors determine; None where no spec has these numbers."""
    stages = range(len(found.blocks))
    try:
        outs = [numbers[Unknown("out", i)] for i in stages]
        inners = [numbers[Unknown("inner", i)] for i in stages]
        ends: Fields = {
            "classes": numbers[Unknown("classes")],
            "input": {"channels": numbers.get(Unknown("channels"), 3)},
            "stem": {
                "widths": [numbers[Unknown("stem", i)] for i in range(structure.stem)],
                "kernel": _kernel(numbers),
            },
        }
        widths = _widths(structure, numbers, outs, inners)
    except KeyError:
        return None
    if widths is None or min(*outs, *inners) < 1:
        return None
    channels = [ends["stem"]["widths"][-1], *outs]
    shortcut = _shortcut(found, channels)
    strides = _strides(found, channels, shortcut)
    return {
        **ends,
        "block": structure.block,
        "order": structure.order,
        "downsample": structure.downsample,
        "shortcut": shortcut,
        **{key: value for key, value in widths.items() if key != "widths"},
        "stages": [
            {"width": width, "blocks": blocks, "stride": stride}
            for width, blocks, stride in zip(widths["widths"], found.blocks, strides, strict=True)
        ],
    }


def _kernel(numbers: Numbers) -> int:
    """Return the stem's kernel, and ImageNet's where the one tensor that shows it is amiss."""
    kernel = numbers.get(Unknown("kernel"), 7)
    return kernel if kernel % 2 else 7


def _shortcut(found: FoundStages, channels: list[int]) -> str:
    """Return the shortcut; where no block has a tensor in it and widths grow, it may be A."""
    flags = list(chain.from_iterable(found.projections))
    others = [flag for stage in found.projections for flag in stage[1:]]
    if 2 * sum(others) > len(others) and 2 * sum(flags) > len(flags):
        return "projection_all"
    if any(flags) or len(set(channels)) == 1:
        return "projection"
    return "zero_pad" if channels == sorted(channels) else "none"


def _strides(found: FoundStages, channels: list[int], shortcut: str) -> Iterator[int]:
    """Yield the stages' strides: what a projection without more channels implies, else the usual.

    A stage whose first block has neither a projection nor more channels keeps the resolution.
    """
    for i, stage in enumerate(found.projections):
        changes = channels[i] != channels[i + 1]
        if shortcut == "projection" and not changes:
            yield 2 if stage[0] else 1
        else:
            yield 1 if i == 0 else 2


def _widths(
    structure: Structure, numbers: Numbers, outs: list[int], inners: list[int]
) -> Fields | None:
    """Return widths and expansion, and for bottlenecks groups and width_per_group."""
    if structure.block == "basic":
        expansion = outs[0] // max(inners[0], 1)
        if not expansion or outs != [inner * expansion for inner in inners]:
            return None
        return {"widths": inners, "expansion": expansion}
    sizes = [numbers[Unknown("group", i)] for i in range(len(outs))]
    if not all(sizes):
        return None
    groups = Counter(inner // size for inner, size in zip(inners, sizes, strict=True))
    found = list(_bottlenecks(outs, inners, groups.most_common(1)[0][0]))
    # torchvision's and everybody's factor first, then the plainest.
    found.sort(key=lambda it: (it["expansion"] != 4, it["width_per_group"] != 64, it["expansion"]))
    return found[0] if found else None


_MOST_EXPANSION = 256


def _bottlenecks(outs: list[int], inners: list[int], groups: int) -> Iterator[Fields]:
    """Yield what gives these channels: inner = width * width_per_group // 64 * groups."""
    if not groups or any(inner % groups for inner in inners):
        return
    for expansion in (
        e for e in range(1, min(*outs, _MOST_EXPANSION) + 1) if not any(out % e for out in outs)
    ):
        widths = [out // expansion for out in outs]
        pairs = [
            (64 * (inner // groups), width) for inner, width in zip(inners, widths, strict=True)
        ]
        low = max(-(-size // width) for size, width in pairs)
        high = min((size + 63) // width for size, width in pairs)
        if low <= high:
            per_group = 64 if low <= 64 <= high else low
            yield {
                "widths": widths,
                "expansion": expansion,
                "groups": groups,
                "width_per_group": per_group,
            }


_RATIOS = (1 / 16, 1 / 4, 1 / 8, 1 / 2, 1 / 32)


def squeeze_of(fields: Fields, stages: int, numbers: Numbers) -> float | None:
    """Return the fraction that reduces every stage's output as the tensors are; None if none does.

    Fractions that people write come first, for many give the same.
    """
    reduced = [numbers.get(Unknown("reduced", i), 0) for i in range(stages)]
    outs = [numbers[Unknown("out", i)] for i in range(stages)]
    exact = [part / out for part, out in zip(reduced, outs, strict=True)]
    small = [{**stage, "blocks": 1} for stage in fields["stages"]]
    for ratio in (*_RATIOS, *exact):
        if 0.0 < ratio < 1.0:
            plan = lower(Spec.from_dict({**fields, "stages": small, "squeeze": ratio}), 1)
            if reduced_channels(plan) == reduced:
                return ratio
    return None
