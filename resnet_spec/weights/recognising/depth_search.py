"""How many stages and blocks a file has: marked plans are made longer until it has no more.

Where a scheme numbers blocks through the whole network, one stage takes them all, and is cut where
widths change or where a projection begins a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile

from resnet_spec.ops import Shape
from resnet_spec.weights.naming.names import Scheme
from resnet_spec.weights.recognising.marked_plans import (
    KINDS,
    MOST_STAGES,
    MarkedPlan,
    Structure,
    canonical_shape,
    marked_plan,
    structures,
)

Shapes = Mapping[str, Shape]
"""Name of a tensor in a file -> its shape there."""

_FIRST_BLOCKS, _FIRST_STAGES, _GROWTH, _MOST_BLOCKS = 8, 5, 4, 10_000


@dataclass(frozen=True, slots=True)
class FoundStages:
    """What a file has of a structure: for every stage, which of its blocks have a projection.

    marked: a marked plan with at least so many blocks in each stage.
    """

    projections: tuple[tuple[bool, ...], ...]
    marked: MarkedPlan

    @property
    def blocks(self) -> tuple[int, ...]:
        """How many blocks each stage has."""
        return tuple(map(len, self.projections))


def likely_structures(
    scheme: Scheme, names: Set[str], *, whole: bool = True
) -> Iterator[tuple[Structure, float, int]]:
    """Yield structures of which a file with `names` has something: which share of the first names.

    The first names are those of stem and first block, and of the head unless it is numbered; their
    number comes third. whole: whether the classifier's are among them.
    """
    for kind in KINDS:
        if not first_body(scheme, kind).isdisjoint(names):
            for structure in structures(kind):
                if first := _first_names(scheme, structure, whole):
                    yield structure, len(first & names) / len(first), len(first)


@lru_cache(maxsize=256)
def first_body(scheme: Scheme, kind: Structure) -> frozenset[str]:
    """Return the scheme's names of the first block's tensors, less those of its shortcut."""
    marked = marked_plan(scheme, kind, (1, 1))
    return (
        frozenset(marked.names[name].name for name in marked.bodies[0][0])
        if marked
        else frozenset()
    )


@lru_cache(maxsize=2048)
def _first_names(scheme: Scheme, structure: Structure, whole: bool) -> frozenset[str]:
    marked = marked_plan(scheme, structure, (1, 1))
    if marked is None:
        return frozenset()
    head = (*marked.head, *marked.classifier) if whole else marked.head
    ends = marked.stem if _is_flat(scheme, structure) else (*marked.stem, *head)
    return frozenset(marked.names[name].name for name in (*ends, *marked.bodies[0][0]))


def find_stages(scheme: Scheme, structure: Structure, shapes: Shapes) -> Iterator[FoundStages]:
    """Yield how far the file goes, and how else its blocks may make stages.

    A block is there when most of its names are: what lacks is said once all is known.
    """
    is_flat = _is_flat(scheme, structure)
    sizes = [_FIRST_BLOCKS] * (1 if is_flat else _FIRST_STAGES)
    while True:
        marked = marked_plan(scheme, structure, tuple(sizes))
        if marked is None:
            return
        counts = [_count(marked, stage, shapes) for stage in range(len(sizes))]
        full = [i for i, count in enumerate(counts) if count == sizes[i]]
        full = [i for i in full if sizes[i] < _MOST_BLOCKS]
        is_short = not is_flat and counts[-1] > 0 and len(sizes) < MOST_STAGES
        if not full and not is_short:
            break
        for i in full:
            sizes[i] = min(sizes[i] * _GROWTH, _MOST_BLOCKS)
        if is_short:
            sizes += [_FIRST_BLOCKS] * min(len(sizes), MOST_STAGES - len(sizes))
    projections = tuple(
        tuple(_has(marked, marked.shortcuts[stage][block], shapes) for block in range(count))
        for stage, count in enumerate(takewhile(bool, counts))
    )
    if not projections:
        return
    if not is_flat:
        yield FoundStages(projections, marked)
        return
    for cut in dict.fromkeys(_cuts(marked, projections[0], shapes)):
        as_cut = marked_plan(scheme, structure, tuple(map(len, cut)))
        if as_cut is not None:
            yield FoundStages(cut, as_cut)


def _is_flat(scheme: Scheme, structure: Structure) -> bool:
    """Whether the second stage's names depend on the length of the first."""
    return _numbers_through(scheme, replace(structure, stem=1, squeeze=False, downsample="conv"))


@lru_cache(maxsize=256)
def _numbers_through(scheme: Scheme, structure: Structure) -> bool:
    short, long = marked_plan(scheme, structure, (1, 1)), marked_plan(scheme, structure, (2, 1))
    if short is None or long is None:
        return False
    name = short.bodies[1][0][0]
    return short.names[name] != long.names[name]


def _count(marked: MarkedPlan, stage: int, shapes: Shapes) -> int:
    return sum(1 for _ in takewhile(lambda body: _has(marked, body, shapes), marked.bodies[stage]))


def _has(marked: MarkedPlan, names: tuple[str, ...], shapes: Shapes) -> bool:
    """Whether the file has more than half of `names`."""
    return 2 * sum(marked.names[name].name in shapes for name in names) > len(names)


Projections = tuple[tuple[bool, ...], ...]


def _cuts(
    marked: MarkedPlan, projections: tuple[bool, ...], shapes: Shapes
) -> Iterator[Projections]:
    """Yield the stages of a network whose blocks are numbered through.

    Where every block has a projection, each may begin a stage or none that is like the one before.
    """
    yield tuple(_cut(marked, projections, shapes, at_projections=True))
    if all(projections):
        yield tuple(_cut(marked, projections, shapes, at_projections=False))


def _cut(
    marked: MarkedPlan, projections: tuple[bool, ...], shapes: Shapes, *, at_projections: bool
) -> Iterator[tuple[bool, ...]]:
    begins = 0
    bodies = marked.bodies[0]
    for block in range(1, len(projections)):
        is_other = not _alike(marked, bodies[begins], bodies[block], shapes)
        if is_other or (projections[block] and at_projections):
            yield projections[begins:block]
            begins = block
    yield projections[begins:]


def _alike(
    marked: MarkedPlan, first: tuple[str, ...], second: tuple[str, ...], shapes: Shapes
) -> bool:
    """Whether most tensors of two blocks put out the same number of channels."""
    pairs = [
        (_channels(marked, one, shapes), _channels(marked, other, shapes))
        for one, other in zip(first, second, strict=True)
    ]
    return 2 * sum(one == other for one, other in pairs) > len(pairs)


def _channels(marked: MarkedPlan, name: str, shapes: Shapes) -> int:
    there = marked.names[name]
    shape = canonical_shape(marked.tensors[name], there, shapes.get(there.name, ()))
    return shape[0] if shape else 0
