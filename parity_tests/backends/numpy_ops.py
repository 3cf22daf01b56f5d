"""The reference's ops with weights and inputs, and derivatives as differences."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
from resnet_spec_numpy import layers
from resnet_spec_numpy.passes import Run

from resnet_spec import ops

LOOPS = 1e-14
"""Against loops, both in float64, relative to the largest value; 7e-16 was measured."""


DIFFERENCES = 1e-8
"""An op's backward pass against central differences in float64; 3e-10 was measured."""


WHOLE = 1e-7
"""The same for a whole network, in finer steps to stay off ReLUs' corners; 1.2e-8 was measured."""


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def relative(got: Any, expected: Any) -> float:
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-300))


def tensor(name: str, shape: ops.Shape, role: ops.Role) -> ops.Tensor:
    layout = {4: "OIHW", 2: "OI", 1: "C"}[len(shape)]
    return ops.Tensor(f"op.{name}", shape, layout, role, ops.Init("constant", 0.0))  # pyright: ignore[reportArgumentType]


def conv(
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    pad: ops.Pad = (0, 0, 0, 0),
    dilation: int = 1,
    groups: int = 1,
    *,
    size: tuple[int, int] = (7, 6),
    channels: tuple[int, int] = (4, 6),
    bias: bool = False,
) -> ops.Conv:
    """A convolution; its output shape is worked out from what a window reaches."""
    c, o = channels
    sums = (pad[0] + pad[1], pad[2] + pad[3])
    out = [
        (n + p - dilation * (k - 1) - 1) // stride + 1
        for n, p, k in zip(size, sums, kernel, strict=True)
    ]
    return ops.Conv(
        "op",
        (c, *size),
        (o, *out),
        kernel,
        stride,
        pad,
        dilation,
        groups,
        tensor("weight", (o, c // groups, *kernel), "conv_weight"),
        tensor("bias", (o,), "bias") if bias else None,
    )


def norm(variance: Any = "unbiased") -> ops.Norm:
    names: tuple[tuple[str, ops.Role], ...] = (
        ("weight", "norm_scale"),
        ("bias", "norm_shift"),
        ("running_mean", "running_mean"),
        ("running_var", "running_var"),
    )
    tensors = [tensor(name, (4,), role) for name, role in names]
    return ops.Norm("op", (4, 3, 2), (4, 3, 2), 1e-2, 0.75, variance, "global", *tensors)


CONVS = {
    "3x3": conv(pad=(1, 1, 1, 1), bias=True),
    "3x3 stride 2, uneven pads": conv(stride=2, pad=(0, 1, 2, 1)),
    "3x3 stride 2, a pixel left over": conv(stride=2, size=(6, 8)),
    "3x3 dilation 2": conv(dilation=2, pad=(2, 2, 2, 0)),
    "3x3 groups": conv(groups=2, pad=(1, 1, 1, 1)),
    "3x3 depthwise": conv(groups=4, channels=(4, 8), stride=2, pad=(1, 1, 1, 1)),
    "3x2 all at once": conv((3, 2), 3, (2, 0, 0, 1), 2, 2, size=(9, 8), bias=True),
    "7x7 stride 2": conv((7, 7), 2, (3, 3, 3, 3)),
    "1x1": conv((1, 1), bias=True),
    "1x1 stride 2": conv((1, 1), 2),
    "1x1 padded": conv((1, 1), pad=(1, 0, 0, 2)),
    "1x1 groups": conv((1, 1), groups=2),
}
MAX_POOLS = {
    "max 3x3": ops.MaxPool("op", (3, 7, 6), (3, 4, 3), 3, 2, (1, 1, 1, 1)),
    "max uneven pads": ops.MaxPool("op", (3, 6, 6), (3, 3, 3), 3, 2, (0, 1, 0, 1)),
    "max overlapping": ops.MaxPool("op", (3, 5, 6), (3, 5, 4), 3, 1, (2, 0, 0, 0)),
}
AVG_POOLS = {
    "avg 2x2": ops.AvgPool("op", (3, 6, 4), (3, 3, 2), 2, 2, (0, 0, 0, 0)),
    "avg sticking out": ops.AvgPool("op", (3, 7, 5), (3, 4, 3), 2, 2, (0, 1, 0, 1)),
    "avg overlapping": ops.AvgPool("op", (3, 5, 6), (3, 5, 6), 3, 1, (1, 1, 2, 0)),
}
LINEAR = ops.Linear(
    "op", (5,), (3,), tensor("weight", (3, 5), "linear_weight"), tensor("bias", (3,), "bias")
)
OPS: dict[str, ops.Op] = {
    **CONVS,
    **MAX_POOLS,
    **AVG_POOLS,
    "norm": norm(),
    "relu": ops.Activation("op", (3, 4, 5), (3, 4, 5), "relu"),
    "sigmoid": ops.Activation("op", (3, 4, 5), (3, 4, 5), "sigmoid"),
    "pad channels": ops.PadChannels("op", (3, 5, 4), (6, 3, 2), 2, (1, 2)),
    "global pool": ops.GlobalPool("op", (3, 4, 5), (3,), keep_dims=False),
    "global pool kept": ops.GlobalPool("op", (3, 4, 5), (3, 1, 1), keep_dims=True),
    "flatten": ops.Flatten("op", (5, 1, 1), (5,)),
    "linear": LINEAR,
    "dropout": ops.Dropout("op", (5,), (5,), 0.25),
    "dropout of maps": ops.Dropout("op", (5, 1, 1), (5, 1, 1), 0.25),
    "drop path": ops.DropPath("op", (3, 2, 2), (3, 2, 2), 0.5),
}
LAYERS: dict[type[Any], type[Any]] = {
    type(op): vars(layers)[type(op).__name__] for op in OPS.values()
}
NOISE = {"Dropout": (2, 5), "DropPath": (2,)}


def layer_of(op: ops.Op, dtype: Any = np.float64) -> Any:
    """Return the module of `op` with drawn weights; variances are positive."""
    layer = LAYERS[type(op)](op, dtype)
    for t in op.tensors:
        values = draw(1).normal(0.0, 1.0, t.shape)
        attrgetter(t.name.removeprefix("op."))(layer)[...] = (
            np.abs(values) + 0.5 if t.role == "running_var" else values
        )
    return layer


def input_of(op: ops.Op) -> Any:
    """Return an input whose values are at least 0.01 apart and at least 0.005 from zero."""
    shape = (2, *op.in_shape)
    count = int(np.prod(shape))
    return (draw(2).permutation(count) - count // 2 + 0.5).reshape(shape) * 0.01


def run_for(op: ops.Op) -> Run:
    noise = {}
    if isinstance(op, ops.Dropout | ops.DropPath):
        noise["op"] = draw(3).choice([0.0, 1.0 / (1.0 - op.rate)], NOISE[type(op).__name__])
    return Run(training=True, noise=noise)


def slopes(function: Callable[[], float], array: Any, step: float = 1e-5) -> Any:
    """Return the central differences of `function` by every element of `array`."""
    result = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept, sides = array[index], []
        for sign in (1.0, -1.0):
            array[index] = kept + sign * step
            sides.append(function())
        array[index] = kept
        result[index] = (sides[0] - sides[1]) / (2.0 * step)
    return result
