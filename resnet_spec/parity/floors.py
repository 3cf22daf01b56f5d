"""The noise floor: what rounding alone does to every tensor of a network.

The same network is computed in the precision that is judged, by the reference's own code, with its
sums taken in several legitimate orders (`resnet_spec_numpy.sums`). How far the worst of them lands
from float64, tensor by tensor, is the floor. No error can be expected to be smaller, and none that
is a few times larger can be told from a bug by its size; what is many times larger is no rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from resnet_spec.contract import Precision
from resnet_spec.loader import load_backend
from resnet_spec.parity.comparison import Difference, difference
from resnet_spec.parity.kink_choices import Choices, choices_of, normalised
from resnet_spec.parity.levels import Compare, compute, level_of
from resnet_spec.parity.once import once
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import REFERENCE

UNIT: dict[Precision, float] = {"float32": 2.0**-24, "float64": 2.0**-53}
"""Unit roundoff: the relative error of one rounding, below which no floor falls."""

_REACH = 16.0
"""How many floors of its input a choice may be from the corner for rounding to decide it: as much
as counts as rounding in an activation (see limits)."""


class Floors:
    """The float64 reference of a setup, and what rounding in `precision` does to it."""

    def __init__(self, expected: Side, precision: Precision) -> None:
        self.expected = expected
        self.precision: Precision = precision
        self._found: dict[str, dict[str, float]] = {}
        self._alike: dict[Side, tuple[Side, Choices]] = {}

    @once
    def sides(self) -> list[Side]:
        """The reference in `precision`, once in each order of summation."""
        package: Any = load_backend(REFERENCE)
        first, *others = package.ORDERS
        side = Side(REFERENCE, self.expected.setup, self.precision, order=first)
        return [side, *(side.sharing(order=order) for order in others)]

    def prepare(self, levels: Iterable[str]) -> None:
        """Compute the floors of `levels` now, and the reference itself where they have none."""
        for level in levels:
            compute(self.expected, level)
            if not level_of(level).exact:
                self.of(level)

    def of(self, level: str) -> dict[str, float]:
        """Return the floor of every item of `level`, as an error relative to the tensor."""
        if level not in self._found:
            # A run costs as much as all other levels together; one order has to do.
            sides = self.sides[-1:] if "run" in level_of(level).values else self.sides
            for side in sides:  # Before their outputs are asked for, which one pass gives, too.
                compute(side, level)
            floors: dict[str, float] = {}
            for side in sides:
                for name, error in self._noise(level, side):
                    floors[name] = max(floors.get(name, UNIT[self.precision]), error)
                if level_of(level).derivative:
                    side.forget("_backward")
            self._found[level] = floors
        return self._found[level]

    def _noise(self, level: str, side: Side) -> list[tuple[str, float]]:
        compare = level_of(level).noise or level_of(level).compare
        return [(d.name, d.max_rel) for d in self.compared(compare, level, side)]

    def compared(self, compare: Compare, level: str, got: Side) -> list[Difference]:
        """Return `compare` of `got` and the reference, which chooses alike where slopes are asked.

        What was computed for this alone, as large as all weights, is let go of.
        """
        if not level_of(level).derivative:
            return compare(got, self.expected)
        alike, _ = self.alike(got)
        found = compare(got, alike)
        if alike is not self.expected:
            alike.forget("_backward", "_first_step")
        return found

    def alike(self, got: Side) -> tuple[Side, Choices]:
        """Return the reference that chooses as `got` wherever rounding can decide."""
        if got not in self._alike:
            plan = self.expected.setup.plan
            images = normalised(self.expected.setup)
            choices = choices_of(plan, got.outputs, self.expected.outputs, self._reach, images)
            side = self.expected
            if choices.count > choices.far:
                side = self.expected.sharing(choices=choices.made)
            self._alike[got] = side, choices
        return self._alike[got]

    @once
    def _errors(self) -> dict[str, float]:
        """The largest absolute error of every node's output in training mode."""
        floors: dict[str, float] = {}
        for name, expected in self.expected.outputs.items():
            found = [difference(name, s.outputs[name], expected).max_rel for s in self.sides]
            scale = float(np.max(np.abs(expected), initial=0.0))
            floors[name] = max(*found, UNIT[self.precision]) * scale
        return floors

    def _reach(self, name: str) -> float:
        return _REACH * self._errors[name]
