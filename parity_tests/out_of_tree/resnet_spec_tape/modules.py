"""The plan as functions of arrays: each returns its output, and the way back through it.

`pull(dy)` takes the gradient of the loss by an output, notes those of the op's tensors on the tape
and returns the gradient by the input. Every number comes from the op; nothing is worked out here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

import numpy as np

from resnet_spec import ops
from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan

from .weights import load_weights, zeros_of

Pull = Callable[[Array], Array]
Output = tuple[Array, Pull]

FAULT = os.environ.get("RESNET_SPEC_TAPE_FAULT", "")
"""`variance`: mistake the convention of the running variance, for a test that this is seen."""


def build(plan: Plan, state: State | None = None) -> Network:
    """Return the network of `plan` in float32, holding `state`, or zeros."""
    network = Network(plan, zeros_of(plan, np.dtype(np.float32)))
    if state is not None:
        load_weights(network.weights, plan, state)
    return network


@dataclass
class Tape:
    """One pass: what the ops read, and what they leave behind.

    Passes change no weights. `statistics` are the running values after a pass in training mode,
    `outputs` and `output_gradients` those of every observed node.
    """

    weights: State
    training: bool = False
    noise: Mapping[str, Array] = field(default_factory=dict)
    outputs: State = field(default_factory=dict)
    gradients: State = field(default_factory=dict)
    output_gradients: State = field(default_factory=dict)
    statistics: State = field(default_factory=dict)

    def record(self, name: str, y: Array, pull: Pull) -> Output:
        """Note the node's output now, and the gradient by it when it comes back."""
        self.outputs[name] = y

        def back(dy: Array) -> Array:
            self.output_gradients[name] = dy
            return pull(dy)

        return y, back


class Network:
    """Normalised images [N, C, H, W] to logits [N, classes], in evaluation mode when called."""

    def __init__(self, plan: Plan, weights: State) -> None:
        self.plan = plan
        self.weights = weights

    def __call__(self, images: Array) -> Array:
        """Return the logits."""
        return apply(self.plan.root, images, Tape(self.weights))[0]


def apply(node: ops.Node, x: Array, tape: Tape) -> Output:
    """Return the node's output for `x`, and the way back."""
    match node:
        case ops.Chain():
            return chain(node.children, x, tape)
        case ops.Gate():
            return tape.record(node.name, *gate(node, x, tape))
        case ops.Residual():
            return residual(node, x, tape)
        case _:
            return tape.record(node.name, *OPS[type(node)](node, x, tape))


# --- Containers -----------------------------------------------------------------------------------


def chain(nodes: tuple[ops.Node, ...], x: Array, tape: Tape) -> Output:
    pulls: list[Pull] = []
    for node in nodes:
        x, pull = apply(node, x, tape)
        pulls.append(pull)

    def back(dy: Array) -> Array:
        for pull in reversed(pulls):
            dy = pull(dy)
        return dy

    return x, back


def gate(node: ops.Gate, x: Array, tape: Tape) -> Output:
    factors, pull = chain(node.children, x, tape)

    def back(dy: Array) -> Array:
        return dy * factors + pull((dy * x).sum((2, 3), keepdims=True))

    return x * factors, back


def residual(node: ops.Residual, x: Array, tape: Tape) -> Output:
    entered, pull_entry = chain(node.entry, x, tape)
    body, pull_body = chain(node.body, entered, tape)
    if node.shortcut is None:
        # The identity is on x, not on what the entry makes of it.
        total, pull_total = tape.record(
            node.add.name, body + x, lambda dy: pull_entry(pull_body(dy)) + dy
        )
    else:
        shortcut, pull_shortcut = apply(node.shortcut, entered, tape)
        total, pull_total = tape.record(
            node.add.name,
            body + shortcut,
            lambda dy: pull_entry(pull_body(dy) + pull_shortcut(dy)),
        )
    y, pull_tail = chain(node.tail, total, tape)
    return y, lambda dy: pull_total(pull_tail(dy))


# --- Ops with tensors -----------------------------------------------------------------------------


