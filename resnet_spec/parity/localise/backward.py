"""The last node, in order of execution, whose gradients are wrong given those that reached it.

The mirror of `forward`: every node's backward pass is computed by the reference from the judged
side's own activations and from its own gradient by the node's output. What the readers of a value
send back is added up and compared with the side's gradient by that value; a node's tensors with the
side's gradients by them. Choices (ReLUs, max-pools) are the side's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.ops import Gate
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.kink_choices import choices_of, normalised
from resnet_spec.parity.limits import LIMITS
from resnet_spec.parity.localise.evidence import Work, explain, multiples
from resnet_spec.parity.localise.forward import work_of
from resnet_spec.parity.localise.loss import search_loss
from resnet_spec.parity.localise.slopes import Sent, hypotheses, of_tensor
from resnet_spec.parity.side import Side
from resnet_spec.planning.dataflow import Step, steps
from resnet_spec.reporting.report import Finding

LIMIT = LIMITS["gradients"].multiples


@dataclass
class _Value:
    """What is sent back to a value: the sum in float64 and in every order, and by whom."""

    total: Array
    ordered: list[Array]
    senders: list[Sent] = field(default_factory=list[Sent])

    def add(self, sent: Sent, ordered: list[Array]) -> None:
        self.total = self.total + sent.gradient
        self.ordered = [a + b for a, b in zip(self.ordered, ordered, strict=True)]
        self.senders.append(sent)


def search_backward(got: Side, floors: Floors) -> Finding | None:
    """Return the first wrong node from the loss backwards; None for none."""
    found = search_loss(got, floors)
    if found is not None:
        return found
    gradients = dict(got.node_gradients)
    if not gradients:
        return None
    for node, error, tried in _wrong(got, floors, gradients):
        for name, target, expected, floor, hypothesis in tried:
            cause = explain(target, expected, floor, 2.0 * LIMIT, hypothesis)
            if cause is not None:
                detail = f"{cause.cause}: {cause.detail}"
                return Finding(got.backend, "backward", name, error, cause.cause, detail)
        detail = f"its gradient is off by {error:.3g} times the floor"
        return Finding(got.backend, "backward", node, error, "", detail)
    return None


def _wrong(got: Side, floors: Floors, gradients: dict[str, Array]) -> Iterator[Any]:
    """Yield (node, multiples, what to try) for everything that is wrong, from the loss backwards.

    What to try: (node, what was found, its floor, hypotheses) for each node that may be at fault.
    """
    work, walk = work_of(got, floors, training=True), _Walk(got, floors)
    values: dict[str, _Value] = {}
    for step in reversed(list(steps(floors.expected.setup.plan))):
        name = step.node.name
        if name in values and name in gradients:
            yield from _of_value(work, values[name], gradients[name])
        dy = gradients.get(name, values[name].total if name in values else None)
        if dy is None:
            continue
        inputs = walk.inputs(step)
        if inputs is None or dy.shape != walk.shape(step):
            continue
        exact = walk.backward(work, step, inputs, dy)
        ordered = [walk.backward(work, step, inputs, dy, order) for order in work.orders]
        yield from _of_tensors(got, step, exact, ordered)
        for i, value in enumerate(step.inputs):
            zero = np.zeros_like(exact.inputs[i])
            empty = _Value(zero, [zero for _ in ordered])
            sent = Sent(step, i, inputs, dy, walk.output(step), exact.inputs[i])
            values.setdefault(value.name, empty).add(sent, [o.inputs[i] for o in ordered])
    if "input" in values and "input" in gradients:
        yield from _of_value(work, values["input"], gradients["input"])


def _of_value(work: Work, value: _Value, got: Array) -> Iterator[Any]:
    floor = max(
        UNIT[work.precision], *(difference("", o, value.total).max_rel for o in value.ordered)
    )
    error = multiples(got, value.total, floor)
    if error <= LIMIT:
        return
    # Of several readers the one that an explanation fits is to blame; without, the first to send.
    tried = [
        (
            sent.step.node.name,
            got,
            value.total,
            floor,
            hypotheses(work, sent, value.total - sent.gradient),
        )
        for sent in value.senders
    ]
    yield value.senders[0].step.node.name, error, tried


def _of_tensors(got: Side, step: Step, exact: Any, ordered: list[Any]) -> Iterator[Any]:
    for name, expected in exact.tensors.items():
        found = got.gradients[1].get(name)
        if found is None:
            continue
        errors = (difference("", o.tensors[name], expected).max_rel for o in ordered)
        floor = max(UNIT[got.precision], *errors)
        error = multiples(found, expected, floor)
        if error > LIMIT:
            tried = of_tensor(name, expected, got.state.get(name), got.setup.recipe)
            yield step.node.name, error, [(step.node.name, found, expected, floor, tried)]


class _Walk:
    """The judged side's own activations and choices, for the reference's backward passes."""

    def __init__(self, got: Side, floors: Floors) -> None:
        setup = floors.expected.setup
        self._images = normalised(setup)
        self._outputs = {k: v.astype(np.float64) for k, v in got.activations.items()}
        own = choices_of(
            setup.plan, self._outputs, self._outputs, lambda name: np.inf, self._images
        )
        self._choices = own.made

    def inputs(self, step: Step) -> tuple[Array, ...] | None:
        """Return what the step reads; None where the side does not show it."""
        found = [self._value(value.name) for value in step.inputs]
        return None if any(x is None for x in found) else tuple(found)  # pyright: ignore[reportReturnType]

    def output(self, step: Step) -> Array | None:
        """Return what the side computed there."""
        return self._outputs.get(step.node.name)

    def shape(self, step: Step) -> tuple[int, ...]:
        """Return the shape of the step's output, batch included."""
        return (len(self._images), *step.output.shape)

    def _value(self, name: str) -> Array | None:
        return self._images if name == "input" else self._outputs.get(name)

    def backward(
        self, work: Work, step: Step, inputs: tuple[Array, ...], dy: Array, order: str | None = None
    ) -> Any:
        """Return the step's gradients by inputs and tensors."""
        dy = dy.astype(np.float64)
        if isinstance(step.node, Gate):
            return _of_gate(inputs, dy)
        node = work.node(step.node, order, choices=self._choices)
        node.forward(*inputs)
        return node.backward(dy)


@dataclass(frozen=True)
class _Gradients:
    inputs: tuple[Array, ...]
    tensors: dict[str, Array]


def _of_gate(inputs: tuple[Array, ...], dy: Array) -> _Gradients:
    x, factors = inputs
    return _Gradients((dy * factors, (dy * x).sum((2, 3), keepdims=True)), {})
