"""One node's inputs and output, and the test of an explanation.

A hypothesis is an output computed another way; it explains the node when it is as close to what was
found as rounding allows. Nothing is named because it is likely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from resnet_spec.contract import Array, Precision
from resnet_spec.loader import load_backend
from resnet_spec.ops import Activation, Gate, Op
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import UNIT
from resnet_spec.parity.smooth_batch import REFERENCE
from resnet_spec.planning.dataflow import Step

_EXPONENTIAL = 4.0
"""Roundings for a sigmoid: no framework rounds its exponential correctly. On a CPU torch 2.13 and
JAX 0.10.2 are off by up to 1.7 roundings, MindSpore 2.10 by 20.7 (`scripts/measure_limits.py`); the
limit is eight times this."""

NODE_LIMIT = 8.0
"""Floors of a node by itself; 3.4 were measured, of MindSpore's sigmoid (see `_EXPONENTIAL`)."""

_CLOSER = 8.0
"""How many times closer to what was found an explanation must be than what was expected."""


class Hypothesis(NamedTuple):
    """Another way to compute something. cause: a name of the catalogue; detail: with numbers."""

    cause: str
    detail: str
    output: Callable[[], Array]


@dataclass(frozen=True)
class Work:
    """What a node was given, besides its inputs.

    state: the reference's tensors; own: those of the side that is judged.
    """

    precision: Precision
    state: Mapping[str, Array]
    own: Mapping[str, Array]
    training: bool
    noise: Mapping[str, Array]

    def node(self, op: Op, order: str | None = None, **options: Any) -> Any:
        """Return the reference's node: in float64, or in the judged precision in an `order`."""
        arithmetic = {"precision": "float64"}
        if order is not None:
            arithmetic = {"precision": self.precision, "order": order}
        given = {"state": self.state, "training": self.training, "noise": self.noise}
        return self._reference.Node(op, **{**given, **arithmetic, **options})

    @property
    def orders(self) -> tuple[str, ...]:
        """The legitimate orders of summation."""
        return self._reference.ORDERS

    @cached_property
    def _reference(self) -> Any:
        return load_backend(REFERENCE)

    def output(self, step: Step, inputs: tuple[Array, ...], order: str | None = None) -> Array:
        """Return the step's output for `inputs`."""
        if isinstance(step.node, Gate):
            x, factors = inputs
            return x * factors
        return self.node(step.node, order).forward(*inputs)

    def floor(self, step: Step, inputs: tuple[Array, ...], expected: Array) -> float:
        """Return the noise floor of the step's output given these very inputs."""
        found = [UNIT[self.precision]]
        if isinstance(step.node, Activation) and step.node.kind == "sigmoid":
            found.append(_EXPONENTIAL * UNIT[self.precision])
        if not isinstance(step.node, Gate):
            outputs = (self.output(step, inputs, order) for order in self.orders)
            found += [difference("", output, expected).max_rel for output in outputs]
        return max(found)


@dataclass(frozen=True)
class Seen:
    """A step with the inputs it had, its own output, the right one, and the floor between them."""

    step: Step
    inputs: tuple[Array, ...]
    got: Array
    expected: Array
    floor: float
    hidden: Mapping[str, Seen] = field(default_factory=dict[str, "Seen"])
    """By name, the nodes before it that the side does not show, as the reference computes them."""

    @property
    def multiples(self) -> float:
        """The error in multiples of the floor."""
        return multiples(self.got, self.expected, self.floor)

    @property
    def is_wrong(self) -> bool:
        """Whether it is more than rounding."""
        return self.multiples > NODE_LIMIT


def multiples(got: Array, expected: Array, floor: float) -> float:
    """Return the error of `got` in multiples of `floor`; infinite for another shape."""
    error = difference("", got, expected).max_rel
    return error / floor if math.isfinite(error) else math.inf


def explain(
    got: Array, expected: Array, floor: float, limit: float, tried: Iterable[Hypothesis]
) -> Hypothesis | None:
    """Return the first of `tried` that gives `got` to within `limit` floors, and not `expected`.

    Where the two can hardly be told apart, it is the one that is several times closer to `got`.
    """
    error = multiples(got, expected, floor)
    for hypothesis in tried:
        output = _computed(hypothesis)
        if output is None:
            continue
        left = multiples(got, output, floor)
        if left > limit:
            continue
        if multiples(output, expected, floor) > limit or _CLOSER * left < error:
            return hypothesis
    return None


def _computed(hypothesis: Hypothesis) -> Array | None:
    """Return the output; None where the inputs do not allow this way of computing."""
    try:
        with np.errstate(all="ignore"):
            return hypothesis.output()
    except (ValueError, IndexError, ZeroDivisionError):
        return None


def number(value: float) -> str:
    """Return a solved number in a few digits: 1e-05, 0.1."""
    return f"{value:.3g}"


def median_of(values: Array) -> float:
    """Return the median of the finite ones of `values`; nan for none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def rounded(value: float) -> Iterator[float]:
    """Yield `value` and what it may have been meant to be: itself in one, two and three digits."""
    if math.isfinite(value):
        for digits in (1, 2, 3):
            yield float(f"{value:.{digits}g}")
        yield value
