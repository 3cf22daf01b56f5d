"""Whether a file's tensors are exactly those of a plan, by one scheme: names and shapes, all.

What `inference` and `converting` ask of a file before they believe anything about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resnet_spec.errors import nearest
from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec.weights.naming.dialects import DIALECTS
from resnet_spec.weights.naming.lifting import foreign_shape
from resnet_spec.weights.naming.names import Scheme


@dataclass(frozen=True)
class Cover:
    """How the tensors of a file and those of a plan differ; `wanted` are the plan's shapes."""

    wanted: Mapping[str, Shape]
    shapes: Mapping[str, Shape]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether every tensor of each side is one of the other, in the same shape."""
        return not self.faults

    @property
    def is_body(self) -> bool:
        """Whether all tensors are there, and whatever else there is stands in no layer of theirs.

        Nor is it a convolution that looks at more than one pixel: such a one is no classifier.
        """
        if self.missing or self.misshapen:
            return False
        own = {_top(name) for name in self.wanted}
        return not any(
            _top(name) in own or _looks_around(self.shapes[name]) for name in self.unexpected
        )

    @property
    def faults(self) -> int:
        """How many tensors are missing, unexpected or misshapen."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def text(self, most: int = 3) -> str:
        """Return the first faults, with the nearest names, and how many more there are."""
        found = [line for _, line in zip(range(most), self._lines(), strict=False)]
        rest = self.faults - len(found)
        return ", ".join([*found, f"and {rest} more"] if rest else found)

    def _lines(self) -> Iterator[str]:
        for name in self.misshapen:
            yield f"{name} = {list(self.shapes[name])} must have shape {list(self.wanted[name])}"
        for name in self.missing:
            yield f"{name} is missing{_hint(name, self.unexpected)}"
        for name in self.unexpected:
            yield f"{name} is unexpected{_hint(name, self.missing)}"


def _top(name: str) -> str:
    """Return the outermost layer of a tensor in a file; Flax's names begin with a collection."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first in _COLLECTIONS else first


_COLLECTIONS = frozenset(
    prefix.removesuffix(".") for it in DIALECTS.values() for prefix in it.collections.values()
)


def _looks_around(shape: Shape) -> bool:
    """Whether a tensor of this shape may be a kernel of several pixels, in any layout."""
    return len(shape) == 4 and shape[:2] != (1, 1) and shape[2:] != (1, 1)


def cover(scheme: Scheme, plan: Plan, shapes: Mapping[str, Shape]) -> Cover:
    """Compare `shapes`, by the file's names, with the tensors of `plan` as `scheme` calls them.

    Counters of steps, which some files have, count as neither. Raises CheckpointError where the
    scheme's project has no such network.
    """
    names = scheme.in_file(plan)
    wanted = {
        names[tensor.name].name: foreign_shape(tensor, names[tensor.name].layout)
        for tensor in plan.tensors
    }
    wanted |= {fold.name: fold.shape for fold in scheme.folds(plan)}
    counters = scheme.counters(plan)
    return Cover(
        wanted,
        shapes,
        missing=tuple(name for name in wanted if name not in shapes),
        unexpected=tuple(name for name in shapes if name not in wanted and name not in counters),
        misshapen=tuple(
            name for name, shape in wanted.items() if name in shapes and shapes[name] != shape
        ),
    )


_MOST_COMPARED = 300
"""Similarity of texts takes time; a file of another network has thousands of names."""


def _hint(name: str, known: tuple[str, ...]) -> str:
    close = nearest(name, known[:_MOST_COMPARED])
    return f" (did you mean '{close}'?)" if close is not None else ""
