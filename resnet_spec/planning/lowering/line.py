"""A line of ops under construction: each call appends one op and moves the shape on.

All arithmetic on channels, strides, padding and fans is here, and so is the address that each op
gets. Used by `stem`, `stages` and `head` only.
"""

from __future__ import annotations

import math
from typing import Literal

from resnet_spec.describing.spec import Padding, Spec
from resnet_spec.ops import (
    Activation,
    Address,
    AvgPool,
    Chain,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    Gate,
    GlobalPool,
    Init,
    Linear,
    MaxPool,
    Node,
    Norm,
    Pad,
    PadChannels,
    Shape,
    Tensor,
)

_ZERO = Init("constant", 0.0)
_ONE = Init("constant", 1.0)


class Line:
    """Nodes so far and the shape (channels, height, width) that the last one puts out.

    address: that of every node appended.
    """

    def __init__(self, spec: Spec, prefix: str, shape: Shape, address: Address) -> None:
        self.spec = spec
        self.prefix = prefix
        self.shape: Shape = shape
        self.address = address
        self.nodes: list[Node] = []

    def branch(self, key: str = "", address: Address | None = None) -> Line:
        """Return an empty line that starts here, its names below `key`.

        address: that of its nodes; without one, that of this line's.
        """
        prefix = self.path(key) if key else self.prefix
        return Line(self.spec, prefix, self.shape, address or self.address)

    def path(self, key: str) -> str:
        """Return the canonical name of `key` in this line."""
        return f"{self.prefix}.{key}" if self.prefix else key

    def join(self, branch: Line, kind: type[Chain] | type[Gate] = Chain) -> None:
        """Append what `branch` holds as one container; a gate leaves the shape as it is."""
        self.nodes.append(kind(branch.prefix, tuple(branch.nodes), at=branch.address))
        if kind is Chain:
            self.shape = branch.shape

    def take(self, branch: Line) -> None:
        """Append the nodes of `branch`, one by one."""
        self.nodes += branch.nodes
        self.shape = branch.shape

    def conv(
        self,
        key: str,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        zero_init: bool = False,
        padding: Padding | None = None,
    ) -> None:
        """Append a convolution with a square kernel; without `padding`, the spec's rule pads."""
        name = self.path(key)
        channels, *size = self.shape
        pad, out_size = self._window(size, kernel, stride, dilation, padding)
        shape = (out_channels, channels // groups, kernel, kernel)
        fan_in, fan_out = math.prod(shape[1:]), out_channels * kernel * kernel
        init = _ZERO if zero_init else self._weight_init(fan_in, fan_out)
        self.nodes.append(
            Conv(
                name=name,
                at=self.address,
                in_shape=self.shape,
                out_shape=(out_channels, *out_size),
                kernel=(kernel, kernel),
                stride=stride,
                pad=pad,
                dilation=dilation,
                groups=groups,
                weight=Tensor(f"{name}.weight", shape, "OIHW", "conv_weight", init),
                bias=self._bias(name, out_channels, fan_in) if bias else None,
            )
        )
        self.shape = (out_channels, *out_size)

    def norm(self, key: str, *, zero_init: bool = False) -> None:
        """Append a batch normalisation."""
        name, norm = self.path(key), self.spec.norm
        shape = self.shape[:1]
        self.nodes.append(
            Norm(
                name=name,
                at=self.address,
                in_shape=self.shape,
                out_shape=self.shape,
                eps=norm.eps,
                decay=norm.decay,
                variance=norm.variance,
                sync=norm.sync,
                scale=Tensor(
                    f"{name}.weight", shape, "C", "norm_scale", _ZERO if zero_init else _ONE
                ),
                shift=Tensor(f"{name}.bias", shape, "C", "norm_shift", _ZERO),
                running_mean=Tensor(f"{name}.running_mean", shape, "C", "running_mean", _ZERO),
                running_var=Tensor(f"{name}.running_var", shape, "C", "running_var", _ONE),
            )
        )

    def relu(self, key: str) -> None:
        """Append a rectifier."""
        self._activation(key, "relu")

    def sigmoid(self, key: str) -> None:
        """Append a logistic function."""
        self._activation(key, "sigmoid")

    def _activation(self, key: str, kind: Literal["relu", "sigmoid"]) -> None:
        name, shape = self.path(key), self.shape
        self.nodes.append(Activation(name, shape, shape, kind, at=self.address))

    def max_pool(
        self, key: str, *, kernel: int, stride: int, padding: Padding | None = None
    ) -> None:
        """Append a max-pool; without `padding`, the spec's rule pads."""
        channels, *size = self.shape
        pad, out_size = self._window(size, kernel, stride, padding=padding)
        out_shape = (channels, *out_size)
        name, shape = self.path(key), self.shape
        self.nodes.append(MaxPool(name, shape, out_shape, kernel, stride, pad, at=self.address))
        self.shape = out_shape

    def avg_pool(self, key: str, stride: int) -> None:
        """Append a pool over stride x stride windows; a last window that sticks out is cut off."""
        channels, height, width = self.shape
        out_height, out_width = -(-height // stride), -(-width // stride)
        pad = (0, out_height * stride - height, 0, out_width * stride - width)
        out_shape = (channels, out_height, out_width)
        name, shape = self.path(key), self.shape
        self.nodes.append(AvgPool(name, shape, out_shape, stride, stride, pad, at=self.address))
        self.shape = out_shape

    def pad_channels(self, key: str, out_channels: int, stride: int) -> None:
        """Append the parameter-free shortcut A."""
        channels, height, width = self.shape
        extra = out_channels - channels
        front = extra // 2 if self.spec.zero_pad_at == "both" else 0
        out_shape = (out_channels, -(-height // stride), -(-width // stride))
        padding = (front, extra - front)
        name, shape = self.path(key), self.shape
        self.nodes.append(PadChannels(name, shape, out_shape, stride, padding, at=self.address))
        self.shape = out_shape

    def global_pool(self, key: str, *, keep_dims: bool) -> None:
        """Append the mean over height and width."""
        out_shape = (self.shape[0], 1, 1) if keep_dims else self.shape[:1]
        name, shape = self.path(key), self.shape
        self.nodes.append(GlobalPool(name, shape, out_shape, keep_dims, at=self.address))
        self.shape = out_shape

    def flatten(self, key: str) -> None:
        """Append (C, 1, 1) to (C,)."""
        name = self.path(key)
        self.nodes.append(Flatten(name, self.shape, self.shape[:1], at=self.address))
        self.shape = self.shape[:1]

    def linear(self, key: str, out_features: int) -> None:
        """Append a fully connected layer."""
        name, (features,) = self.path(key), self.shape
        init = Init("uniform", features**-0.5)
        if self.spec.init == "lecun":
            init = self._weight_init(features, out_features)
        weight = Tensor(f"{name}.weight", (out_features, features), "OI", "linear_weight", init)
        bias = self._bias(name, out_features, features)
        out_shape = (out_features,)
        self.nodes.append(Linear(name, self.shape, out_shape, weight, bias, at=self.address))
        self.shape = (out_features,)

    def dropout(self, key: str) -> None:
        """Append dropout where the spec has it."""
        if self.spec.dropout > 0:
            name, shape, rate = self.path(key), self.shape, self.spec.dropout
            self.nodes.append(Dropout(name, shape, shape, rate, at=self.address))

    def drop_path(self, key: str, rate: float) -> None:
        """Append stochastic depth where `rate` is not zero."""
        if rate > 0:
            name, shape = self.path(key), self.shape
            self.nodes.append(DropPath(name, shape, shape, rate, at=self.address))

    def _window(
        self,
        size: list[int],
        kernel: int,
        stride: int,
        dilation: int = 1,
        padding: Padding | None = None,
    ) -> tuple[Pad, list[int]]:
        """Return the padding of a window and the output size, by `padding` or the spec's rule."""
        reach = dilation * (kernel - 1)
        pads: list[int] = []
        out_size: list[int] = []
        for length in size:
            out = -(-length // stride)
            total = max((out - 1) * stride + reach + 1 - length, 0)
            before, after = total // 2, total - total // 2
            if (padding or self.spec.padding) == "explicit":
                before = after = reach // 2
            pads += [before, after]
            out_size.append((length + before + after - reach - 1) // stride + 1)
        top, bottom, left, right = pads
        return (top, bottom, left, right), out_size

    def _weight_init(self, fan_in: int, fan_out: int) -> Init:
        """He et al. 2015 (arXiv 1502.01852); LeCun et al. 1998, cut at two deviations as in JAX."""
        match self.spec.init:
            case "he_fan_out":
                return Init("normal", (2.0 / fan_out) ** 0.5)
            case "he_fan_in":
                return Init("normal", (2.0 / fan_in) ** 0.5)
            case "lecun":
                return Init("truncated_normal", fan_in**-0.5)

    def _bias(self, name: str, size: int, fan_in: int) -> Tensor:
        init = _ZERO if self.spec.init == "lecun" else Init("uniform", fan_in**-0.5)
        return Tensor(f"{name}.bias", (size,), "C", "bias", init)
