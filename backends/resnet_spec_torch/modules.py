"""The plan as native modules: one class per op where torch has none, `nn` ones elsewhere.

The attribute path of every module is its name in the plan, so `state_dict()` has torchvision's and
timm's keys. Nothing here knows of sessions: the modules can be used, swapped, hooked, copied,
sharded and scripted without this project.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_spec.contract import State
from resnet_spec.ops import (
    Activation,
    AvgPool,
    Chain,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Node,
    Norm,
    Op,
    Pad,
    Residual,
)
from resnet_spec.ops import Add as AddOp
from resnet_spec.ops import Dropout as DropoutOp
from resnet_spec.ops import DropPath as DropPathOp
from resnet_spec.ops import Gate as GateOp
from resnet_spec.ops import GlobalPool as GlobalPoolOp
from resnet_spec.ops import PadChannels as PadChannelsOp
from resnet_spec.plan import Plan
from resnet_spec_torch.weights import load_weights

Modules = OrderedDict[str, nn.Module]


class ResNet(nn.Sequential):
    """Normalised float images [N, C, H, W] to logits [N, classes]; any memory format."""


def build(plan: Plan, state: State | None = None) -> ResNet:
    """Return the network of `plan` in float32 on the CPU, in training mode.

    state: canonical name -> array for every tensor of the plan; without it, torch's own
        initialisers fill the module as in any constructor, on torch's default device ("meta" too).

    Raises CheckpointError when `state` does not fit, with every name that does not.
    """
    if state is None:
        return ResNet(_modules(plan.root.children))
    network = empty(plan, torch.device("cpu"), torch.float32)
    load_weights(network, plan, state)
    return network


def empty(plan: Plan, device: torch.device, dtype: torch.dtype) -> ResNet:
    """Return the network of `plan` with zeros in every parameter and buffer.

    Built without memory first: no initialiser runs, and no random number is drawn.
    """
    with torch.device("meta"):
        network = ResNet(_modules(plan.root.children)).to(dtype)
    network.to_empty(device=device)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    return network


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put `module` into training or evaluation mode, and every part back as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, was_training in before:
            part.training = was_training


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Undo, at the end, what a pass in training mode does to statistics and their counters."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _modules(nodes: Sequence[Node]) -> Modules:
    """Return the modules of consecutive nodes under their keys."""
    return OrderedDict((node.key, _module(node)) for node in nodes)


def _module(node: Node) -> nn.Module:
    match node:
        case Chain():
            return nn.Sequential(_modules(node.children))
        case GateOp():
            return Gate(_modules(node.children))
        case Residual():
            shortcut = () if node.shortcut is None else (node.shortcut,)
            return ResidualBlock(
                entry=_modules(node.entry),
                body=_modules(node.body),
                shortcut=_modules(shortcut),
                add=_modules((node.add,)),
                tail=_modules(node.tail),
            )
        case _:
            return _leaf(node)


def _leaf(op: Op) -> nn.Module:
    match op:
        case Conv():
            return _conv(op)
        case Norm():
            # torch's momentum is the weight of the new value; rounded, or 1 - 0.9 prints its ulps.
            momentum = round(1.0 - op.decay, 15)
            kind = nn.BatchNorm2d if op.variance == "unbiased" else BiasedBatchNorm2d
            return kind(op.in_shape[0], op.eps, momentum)
        case Activation():
            return nn.ReLU() if op.kind == "relu" else nn.Sigmoid()
        case MaxPool():
            if _is_even(op.pad):
                return nn.MaxPool2d(op.kernel, op.stride, (op.pad[0], op.pad[2]))
            return PaddedMaxPool2d(op.kernel, op.stride, op.pad)
        case AvgPool():
            return _avg_pool(op)
        case PadChannelsOp():
            return PadChannels(op.stride, op.channels)
        case AddOp():
            return Add()
        case GlobalPoolOp():
            return GlobalPool(op.keep_dims)
        case Flatten():
            return nn.Flatten()
        case Linear():
            return nn.Linear(op.weight.shape[1], op.weight.shape[0])
        case DropoutOp():
            return Dropout(op.rate)
        case DropPathOp():
            return DropPath(op.rate)


def _conv(op: Conv) -> nn.Conv2d:
    has_bias = op.bias is not None
    sizes = (op.in_shape[0], op.out_shape[0], op.kernel, op.stride)
    more = {"dilation": op.dilation, "groups": op.groups, "bias": has_bias}
    if _is_even(op.pad):
        return nn.Conv2d(*sizes, padding=(op.pad[0], op.pad[2]), **more)
    return PaddedConv2d(*sizes, pad=op.pad, **more)


def _avg_pool(op: AvgPool) -> nn.AvgPool2d:
    """A window that sticks out at the end is torch's `ceil_mode`: it is divided by what it covers."""
    top, bottom, left, right = op.pad
    assert (top, left) == (0, 0) and max(bottom, right) < op.kernel
    return nn.AvgPool2d(op.kernel, op.stride, ceil_mode=True, count_include_pad=False)


