"""The plan as native cells: `mindspore.nn` ones, and one class per op where MindSpore has none.

The attribute path of every cell is its name in the plan, and the `name` of every parameter is the
canonical one; the attributes of norms are MindSpore's (`bn1.gamma` is called "bn1.weight"). NCHW,
in graph mode and in PyNative mode. Nothing here knows of sessions: the cells can be used, swapped
and saved without this project.
"""

# MindSpore's cells are untyped: `construct` takes anything.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, assert_never

import mindspore as ms
from mindspore import Tensor, nn, ops

from resnet_spec.contract import State
from resnet_spec.errors import BackendError, problem
from resnet_spec.ops import Activation, ActivationKind, Conv, Flatten, Linear, Node, Norm, Residual
from resnet_spec.ops import Add as AddOp
from resnet_spec.ops import AvgPool as AvgPoolOp
from resnet_spec.ops import Chain as ChainOp
from resnet_spec.ops import Dropout as DropoutOp
from resnet_spec.ops import DropPath as DropPathOp
from resnet_spec.ops import Gate as GateOp
from resnet_spec.ops import GlobalPool as GlobalPoolOp
from resnet_spec.ops import MaxPool as MaxPoolOp
from resnet_spec.ops import PadChannels as PadChannelsOp
from resnet_spec.plan import Plan
from resnet_spec_mindspore.containers import Cells, Chain, Container, Noise, NoiseCell, takes_noise
from resnet_spec_mindspore.one_pixel import OnePixelConv2d
from resnet_spec_mindspore.weights import load_weights, parameters_of


def build(plan: Plan, state: State | None = None) -> ResNet:
    """Return the network of `plan` in float32, in evaluation mode as every new cell.

    state: canonical name -> array for every tensor of the plan; without it, MindSpore's own
        initialisers fill the parameters as in any constructor.

    MindSpore has one device per process, and one tiny op runs on it here: call
    `mindspore.set_device` first where the default is not meant.

    Raises CheckpointError when `state` does not fit, with every name that does not.
    """
    if state is None:
        return _frozen(ResNet(_Builder(plan).cells(plan.root.children)), plan)
    network = empty(plan)
    load_weights(network, plan, state)
    return network


def empty(plan: Plan) -> ResNet:
    """Return the network of `plan` without drawing a random number: its weights are zeros."""
    fill = {"weight_init": "zeros", "bias_init": "zeros"}
    return _frozen(ResNet(_Builder(plan, fill).cells(plan.root.children)), plan)


def _frozen(network: ResNet, plan: Plan) -> ResNet:
    """Ask for no gradient of the parameters that the plan freezes; return `network`."""
    parameters = parameters_of(network, plan)
    for tensor in plan.tensors:
        if tensor.frozen:
            parameters[tensor.name].requires_grad = False
    return network


@contextmanager
def training(network: nn.Cell, value: bool) -> Iterator[None]:
    """Put `network` into training or evaluation mode, and every part back as it was."""
    before = [(cell, cell.training, cell.phase) for _, cell in network.cells_and_names()]
    network.set_train(value)
    try:
        yield
    finally:
        for cell, was_training, phase in before:
            cell.add_flags(training=was_training)
            cell.phase = phase


def reduce(network: nn.Cell, dtype: ms.Type) -> None:
    """Compute in `dtype`, statistics and means in float32 (Micikevicius et al. 2018)."""
    network.to_float(dtype)
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d | GlobalPool):
            cell.to_float(ms.float32)


class ResNet(Chain):
    """Normalised images [N, C, H, W] to logits [N, classes].

    noise: the factors for each of `plan.noises` in training (see `Dropout` and `DropPath`); None
    lets them draw their own.
    """


