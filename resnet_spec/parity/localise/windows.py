"""What else a convolution or a pool may have computed: its padding, stride, kernel and filling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from resnet_spec import ops
from resnet_spec.contract import Array
from resnet_spec.parity.localise.evidence import Hypothesis, Work

Tried = Iterator[Hypothesis]


def of_conv(work: Work, op: ops.Conv, x: Array) -> Tried:
    """Yield what else `op` may have made of `x` [N, C, H, W]."""

    def run(weight: Array | None = None, **changes: Any) -> Array:
        state = work.state if weight is None else {**work.state, op.weight.name: weight}
        return work.node(replace(op, **changes), state=state).forward(x)

    for cause, detail, pad in pads(op.pad, op.kernel, op.stride, op.dilation, x.shape[2:]):
        yield Hypothesis(cause, detail, partial(run, pad=pad))
    weight = np.asarray(work.state[op.weight.name])
    for cause, detail, kernel in kernels(weight):
        yield Hypothesis(cause, detail, partial(run, kernel))
    for stride in {1, 2, 4} - {op.stride}:
        detail = f"stride {stride} instead of {op.stride}: another convolution of the block has it"
        yield Hypothesis("stride on the wrong convolution", detail, partial(run, stride=stride))
    for dilation in {1, 2} - {op.dilation}:
        pad = tuple(p * dilation // op.dilation for p in op.pad)
        yield Hypothesis(
            "dilation",
            f"dilation {dilation} instead of {op.dilation}",
            partial(run, dilation=dilation, pad=pad),
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


def of_pool(work: Work, op: ops.MaxPool | ops.AvgPool, x: Array) -> Tried:
    """Yield what else `op` may have made of `x` [N, C, H, W]."""
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
            cause, "zeros in the padding take part", partial(run, padded, pad=(0, 0, 0, 0))
        )
    for cause, detail, pad in pads(op.pad, kernel, op.stride, 1, x.shape[2:]):
        yield Hypothesis(cause, detail, partial(run, x, pad=pad))
        zeros = np.pad(x, ((0, 0), (0, 0), pad[:2], pad[2:]))
        yield Hypothesis(
            "max-pool padded with zeros",
            f"{detail}, with zeros",
            partial(run, zeros, pad=(0, 0, 0, 0)),
        )
    other = ops.AvgPool if isinstance(op, ops.MaxPool) else ops.MaxPool
    fields = (op.name, op.in_shape, op.out_shape, op.kernel, op.stride, op.pad)
    yield Hypothesis(
        "pooling", f"{other.__name__} instead", lambda: work.node(other(*fields)).forward(x)
    )