def _is_even(pad: Pad) -> bool:
    top, bottom, left, right = pad
    return top == bottom and left == right


def _edges(pad: Pad) -> tuple[int, int, int, int]:
    """Return (left, right, top, bottom), the order of `F.pad`."""
    top, bottom, left, right = pad
    return (left, right, top, bottom)


class ResidualBlock(nn.Module):
    """tail(add(body(e), shortcut(e))) with e = entry(x); without a shortcut, x itself is added.

    All parts are direct children under their own keys and looked up at each call, so any of them
    can be replaced. They are registered in torchvision's order, `downsample` last.
    """

    def __init__(
        self, entry: Modules, body: Modules, shortcut: Modules, add: Modules, tail: Modules
    ) -> None:
        super().__init__()
        for part in (entry, body, shortcut, add, tail):
            for key, module in part.items():
                self.add_module(key, module)
        self._entry, self._body, self._shortcut = tuple(entry), tuple(body), tuple(shortcut)
        (self._add,) = add
        self._tail = tuple(tail)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        entered = self._run(self._entry, x)
        body = self._run(self._body, entered)
        shortcut = self._run(self._shortcut, entered) if self._shortcut else x
        return self._run(self._tail, getattr(self, self._add)(body, shortcut))

    def _run(self, keys: tuple[str, ...], x: Tensor) -> Tensor:
        for key in keys:
            x = getattr(self, key)(x)
        return x


class Gate(nn.Sequential):
    """x times the output [N, C, 1, 1] of its children (Hu et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        return x * super().forward(x)


class Add(nn.Module):
    """The sum of body and shortcut, a module so that it can be hooked."""

    def forward(self, body: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of one shape to their sum."""
        return body + shortcut


class PaddedConv2d(nn.Conv2d):
    """A convolution with its own zero padding on each side, as TensorFlow's SAME needs."""

    def __init__(self, *sizes, pad: Pad, **more) -> None:
        super().__init__(*sizes, **more)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        return super().forward(F.pad(x, _edges(self.pad)))

    def extra_repr(self) -> str:
        """Name the padding in the printed module."""
        return f"{super().extra_repr()}, pad={self.pad}"


class PaddedMaxPool2d(nn.MaxPool2d):
    """A max-pool with its own padding of minus infinity on each side."""

    def __init__(self, kernel: int, stride: int, pad: Pad) -> None:
        super().__init__(kernel, stride)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H', W']."""
        return super().forward(F.pad(x, _edges(self.pad), value=-torch.inf))

    def extra_repr(self) -> str:
        """Name the padding in the printed module."""
        return f"{super().extra_repr()}, pad={self.pad}"


class BiasedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose running variance takes the biased batch variance.

    torch's kernels add momentum * n/(n-1) * variance; the factor is taken out again afterwards, on
    the device and without reading anything back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if not self.training:
            return super().forward(x)
        assert self.running_var is not None and self.momentum is not None
        kept = self.running_var * (1.0 - self.momentum)
        y = super().forward(x)
        n = x.numel() // x.shape[1]
        self.running_var.sub_(kept).mul_((n - 1) / n).add_(kept)
        return y


class PadChannels(nn.Module):
    """The parameter-free shortcut A: every `stride`-th pixel, zero channels (front, back) added."""

    def __init__(self, stride: int, channels: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, front + C + back, ceil(H / stride), ceil(W / stride)]."""
        if self.stride > 1:
            # A pool over single pixels is x[:, :, ::stride, ::stride], but keeps channels_last:
            # padding the strided view would return NCHW, and the sum convert it back.
            x = F.avg_pool2d(x, 1, self.stride)
        return F.pad(x, (0, 0, 0, 0, *self.channels))

    def extra_repr(self) -> str:
        """Name the numbers in the printed module."""
        return f"stride={self.stride}, channels={self.channels}"


class GlobalPool(nn.Module):
    """The mean over height and width."""

    def __init__(self, keep_dims: bool) -> None:
        super().__init__()
        self.keep_dims = keep_dims

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C], or [N, C, 1, 1] with `keep_dims`."""
        return x.mean((2, 3), keepdim=self.keep_dims)


class Dropout(nn.Dropout):
    """`nn.Dropout` that multiplies by `noise` [N, C], 0 or 1/(1-rate), where that is set."""

    noise: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[N, C] or [N, C, 1, 1] to the same shape."""
        if self.training and self.noise is not None:
            return x * self.noise.to(x.dtype).view_as(x)
        return super().forward(x)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops whole samples of a block's body.

    In training, multiplies by `noise` [N], 0 or 1/(1-rate), where that is set, else draws it.
    """

    noise: Tensor | None = None

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if not self.training:
            return x
        noise = self.noise
        if noise is None:
            noise = torch.empty(len(x), device=x.device).bernoulli_(1.0 - self.rate)
            noise /= 1.0 - self.rate
        return x * noise.to(x.dtype).view(-1, 1, 1, 1)

    def extra_repr(self) -> str:
        """Name the rate in the printed module."""
        return f"rate={self.rate}"