class Gate(Chain):
    """x times the output [N, C, 1, 1] of its children (Hu et al. 2018)."""

    def construct(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, C, H, W] to the same shape."""
        return x * super().construct(x, noise)


class ResidualBlock(Container):
    """tail(add(body(e), shortcut(e))) with e = entry(x); without a shortcut, x itself is added.

    All parts are direct children under their own keys. Any of them can be replaced; one that is
    deleted is left out, and a `downsample` that is set becomes the shortcut.
    """

    def __init__(self, entry: Cells, body: Cells, shortcut: Cells, sum: Cells) -> None:
        """Take the cells of each part by key; `sum` is the addition and what follows it."""
        super().__init__()
        add, *tail = sum
        self.keys = tuple(entry), tuple(body), ("downsample",), (add,), tuple(tail)
        for part in (entry, body, shortcut, sum):
            for key, cell in part.items():
                self.insert_child_to_cell(key, cell)

    def arrange(self) -> None:
        """Run the children of each part that are there."""
        held = self.held()
        parts = [[held[key] for key in keys if key in held] for keys in self.keys]
        self.entry, self.body, self.shortcut, self.sum, self.tail = parts
        self.noisy = [takes_noise(cell) for cell in self.body]

    def construct(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        entered = x
        for cell in self.entry:
            entered = cell(entered)
        body = entered
        for cell, is_noisy in zip(self.body, self.noisy):  # noqa: B905 (graph mode)
            body = cell(body) if noise is None or not is_noisy else cell(body, noise)
        shortcut = x
        for cell in self.shortcut:
            shortcut = cell(entered)
        out = self.sum[0](body, shortcut)
        for cell in self.tail:
            out = cell(out)
        return out


class Add(nn.Cell):
    """The sum of body and shortcut, a cell so that it can be observed and replaced."""

    def construct(self, body: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of one shape to their sum."""
        return body + shortcut


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that turns the kernel's running variance into the plan's convention.

    The kernels differ between targets and versions in which batch variance they take (see
    `_kernel_variance`). n/(n-1), n = N*H*W, is put in or taken out after the kernel, on the device.
    """

    def __init__(self, *args: Any, decay: float, variance: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self.decay = decay
        self.is_unbiased = variance == "unbiased"

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if not self.training:
            return super().construct(x)
        kept = self.moving_variance * self.decay
        y = super().construct(x)
        n = x.shape[0] * x.shape[2] * x.shape[3]
        factor = n / (n - 1) if self.is_unbiased else (n - 1) / n
        ops.assign(self.moving_variance, kept + (self.moving_variance - kept) * factor)
        return y


class PadChannels(nn.Cell):
    """The parameter-free shortcut A: every `stride`-th pixel, zero channels (front, back) added."""

    def __init__(self, stride: int, channels: tuple[int, int]) -> None:
        super().__init__()
        self.strides = (1, 1, stride, stride)
        # The gradient of ops.pad is wrong on a CPU from a graph's second run on (MindSpore 2.10).
        self.pad = nn.Pad(((0, 0), channels, (0, 0), (0, 0)))

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, front + C + back, ceil(H / stride), ceil(W / stride)]."""
        # The gradient of x[:, :, ::2, ::2] fails on a CPU in PyNative mode (MindSpore 2.10).
        return self.pad(ops.strided_slice(x, (0, 0, 0, 0), x.shape, self.strides))


class GlobalPool(nn.Cell):
    """The mean over height and width."""

    def __init__(self, keep_dims: bool) -> None:
        super().__init__()
        self.keep_dims = keep_dims

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C], or [N, C, 1, 1] with `keep_dims`."""
        return ops.mean(x, (2, 3), self.keep_dims)


class Dropout(NoiseCell):
    """`nn.Dropout`, or in training the product with `noise[index]` [N, C], 0 or 1/(1-rate)."""

    def __init__(self, rate: float, index: int) -> None:
        super().__init__()
        self.index = index
        self.dropout = nn.Dropout(p=rate)

    def construct(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, C] or [N, C, 1, 1] to the same shape."""
        if noise is None or not self.training:
            return self.dropout(x)
        return x * noise[self.index].astype(x.dtype).reshape(x.shape)


