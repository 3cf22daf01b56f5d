"""The catalogue of causes in the forward pass: what else a node may have computed.

One function per kind of op; each yields hypotheses, the most specific first. Which weights the side
holds is known, so a difference in them is told from a difference in their use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, assert_never

import numpy as np

from resnet_spec import ops
from resnet_spec.contract import Array
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise.evidence import Hypothesis, Seen, Work
from resnet_spec.parity.localise.kernels import relations
from resnet_spec.parity.localise.norms import of_norm
from resnet_spec.parity.localise.windows import of_conv, of_pool

Tried = Iterator[Hypothesis]


def hypotheses(work: Work, seen: Seen, floors: Floors) -> Tried:
    """Yield what else the node may have computed from its inputs."""
    op, x = seen.step.node, seen.inputs[0]
    if seen.step.inputs[0].name == "input":
        yield from _of_input(work, seen, floors)
    yield Hypothesis("ReLU extra", "a ReLU after it", lambda: np.maximum(seen.expected, 0.0))
    if len(seen.inputs) == 1:
        cut = np.maximum(x, 0.0)
        before = "a ReLU before it"
        yield Hypothesis("ReLU extra", before, lambda: work.output(seen.step, (cut,)))
    match op:
        case ops.Conv():
            yield from _of_tensors(work, op, x)
            yield from of_conv(work, op, x)
        case ops.Norm():
            yield from _of_tensors(work, op, x)
            yield from of_norm(work, op, x, seen.got)
        case ops.Linear():
            yield from _of_tensors(work, op, x)
            yield from _of_linear(work, op, x)
        case ops.Activation():
            yield from _of_activation(op, x)
        case ops.MaxPool() | ops.AvgPool():
            yield from of_pool(work, op, x)
        case ops.GlobalPool():
            yield from _of_global_pool(op, x)
        case ops.PadChannels():
            yield from _of_pad_channels(work, op, x)
        case ops.Dropout() | ops.DropPath():
            yield from _of_noise(op, x, work)
        case ops.Add() | ops.Gate():
            yield from _of_pair(op, *seen.inputs)
        case ops.Flatten():
            pass


def _of_input(work: Work, seen: Seen, floors: Floors) -> Tried:
    setup = floors.expected.setup
    size, raw = setup.plan.input, setup.batches[0].images
    x = seen.inputs[0]

    def run(images: Array) -> Array:
        return work.output(seen.step, (images, *seen.inputs[1:]))

    yield Hypothesis(
        "swapped channels", "the images' channels are in reverse order", lambda: run(x[:, ::-1])
    )
    if raw.dtype == np.uint8:
        pixels = raw.transpose(0, 3, 1, 2).astype(np.float64)
        ways = {
            "the images are not normalised: pixels 0..255": pixels,
            "the images are not normalised: pixels 0..1": pixels / 255.0,
            "the images are scaled to -1..1": pixels / 127.5 - 1.0,
            "the mean is not subtracted": pixels * _along(size.scale),
        }
        for detail, images in ways.items():
            yield Hypothesis("normalisation", detail, partial(run, images))
    turned = x.transpose(0, 1, 3, 2)
    yield Hypothesis("swapped axes", "height and width are exchanged", lambda: run(turned))
    yield Hypothesis("swapped axes", "the images are mirrored", lambda: run(x[..., ::-1]))


def _along(values: tuple[float, ...]) -> Array:
    return np.array(values)[:, None, None]


def _of_tensors(work: Work, op: Any, x: Array) -> Tried:
    """Yield how the tensors that the side holds differ from those it was given."""
    tensors = [t for t in op.tensors if t.name in work.own]
    own = {t.name: work.own[t.name].astype(np.float64) for t in tensors}
    moved = [t.name for t in tensors if _differs(own[t.name], work.state[t.name])]
    for name in moved:
        if own[name].shape != work.state[name].shape:
            continue
        for cause, detail in relations(own[name], np.asarray(work.state[name])):
            yield Hypothesis(
                cause, f"{name}: {detail}", lambda: work.node(op, state=own).forward(x)
            )


def _differs(own: Array, given: Array) -> bool:
    # A side keeps float32; what it was given may be float64.
    return own.shape != given.shape or not np.array_equal(
        own.astype(np.float32), given.astype(np.float32)
    )


def _of_linear(work: Work, op: ops.Linear, x: Array) -> Tried:
    weight, bias = (np.asarray(work.state[t.name]) for t in (op.weight, op.bias))
    yield Hypothesis("bias missing", "no bias is added", lambda: x @ weight.T)
    turned = "its memory read as [in, out]"
    read = weight.ravel().reshape(weight.shape[::-1])
    yield Hypothesis("transposed kernel", turned, lambda: x @ read + bias)
    yield Hypothesis(
        "swapped channels",
        "the classes are in reverse order",
        lambda: (x @ weight.T + bias)[:, ::-1],
    )


def _of_activation(op: ops.Activation, x: Array) -> Tried:
    match op.kind:
        case "relu":
            yield Hypothesis("ReLU missing", "its input comes out as it is", lambda: x)
            yield Hypothesis("activation", "ReLU6 instead of ReLU", lambda: np.clip(x, 0.0, 6.0))
            for slope in (0.01, 0.1, 0.2):
                detail = f"a leaky ReLU of slope {slope}"
                yield Hypothesis("activation", detail, lambda s=slope: np.where(x > 0, x, s * x))
        case "sigmoid":
            yield Hypothesis("activation", "no sigmoid", lambda: x)
            hard = "a hard sigmoid, clip(x / 6 + 1/2, 0, 1)"
            yield Hypothesis("activation", hard, lambda: np.clip(x / 6.0 + 0.5, 0.0, 1.0))
        case _:
            assert_never(op.kind)


def _of_global_pool(op: ops.GlobalPool, x: Array) -> Tried:
    cause, shape = "head averaged over the wrong axes", (*x.shape[:2], *((1, 1) * op.keep_dims))

    def shaped(y: Array) -> Array:
        return y.reshape(shape)

    n, channels = x.shape[:2]
    memory = x.transpose(0, 2, 3, 1).reshape(n, channels, -1)
    ways = {
        "[N, H, W, C] memory read as [N, C, H, W]": lambda: shaped(memory.mean(2)),
        "over width alone, first row": lambda: shaped(x.mean(3)[:, :, 0]),
        "over height alone, first column": lambda: shaped(x.mean(2)[:, :, 0]),
        "over the batch, too": lambda: shaped(
            np.broadcast_to(x.mean((0, 2, 3)), (n, channels)).copy()
        ),
        "over channels and height": lambda: shaped(
            np.broadcast_to(x.mean((1, 2)), (n, channels)).copy()
        ),
    }
    for detail, output in ways.items():
        yield Hypothesis(cause, detail, output)
    yield Hypothesis("pooling", "the sum, not the mean", lambda: shaped(x.sum((2, 3))))
    yield Hypothesis("pooling", "the maximum, not the mean", lambda: shaped(x.max((2, 3))))


def _of_pad_channels(work: Work, op: ops.PadChannels, x: Array) -> Tried:
    total = sum(op.channels)
    for front in {0, total // 2, total - total // 2, total} - {op.channels[0]}:
        channels = (front, total - front)
        yield Hypothesis(
            "zero channels elsewhere",
            f"zero channels {channels} instead of {op.channels} (front, back)",
            partial(work.node(replace(op, channels=channels)).forward, x),
        )
    for down in range(op.stride):
        for right in range(op.stride):
            if (down, right) != (0, 0):
                shifted = np.roll(x, (-down, -right), (2, 3))
                detail = f"pixels from ({down}, {right}) on instead of (0, 0)"
                yield Hypothesis(
                    "padding offset by one pixel",
                    detail,
                    partial(work.node(op).forward, shifted),
                )


def _of_noise(op: ops.Dropout | ops.DropPath, x: Array, work: Work) -> Tried:
    yield Hypothesis("noise", "nothing is dropped", lambda: x)
    noise = work.noise.get(op.name)
    if noise is not None:
        kept = (noise > 0).reshape(noise.shape + (1,) * (x.ndim - noise.ndim))
        detail = "what is kept is not divided by 1 - rate"
        yield Hypothesis("noise", detail, lambda: x * kept)
        yield Hypothesis("noise", "scaled by 1 - rate", lambda: x * (1.0 - op.rate))


def _of_pair(op: ops.Add | ops.Gate, a: Array, b: Array) -> Tried:
    if isinstance(op, ops.Gate):
        yield Hypothesis("gate missing", "its factors are not applied", lambda: a)
        return
    yield Hypothesis("shortcut missing", "the body alone", lambda: a)
    yield Hypothesis("body missing", "the shortcut alone", lambda: b)
    yield Hypothesis("ReLU extra", "a ReLU before the sum", lambda: np.maximum(a, 0.0) + b)
    yield Hypothesis("ReLU extra", "a ReLU on the shortcut", lambda: a + np.maximum(b, 0.0))
