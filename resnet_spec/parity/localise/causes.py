"""The catalogue of causes in the forward pass: what else a node may have computed.

One function per kind of op; each yields hypotheses, the most specific first. Which weights the side
holds is known, so a difference in them is told from a difference in their use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_spec import ops
from resnet_spec.contract import Array
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise.evidence import Hypothesis, Work, median_of, number, rounded
from resnet_spec.parity.localise.kernels import relations
from resnet_spec.plan import tensors_of

if TYPE_CHECKING:
    from resnet_spec.parity.localise.forward import Seen

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
            yield from _of_conv(work, op, x, floors)
        case ops.Norm():
            yield from _of_tensors(work, op, x)
            yield from _of_norm(work, op, x, seen.got)
        case ops.Linear():
            yield from _of_tensors(work, op, x)
            yield from _of_linear(work, op, x)
        case ops.Activation():
            yield from _of_activation(op, x)
        case ops.MaxPool() | ops.AvgPool():
            yield from _of_pool(work, op, x)
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
            yield Hypothesis("normalisation", detail, lambda images=images: run(images))
    turned = x.transpose(0, 1, 3, 2)
    yield Hypothesis("swapped axes", "height and width are exchanged", lambda: run(turned))
    yield Hypothesis("swapped axes", "the images are mirrored", lambda: run(x[..., ::-1]))


def _along(values: tuple[float, ...]) -> Array:
    return np.array(values)[:, None, None]


def _of_tensors(work: Work, op: Any, x: Array) -> Tried:
    """Yield how the tensors that the side holds differ from those it was given."""
    tensors = [t for t in tensors_of(op) if t.name in work.own]
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


def _of_conv(work: Work, op: ops.Conv, x: Array, floors: Floors) -> Tried:
    def run(weight: Array | None = None, **changes: Any) -> Array:
        state = work.state if weight is None else {**work.state, op.weight.name: weight}
        return work.node(replace(op, **changes), state=state).forward(x)

    for cause, detail, pad in pads(op.pad, op.kernel, op.stride, op.dilation, x.shape[2:]):
        yield Hypothesis(cause, detail, lambda pad=pad: run(pad=pad))
    weight = np.asarray(work.state[op.weight.name])
    for cause, detail, kernel in kernels(weight):
        yield Hypothesis(cause, detail, lambda kernel=kernel: run(kernel))
    for stride in {1, 2, 4} - {op.stride}:
        detail = f"stride {stride} instead of {op.stride}: another convolution of the block has it"
        yield Hypothesis(
            "stride on the wrong convolution", detail, lambda stride=stride: run(stride=stride)
        )
    for dilation in {1, 2} - {op.dilation}:
        pad = tuple(p * dilation // op.dilation for p in op.pad)
        yield Hypothesis(
            "dilation",
            f"dilation {dilation} instead of {op.dilation}",
            lambda dilation=dilation, pad=pad: run(dilation=dilation, pad=pad),
        )
    if op.bias is not None:
        zeros = {**work.state, op.bias.name: np.zeros(op.bias.shape)}
        yield Hypothesis(
            "bias missing", "no bias is added", lambda: work.node(op, state=zeros).forward(x)
        )


def pads(
    pad: ops.Pad, kernel: tuple[int, int], stride: int, dilation: int, size: tuple[int, ...]
) -> Iterator[tuple[str, str, ops.Pad]]:
    """Yield other paddings: SAME, symmetric, and those off by one pixel."""
    same = _same(kernel, stride, dilation, size)
    reach = [dilation * (k - 1) // 2 for k in kernel]
    even = (reach[0], reach[0], reach[1], reach[1])
    for cause, other in (
        ("SAME against explicit", same),
        ("SAME against explicit", even),
    ):
        if other != pad:
            yield cause, f"pad={other} instead of {pad} (top, bottom, left, right)", other
    seen = {pad, same, even}
    steps = [(v, h) for v in (-1, 0, 1) for h in (-1, 0, 1) if (v, h) != (0, 0)]
    for down, right in steps:
        moved = (pad[0] - down, pad[1] + down, pad[2] - right, pad[3] + right)
        wider = (pad[0] + down, pad[1] + down, pad[2] + right, pad[3] + right)
        for other in (moved, wider):
            if other not in seen and min(other) >= 0:
                seen.add(other)
                detail = f"pad={other} instead of {pad} (top, bottom, left, right)"
                yield "padding offset by one pixel", detail, other


def _same(kernel: tuple[int, int], stride: int, dilation: int, size: tuple[int, ...]) -> ops.Pad:
    edges: list[int] = []
    for length, k in zip(size, kernel, strict=True):
        reach = dilation * (k - 1) + 1
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        edges += [total // 2, total - total // 2]
    return (edges[0], edges[1], edges[2], edges[3])


def kernels(weight: Array) -> Iterator[tuple[str, str, Array]]:
    """Yield other readings of a kernel OIHW."""
    out, per_group, height, width = weight.shape
    if height > 1 and height == width:
        yield "transposed kernel", "height and width exchanged", weight.transpose(0, 1, 3, 2)
    if height > 1:
        flipped = weight[:, :, ::-1, ::-1]
        yield "transposed kernel", "flipped: a convolution, not a correlation", flipped
    if out == per_group:
        swapped = weight.transpose(1, 0, 2, 3)
        yield "transposed kernel", "input and output channels exchanged", swapped
    reverse = "input channels in reverse order"
    yield "swapped channels", reverse, weight[:, ::-1]
    yield "swapped channels", "output channels in reverse order", weight[::-1]
    size = out * per_group
    layouts = {
        "OHWI": weight.ravel().reshape(out, height, width, per_group).transpose(0, 3, 1, 2),
        "HWIO": weight.ravel().reshape(height, width, per_group, out).transpose(3, 2, 0, 1),
        "IOHW": weight.ravel().reshape(per_group, out, height, width).transpose(1, 0, 2, 3),
    }
    for layout, other in layouts.items():
        if size > 1:
            yield "transposed kernel", f"its memory read as {layout}", other


def _of_norm(work: Work, op: ops.Norm, x: Array, got: Array) -> Tried:
    mean, var = (np.asarray(work.state[t.name]) for t in (op.running_mean, op.running_var))
    scale, shift = (np.asarray(work.state[t.name]) for t in (op.scale, op.shift))
    batch_mean, batch_var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    used = (batch_mean, batch_var) if work.training else (mean, var)

    def run(mean: Array, var: Array, eps: float, scale: Array, shift: Array) -> Array:
        centred = (x - _per_channel(mean)) / _per_channel(np.sqrt(var + eps))
        return centred * _per_channel(scale) + _per_channel(shift)

    for eps in (*rounded(_eps(x, got, *used, scale, shift)), *_USUAL_EPS):
        if eps >= 0 and eps != op.eps:
            detail = f"eps = {number(eps)} instead of {number(op.eps)}"
            yield Hypothesis("eps", detail, lambda eps=eps: run(*used, eps, scale, shift))
    others = {
        ("scale missing", "the scale is not applied"): (*used, op.eps, np.ones_like(scale), shift),
        ("shift missing", "the shift is not added"): (*used, op.eps, scale, np.zeros_like(shift)),
    }
    if work.training:
        n = x.size // x.shape[1]
        unbiased = (batch_mean, batch_var * n / (n - 1))
        how = "normalised with the variance over n-1, not n"
        others["biased variance", how] = (*unbiased, op.eps, scale, shift)
        others["statistics", "the running statistics are used in training"] = (
            *(mean, var),
            op.eps,
            scale,
            shift,
        )
    else:
        others["statistics", "batch statistics are used in evaluation"] = (
            *(batch_mean, batch_var),
            op.eps,
            scale,
            shift,
        )
    for (cause, detail), arguments in others.items():
        yield Hypothesis(cause, detail, lambda a=arguments: run(*a))


_USUAL_EPS = (1e-3, 1.001e-5, 1e-5, 2e-5, 1e-4, 1e-6, 1e-12, 0.0)


def _eps(x: Array, got: Array, mean: Array, var: Array, scale: Array, shift: Array) -> float:
    """Solve y = (x - mean) scale / sqrt(var + eps) + shift for eps, channel by channel."""
    if got.shape != x.shape:
        return np.nan
    centred = x - _per_channel(mean)
    y = (got.astype(np.float64) - _per_channel(shift)) / _per_channel(scale)
    with np.errstate(all="ignore"):
        slope = (y * centred).sum((0, 2, 3)) / np.square(centred).sum((0, 2, 3))
        # The smaller the variance, the more of the result is eps.
        smallest = np.argsort(var)[: max(1, len(var) // 4)]
        return median_of((1.0 / np.square(slope) - var)[smallest])


def _per_channel(values: Array) -> Array:
    return values[:, None, None]


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
    if op.kind == "relu":
        yield Hypothesis("ReLU missing", "its input comes out as it is", lambda: x)
        yield Hypothesis("activation", "ReLU6 instead of ReLU", lambda: np.clip(x, 0.0, 6.0))
        for slope in (0.01, 0.1, 0.2):
            detail = f"a leaky ReLU of slope {slope}"
            yield Hypothesis("activation", detail, lambda s=slope: np.where(x > 0, x, s * x))
    else:
        yield Hypothesis("activation", "no sigmoid", lambda: x)
        hard = "a hard sigmoid, clip(x / 6 + 1/2, 0, 1)"
        yield Hypothesis("activation", hard, lambda: np.clip(x / 6.0 + 0.5, 0.0, 1.0))


def _of_pool(work: Work, op: ops.MaxPool | ops.AvgPool, x: Array) -> Tried:
    kernel = (op.kernel, op.kernel)
    top, bottom, left, right = op.pad
    edges = ((0, 0), (0, 0), (top, bottom), (left, right))

    def run(images: Array, **changes: Any) -> Array:
        return work.node(replace(op, **changes)).forward(images)

    if any(op.pad):
        padded = np.pad(x, edges)
        cause = "max-pool padded with zeros"
        if isinstance(op, ops.AvgPool):
            cause = "padding counted in the mean"
        yield Hypothesis(
            cause, "zeros in the padding take part", lambda: run(padded, pad=(0, 0, 0, 0))
        )
    for cause, detail, pad in pads(op.pad, kernel, op.stride, 1, x.shape[2:]):
        yield Hypothesis(cause, detail, lambda pad=pad: run(x, pad=pad))
        zeros = np.pad(x, ((0, 0), (0, 0), pad[:2], pad[2:]))
        yield Hypothesis(
            "max-pool padded with zeros",
            f"{detail}, with zeros",
            lambda zeros=zeros: run(zeros, pad=(0, 0, 0, 0)),
        )
    other = ops.AvgPool if isinstance(op, ops.MaxPool) else ops.MaxPool
    fields = (op.name, op.in_shape, op.out_shape, op.kernel, op.stride, op.pad)
    yield Hypothesis(
        "pooling", f"{other.__name__} instead", lambda: work.node(other(*fields)).forward(x)
    )


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
            lambda c=channels: work.node(replace(op, channels=c)).forward(x),
        )
    for down in range(op.stride):
        for right in range(op.stride):
            if (down, right) != (0, 0):
                shifted = np.roll(x, (-down, -right), (2, 3))
                detail = f"pixels from ({down}, {right}) on instead of (0, 0)"
                yield Hypothesis(
                    "padding offset by one pixel",
                    detail,
                    lambda shifted=shifted: work.node(op).forward(shifted),
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