def conv(op: ops.Conv, x: Array, tape: Tape) -> Output:
    """One matrix product for every place (i, j) of the kernel, per group and image."""
    weight = tape.weights[op.weight.name]
    groups, pixels = op.groups, op.out_shape[1] * op.out_shape[2]
    kernel = weight.reshape(groups, -1, *weight.shape[1:])  # [G, O/G, C/G, kh, kw]
    padded = padded_with(0.0, x, op.pad)
    places = list(window(op.kernel, op.stride, op.dilation, op.out_shape))

    def seen(rows: slice, columns: slice) -> Array:
        return padded[:, :, rows, columns].reshape(len(x), groups, -1, pixels)

    y = sum(kernel[..., i, j] @ seen(*where) for i, j, where in places)
    y = np.asarray(y).reshape(len(x), *op.out_shape)
    if op.bias is not None:
        y = y + tape.weights[op.bias.name][:, None, None]

    def pull(dy: Array) -> Array:
        grouped = dy.reshape(len(x), groups, -1, pixels)
        dkernel, dpadded = np.zeros_like(kernel), np.zeros_like(padded)
        for i, j, (rows, columns) in places:
            dkernel[..., i, j] = (grouped @ seen(rows, columns).swapaxes(2, 3)).sum(0)
            part = kernel[..., i, j].swapaxes(1, 2) @ grouped
            dpadded[:, :, rows, columns] += part.reshape(len(x), -1, *op.out_shape[1:])
        tape.gradients[op.weight.name] = dkernel.reshape(weight.shape)
        if op.bias is not None:
            tape.gradients[op.bias.name] = dy.sum((0, 2, 3))
        return cropped(dpadded, op.pad)

    return y, pull


def norm(op: ops.Norm, x: Array, tape: Tape) -> Output:
    scale, shift, mean, var = (
        tape.weights[t.name] for t in (op.scale, op.shift, op.running_mean, op.running_var)
    )
    axes, count = (0, 2, 3), x.size // x.shape[1]
    uses_batch = tape.training and not op.frozen
    if uses_batch:
        old_mean, old_var = mean, var
        mean, var = x.mean(axes), x.var(axes)
        # Normalised with the biased variance, always; `variance` is about the running value.
        biased = op.variance == "biased" or FAULT == "variance"
        kept_var = var if biased else var * (count / (count - 1))
        tape.statistics[op.running_mean.name] = op.decay * old_mean + (1 - op.decay) * mean
        tape.statistics[op.running_var.name] = op.decay * old_var + (1 - op.decay) * kept_var
    inverse = 1.0 / np.sqrt(var + op.eps)
    normalised = (x - mean[:, None, None]) * inverse[:, None, None]

    def pull(dy: Array) -> Array:
        dscale, dshift = (dy * normalised).sum(axes), dy.sum(axes)
        tape.gradients[op.scale.name], tape.gradients[op.shift.name] = dscale, dshift
        if uses_batch:  # Mean and variance depend on x, too.
            dy = dy - (dshift / count)[:, None, None]
            dy = dy - normalised * (dscale / count)[:, None, None]
        return dy * (scale * inverse)[:, None, None]

    return normalised * scale[:, None, None] + shift[:, None, None], pull


def linear(op: ops.Linear, x: Array, tape: Tape) -> Output:
    weight, bias = tape.weights[op.weight.name], tape.weights[op.bias.name]

    def pull(dy: Array) -> Array:
        tape.gradients[op.weight.name] = dy.T @ x
        tape.gradients[op.bias.name] = dy.sum(0)
        return dy @ weight

    return x @ weight.T + bias, pull


# --- Ops without tensors --------------------------------------------------------------------------


def activation(op: ops.Activation, x: Array, tape: Tape) -> Output:
    match op.kind:
        case "relu":
            return np.where(x > 0, x, 0), lambda dy: np.where(x > 0, dy, 0)
        case "sigmoid":
            y = 0.5 * (1.0 + np.tanh(0.5 * x))
            return y, lambda dy: dy * y * (1.0 - y)
        case _:
            assert_never(op.kind)