class DropPath(NoiseCell):
    """Stochastic depth (Huang et al. 2016): drops whole samples of a block's body.

    In training, multiplies by `noise[index]` [N], 0 or 1/(1-rate), where given, else draws it.
    """

    def __init__(self, rate: float, index: int) -> None:
        super().__init__()
        self.index = index
        self.dropout = nn.Dropout(p=rate)

    def construct(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if not self.training:
            return x
        shape = (x.shape[0], 1, 1, 1)
        if noise is None:
            return x * self.dropout(ops.ones(shape, x.dtype))
        return x * noise[self.index].astype(x.dtype).reshape(shape)


class _Builder:
    """Turns nodes into cells; `fill` names the initialisers where not MindSpore's own."""

    def __init__(self, plan: Plan, fill: Mapping[str, str] | None = None) -> None:
        self.fill = dict(fill or {})
        self.index = {op.name: i for i, op in enumerate(plan.noises)}

    def cells(self, nodes: Sequence[Node]) -> Cells:
        """Return the cells of consecutive nodes under their keys."""
        return OrderedDict((node.key, self.cell(node)) for node in nodes)

    def cell(self, node: Node) -> nn.Cell:
        """Return the cell of one node."""
        match node:
            case ChainOp():
                return Chain(self.cells(node.children))
            case GateOp():
                return Gate(self.cells(node.children))
            case Residual():
                return ResidualBlock(
                    entry=self.cells(node.entry),
                    body=self.cells(node.body),
                    shortcut=self.cells(() if node.shortcut is None else (node.shortcut,)),
                    sum=self.cells((node.add, *node.tail)),
                )
            case Conv():
                return _conv(node, self.fill)
            case Norm():
                return _norm(node)
            case Activation():
                return _ACTIVATIONS[node.kind]()
            case MaxPoolOp():
                return _max_pool(node)
            case AvgPoolOp():
                return _avg_pool(node)
            case PadChannelsOp():
                return PadChannels(node.stride, node.channels)
            case AddOp():
                return Add()
            case GlobalPoolOp():
                return GlobalPool(node.keep_dims)
            case Flatten():
                return nn.Flatten()
            case Linear():
                sizes = (node.weight.shape[1], node.weight.shape[0])
                return nn.Dense(*sizes, **self.fill)  # pyright: ignore[reportOptionalCall]
            case DropoutOp():
                return Dropout(node.rate, self.index[node.name])
            case DropPathOp():
                return DropPath(node.rate, self.index[node.name])
            case _:
                assert_never(node)


_ACTIVATIONS: dict[ActivationKind, type[nn.Cell]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def _conv(op: Conv, fill: dict[str, str]) -> nn.Conv2d:
    kind: Any = nn.Conv2d
    if op.only_window:
        kind = partial(OnePixelConv2d, plane=op.in_shape[1:], window=op.only_window)
    return kind(
        op.in_shape[0],
        op.out_shape[0],
        kernel_size=op.kernel,
        stride=op.stride,
        pad_mode="pad",
        padding=op.pad,  # pyright: ignore[reportArgumentType] (a tuple is documented)
        dilation=op.dilation,
        group=op.groups,
        has_bias=op.bias is not None,
        **fill,
    )


def _norm(op: Norm) -> nn.BatchNorm2d:
    arguments: dict[str, Any] = {
        "num_features": op.in_shape[0],
        "eps": op.eps,
        **_momentum(op.decay),
    }
    if op.frozen:
        # False: the running statistics in every mode, and no change of them.
        return nn.BatchNorm2d(use_batch_statistics=False, **arguments)
    if op.variance == _kernel_variance(ms.get_context("device_target")):
        return nn.BatchNorm2d(**arguments)
    return BatchNorm2d(decay=op.decay, variance=op.variance, **arguments)


def _momentum(decay: float) -> dict[str, Any]:
    """Return `momentum` in the sense of the installed MindSpore.

    Its documentation announces torch's sense (the weight of the new value), together with the
    argument `track_running_stats`.
    """
    is_new = "track_running_stats" in inspect.signature(nn.BatchNorm2d.__init__).parameters
    return {"momentum": round(1.0 - decay, 15) if is_new else decay}


@cache
def _kernel_variance(target: str) -> str:
    """Return which batch variance the kernel of `target` takes into the running variance.

    Measured, not looked up: MindSpore does not document it, and its CPU kernel changed from biased
    to unbiased. With decay 0 and the values 0 and 2 the running variance is 2 or 1.
    """
    variances: list[float] = []
    for mode in ("graph", "pynative"):
        norm = nn.BatchNorm2d(num_features=1, **_momentum(0.0)).set_train()
        run = ms.jit(norm) if mode == "graph" else norm
        run(Tensor([[[[0.0, 2.0]]]], ms.float32))
        variances.append(float(norm.moving_variance.asnumpy()[0]))
    found = {round(variance): name for variance, name in ((1.0, "biased"), (2.0, "unbiased"))}
    names = {found.get(round(variance)) for variance in variances}
    if len(names) > 1 or None in names:
        rule = f"its batch norm made {variances} of variance 1 (unbiased: 2) in its two modes"
        raise BackendError(problem("device", target, rule, "use another MindSpore version"))
    return names.pop() or ""


def _max_pool(op: MaxPoolOp) -> nn.MaxPool2d:
    """Return the pool; where the padding is uneven, its last windows stick out (`ceil_mode`).

    MindSpore pads both sides alike, with minus infinity. Where windows start and how many there are
    is then all that matters. ops.pad in front of a pool takes three times as long, and see
    `PadChannels`. Raises BackendError for a padding that cannot be had so.
    """
    top, _, left, _ = op.pad
    padding: Any = (top, left)
    lengths = [n + 2 * pad - op.kernel for n, pad in zip(op.in_shape[1:], padding, strict=True)]
    for is_ceil in (False, True):
        rest = op.stride - 1 if is_ceil else 0
        if tuple((length + rest) // op.stride + 1 for length in lengths) == op.out_shape[1:]:
            return nn.MaxPool2d(
                op.kernel, op.stride, pad_mode="pad", padding=padding, ceil_mode=is_ceil
            )
    rule = "is a padding that MindSpore's max-pool has not"
    raise BackendError(problem(f"{op.name}.pad", op.pad, rule, 'use padding = "explicit"'))


def _avg_pool(op: AvgPoolOp) -> nn.AvgPool2d:
    """Return the pool; a window that sticks out is divided by what it covers (`ceil_mode`).

    pad_mode "pad" also where nothing sticks out: in graph mode on a CPU, forward and backward take
    4.2 ms with it and 15.6 ms with "valid" (128 images of 16 x 32 x 32, two threads).
    """
    top, bottom, left, right = op.pad
    assert (top, left) == (0, 0) and max(bottom, right) < op.kernel
    return nn.AvgPool2d(
        op.kernel, op.stride, pad_mode="pad", ceil_mode=True, count_include_pad=False
    )
