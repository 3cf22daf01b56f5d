"""The catalogue of causes in the backward pass: what else a node may have sent back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from resnet_spec import ops
from resnet_spec.contract import Array
from resnet_spec.parity.localise.evidence import Hypothesis, Work, number
from resnet_spec.planning.dataflow import Step
from resnet_spec.recipe import Recipe

Tried = Iterator[Hypothesis]


@dataclass(frozen=True)
class Sent:
    """What a step sends back to its input number `place`: `gradient`, made from `dy`."""

    step: Step
    place: int
    inputs: tuple[Array, ...]
    dy: Array
    output: Array | None
    gradient: Array


def hypotheses(work: Work, sent: Sent, others: Array) -> Tried:
    """Yield what the value may have got instead; `others` is what its other readers send."""
    for cause, detail, gradient in _ways(work, sent):
        yield Hypothesis(cause, detail, lambda g=gradient: others + g)
    yield Hypothesis(
        "gradient missing", "nothing is sent back", lambda: others + np.zeros_like(sent.gradient)
    )
    for factor in (2.0, 0.5, float(len(sent.dy)), 1.0 / len(sent.dy), -1.0):
        detail = f"multiplied by {number(factor)}"
        yield Hypothesis("gradient scaled", detail, lambda f=factor: others + f * sent.gradient)


def _ways(work: Work, sent: Sent) -> Iterator[tuple[str, str, Array]]:
    x, dy = sent.inputs[0], sent.dy.astype(np.float64)
    match sent.step.node:
        case ops.Activation(kind="relu"):
            yield "ReLU missing", "its gradient passes where its output is zero", dy
        case ops.Activation(kind="sigmoid"):
            yield "activation", "its gradient is that of the identity", dy
        case ops.Norm(frozen=False) as op:
            scale = np.asarray(work.state[op.scale.name])
            inverse = 1.0 / np.sqrt(x.var((0, 2, 3)) + op.eps)
            factor = (scale * inverse)[:, None, None]
            yield (
                "statistics held constant",
                "no gradient flows through mean and variance",
                dy * factor,
            )
            centred = dy - dy.mean((0, 2, 3), keepdims=True)
            yield "statistics held constant", "none flows through the variance", centred * factor
        case ops.MaxPool() as op:
            yield from _of_max_pool(work, op, x, dy)
        case ops.Conv() as op:
            weight = np.asarray(work.state[op.weight.name])
            turned = {**work.state, op.weight.name: weight.transpose(0, 1, 3, 2)}
            flipped = {**work.state, op.weight.name: weight[:, :, ::-1, ::-1]}
            for detail, state in (("transposed", turned), ("flipped", flipped)):
                if weight.shape[2] > 1:
                    node = work.node(op, state=state)
                    node.forward(x)
                    yield (
                        "transposed kernel",
                        f"{detail} in the backward pass",
                        node.backward(dy).inputs[0],
                    )
        case ops.Gate():
            if sent.place == 0:
                yield "gate missing", "its factors are not applied", dy
        case ops.GlobalPool():
            height, width = x.shape[2:]
            yield "gradient scaled", "not divided by the pixels", sent.gradient * height * width
        case _:  # A catalogue: what it does not list has no causes of its own.
            pass


def _of_max_pool(
    work: Work, op: ops.MaxPool, x: Array, dy: Array
) -> Iterator[tuple[str, str, Array]]:
    fields = (op.name, op.in_shape, op.out_shape, op.kernel, op.stride, op.pad)
    node = work.node(ops.AvgPool(*fields))
    node.forward(x)
    yield "pooling", "the gradient of an average pool", node.backward(dy).inputs[0]
    padded = np.pad(x, ((0, 0), (0, 0), op.pad[:2], op.pad[2:]))
    node = work.node(ops.MaxPool(*fields[:5], (0, 0, 0, 0)))
    node.forward(padded)
    top, _, left, _ = op.pad
    height, width = x.shape[2:]
    inside = node.backward(dy).inputs[0][:, :, top : top + height, left : left + width]
    yield "max-pool padded with zeros", "zeros in the padding take part", inside


def of_tensor(name: str, expected: Array, weight: Array | None, recipe: Recipe) -> Tried:
    """Yield what else may be the gradient by the tensor `name`."""
    decay = recipe.optimizer.weight_decay
    if weight is not None and decay > 0:
        detail = f"{name}: weight decay {number(decay)} is part of the gradient"
        yield Hypothesis(
            "coupled against decoupled decay", detail, lambda: expected + decay * weight
        )
    if expected.ndim == 4:
        turned = {"transposed": (0, 1, 3, 2), "channels exchanged": (1, 0, 2, 3)}
        for detail, axes in turned.items():
            yield Hypothesis(
                "transposed kernel", f"{name}: {detail}", partial(expected.transpose, axes)
            )
        yield Hypothesis(
            "transposed kernel", f"{name}: flipped", lambda: expected[:, :, ::-1, ::-1]
        )
    yield Hypothesis("gradient missing", f"{name}: zero", lambda: np.zeros_like(expected))
    for factor in (2.0, 0.5, -1.0):
        detail = f"{name}: multiplied by {number(factor)}"
        yield Hypothesis("gradient scaled", detail, lambda f=factor: f * expected)