def max_pool(op: ops.MaxPool, x: Array, tape: Tape) -> Output:
    padded = padded_with(-np.inf, x, op.pad)
    places = list(window((op.kernel, op.kernel), op.stride, 1, op.out_shape))
    seen = np.stack([padded[:, :, rows, columns] for _, _, (rows, columns) in places])
    first = seen.argmax(0)  # Of equal maxima the first gets the gradient.

    def pull(dy: Array) -> Array:
        dpadded = np.zeros_like(padded)
        for k, (_, _, (rows, columns)) in enumerate(places):
            dpadded[:, :, rows, columns] += np.where(first == k, dy, 0)
        return cropped(dpadded, op.pad)

    return seen.max(0), pull


def avg_pool(op: ops.AvgPool, x: Array, tape: Tape) -> Output:
    padded, real = (padded_with(0.0, a, op.pad) for a in (x, np.ones_like(x[:1, :1])))
    places = list(window((op.kernel, op.kernel), op.stride, 1, op.out_shape))
    count = np.sum([real[:, :, rows, columns] for _, _, (rows, columns) in places], axis=0)

    def pull(dy: Array) -> Array:
        dpadded = np.zeros_like(padded)
        for _, _, (rows, columns) in places:
            dpadded[:, :, rows, columns] += dy / count
        return cropped(dpadded, op.pad)

    return sum(padded[:, :, rows, columns] for _, _, (rows, columns) in places) / count, pull


def pad_channels(op: ops.PadChannels, x: Array, tape: Tape) -> Output:
    front, _ = op.channels

    def pull(dy: Array) -> Array:
        dx = np.zeros_like(x)
        dx[:, :, :: op.stride, :: op.stride] = dy[:, front : front + x.shape[1]]
        return dx

    picked = x[:, :, :: op.stride, :: op.stride]
    return np.pad(picked, ((0, 0), op.channels, (0, 0), (0, 0))), pull


def global_pool(op: ops.GlobalPool, x: Array, tape: Tape) -> Output:
    n, c, height, width = x.shape

    def pull(dy: Array) -> Array:
        return np.broadcast_to(dy.reshape(n, c, 1, 1) / (height * width), x.shape)

    return x.mean((2, 3), keepdims=op.keep_dims), pull


def flatten(op: ops.Flatten, x: Array, tape: Tape) -> Output:
    return x[:, :, 0, 0], lambda dy: dy[:, :, None, None]


def dropped(op: ops.Dropout | ops.DropPath, x: Array, tape: Tape) -> Output:
    if not tape.training:
        return x, lambda dy: dy
    noise = tape.noise[op.name].astype(x.dtype)
    factors = noise.reshape(noise.shape + (1,) * (x.ndim - noise.ndim))
    return x * factors, lambda dy: dy * factors


OPS: dict[type[ops.Op], Callable[[Any, Array, Tape], Output]] = {
    ops.Conv: conv,
    ops.Norm: norm,
    ops.Linear: linear,
    ops.Activation: activation,
    ops.MaxPool: max_pool,
    ops.AvgPool: avg_pool,
    ops.PadChannels: pad_channels,
    ops.GlobalPool: global_pool,
    ops.Flatten: flatten,
    ops.Dropout: dropped,
    ops.DropPath: dropped,
}


# --- Windows --------------------------------------------------------------------------------------


def window(
    kernel: tuple[int, int], stride: int, dilation: int, out_shape: ops.Shape
) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """Yield (i, j, the rows and columns of the padded image that place (i, j) sees)."""
    for i, j in np.ndindex(*kernel):
        rows, columns = (
            slice(start * dilation, start * dilation + stride * (size - 1) + 1, stride)
            for start, size in ((i, out_shape[1]), (j, out_shape[2]))
        )
        yield i, j, (rows, columns)


def padded_with(value: float, x: Array, pad: ops.Pad) -> Array:
    top, bottom, left, right = pad
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def cropped(x: Array, pad: ops.Pad) -> Array:
    top, bottom, left, right = pad
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]
