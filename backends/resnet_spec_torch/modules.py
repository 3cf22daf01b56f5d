"""The plan as native modules: one class per op where torch has none, `nn` ones elsewhere.

The attribute path of every module is its name in the plan, so `state_dict()` has torchvision's and
timm's keys. Nothing here knows of sessions: the modules can be used, swapped, hooked, copied,
sharded and exported without this project.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NoReturn, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_spec.contract import State
from resnet_spec.errors import BackendError, problem
from resnet_spec.ops import (
    Activation,
    ActivationKind,
    AvgPool,
    Chain,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Node,
    Norm,
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
from resnet_spec_torch.pools import GlobalPool
from resnet_spec_torch.products import product_of
from resnet_spec_torch.weights import load_weights

Modules = OrderedDict[str, nn.Module]


class _Container(nn.Module):
    """Has its children overwrite no input any more once one of them was replaced or deleted.

    What may be overwritten was settled for the children that it was built with: with an
    `nn.Identity` before it, a ReLU would overwrite what the shortcut still reads.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_modules", {}):
            self._keep_inputs()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._modules:
            self._keep_inputs()
        super().__delattr__(name)

    def _keep_inputs(self) -> None:
        for child in self.children():
            if isinstance(child, nn.ReLU | Add):
                child.inplace = False


class ResNet(_Container, nn.Sequential):
    """Normalised float images [N, C, H, W] to logits [N, classes]; any memory format."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Say what `torch.jit.script`, which is deprecated, is replaced by: it reads no loops."""
        raise BackendError(_NOT_SCRIPTED)


_NOT_SCRIPTED = problem(
    "torch.jit.script",
    "ResNet",
    "cannot compile the source of its blocks",
    "use torch.jit.trace(model, images), torch.export.export(model, (images,)) or torch.compile",
)


def build(plan: Plan, state: State | None = None) -> ResNet:
    """Return the network of `plan` in float32 on the CPU, in training mode.

    state: canonical name -> array for every tensor of the plan; without it, torch's own
        initialisers fill the module as in any constructor, on torch's default device ("meta" too).

    Raises CheckpointError when `state` does not fit, with every name that does not.
    """
    if state is None:
        return _frozen(ResNet(_modules(plan.root.children)), plan)
    network = empty(plan, torch.device("cpu"), torch.float32)
    load_weights(network, plan, state)
    return network


def empty(plan: Plan, device: torch.device, dtype: torch.dtype) -> ResNet:
    """Return the network of `plan` with zeros in every parameter and buffer.

    Built without memory first: no initialiser runs, and no random number is drawn. `to_empty` would
    do the next step, but its `empty_like` of a tensor without memory imports sympy.
    """
    with torch.device("meta"):
        network = ResNet(_modules(plan.root.children))

    def zeros(tensor: torch.Tensor) -> torch.Tensor:
        kept = dtype if tensor.is_floating_point() else tensor.dtype
        return torch.zeros(tensor.shape, dtype=kept, device=device)

    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(zeros(parameter)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, zeros(buffer))
    return _frozen(network, plan)


def _frozen(network: ResNet, plan: Plan) -> ResNet:
    """Ask for no gradient of the parameters that the plan freezes; return `network`."""
    for tensor in plan.tensors:
        if tensor.frozen and not tensor.is_statistic:
            network.get_parameter(tensor.name).requires_grad_(False)
    return network


def _modules(nodes: Sequence[Node]) -> Modules:
    """Return the modules of consecutive nodes under their keys."""
    modules: Modules = OrderedDict()
    for before, node in zip((None, *nodes), nodes, strict=False):
        modules[node.key] = _module(node)
        _share_memory(before, modules[node.key])
    return modules


def _share_memory(before: Node | None, module: nn.Module) -> None:
    """Let a ReLU overwrite its input where nothing else reads that.

    A ResNet-20 trains 6 % faster by it on a CPU, and the peak memory falls by one activation.
    Forward hooks see each output before it is overwritten.
    """
    if isinstance(module, nn.ReLU):
        module.inplace = isinstance(before, Conv | Norm | AddOp) and not _is_view(before)


def _is_view(node: Node | None) -> bool:
    """Return whether a node gives a view of what it has computed.

    To overwrite one would cost autograd a copy of the gradient, and hooks on its output their call.
    """
    return isinstance(node, Conv) and product_of(node) is not None


def _module(node: Node) -> nn.Module:
    match node:
        case Chain():
            return nn.Sequential(_modules(node.children))
        case GateOp():
            return Gate(_modules(node.children))
        case Residual():
            return _residual(node)
        case Conv():
            return _conv(node)
        case Norm():
            # torch's momentum is the weight of the new value; rounded, for 1 - 0.9 is not 0.1.
            momentum = round(1.0 - node.decay, 15)
            kind = nn.BatchNorm2d if node.variance == "unbiased" else BiasedBatchNorm2d
            kind = FrozenBatchNorm2d if node.frozen else kind
            return kind(node.in_shape[0], node.eps, momentum)
        case Activation():
            return _ACTIVATIONS[node.kind]()
        case MaxPool():
            if _is_even(node.pad):
                return nn.MaxPool2d(node.kernel, node.stride, (node.pad[0], node.pad[2]))
            return PaddedMaxPool2d(node.kernel, node.stride, node.pad)
        case AvgPool():
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
            return nn.Linear(node.weight.shape[1], node.weight.shape[0])
        case DropoutOp():
            return Dropout(node.rate)
        case DropPathOp():
            return DropPath(node.rate)
        case _:
            assert_never(node)


_ACTIVATIONS: dict[ActivationKind, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def _residual(node: Residual) -> ResidualBlock:
    made = ResidualBlock(
        entry=_modules(node.entry),
        body=_modules(node.body),
        shortcut=_modules(() if node.shortcut is None else (node.shortcut,)),
        sum=_modules((node.add, *node.tail)),
    )
    computed = [part for part in node.body if not isinstance(part, DropPathOp)]
    if _is_view(computed[-1] if computed else None):
        getattr(made, node.add.key).inplace = False
    return made


def _conv(op: Conv) -> nn.Conv2d:
    has_bias = op.bias is not None
    sizes = (op.in_shape[0], op.out_shape[0], op.kernel, op.stride)
    more: dict[str, Any] = {"dilation": op.dilation, "groups": op.groups, "bias": has_bias}
    if _is_even(op.pad):
        more["padding"] = (op.pad[0], op.pad[2])
        make = product_of(op) or nn.Conv2d
        return make(*sizes, **more)
    return PaddedConv2d(*sizes, pad=op.pad, **more)


def _avg_pool(op: AvgPool) -> nn.AvgPool2d:
    """Return the pool; a window that sticks out is divided by what it covers (`ceil_mode`)."""
    top, bottom, left, right = op.pad
    assert (top, left) == (0, 0) and max(bottom, right) < op.kernel
    return nn.AvgPool2d(op.kernel, op.stride, ceil_mode=True, count_include_pad=False)


def _is_even(pad: Pad) -> bool:
    top, bottom, left, right = pad
    return top == bottom and left == right


def edges(pad: Pad) -> tuple[int, int, int, int]:
    """Return (left, right, top, bottom), the order of `F.pad`."""
    top, bottom, left, right = pad
    return (left, right, top, bottom)


class ResidualBlock(_Container):
    """tail(add(body(e), shortcut(e))) with e = entry(x); without a shortcut, x itself is added.

    All parts are direct children under their own keys and looked up at each call: any of them can
    be replaced, one that is deleted is left out, and a `downsample` that is set becomes the
    shortcut. They are registered in torchvision's order, `downsample` after the body.
    """

    def __init__(self, entry: Modules, body: Modules, shortcut: Modules, sum: Modules) -> None:
        """Take the modules of each part by key; `sum` is the addition and what follows it."""
        super().__init__()
        for part in (entry, body, shortcut, sum):
            for key, module in part.items():
                self.add_module(key, module)
        self._entry, self._body, self._shortcut = tuple(entry), tuple(body), ("downsample",)
        self._add, *self._tail = sum

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        entered = self._run(self._entry, x)
        body = self._run(self._body, entered)
        has_shortcut = any(self._modules.get(key) is not None for key in self._shortcut)
        shortcut = self._run(self._shortcut, entered) if has_shortcut else x
        return self._run(self._tail, getattr(self, self._add)(body, shortcut))

    def _run(self, keys: Sequence[str], x: Tensor) -> Tensor:
        for key in keys:
            module = self._modules.get(key)
            x = x if module is None else module(x)
        return x

    def __prepare_scriptable__(self) -> NoReturn:
        """As of a `ResNet`."""
        raise BackendError(_NOT_SCRIPTED)


class Gate(_Container, nn.Sequential):
    """x times the output [N, C, 1, 1] of its children (Hu et al. 2018)."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        return input * super().forward(input)


class Add(nn.Module):
    """The sum of body and shortcut, a module so that it can be hooked.

    It overwrites the body, as torchvision does: no op that a body can end in reads its output
    again, and the peak memory falls by one activation.
    """

    inplace = True

    def forward(self, body: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of one shape to their sum."""
        if not self.inplace:
            return body + shortcut
        body += shortcut
        return body


class PaddedConv2d(nn.Conv2d):
    """A convolution with its own zero padding on each side, as TensorFlow's SAME needs."""

    def __init__(self, *sizes, pad: Pad, **more) -> None:
        super().__init__(*sizes, **more)
        self.pad = pad

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        return super().forward(F.pad(input, edges(self.pad)))

    def extra_repr(self) -> str:
        """Name the padding in the printed module."""
        return f"{super().extra_repr()}, pad={self.pad}"


class PaddedMaxPool2d(nn.MaxPool2d):
    """A max-pool with its own padding of minus infinity on each side."""

    def __init__(self, kernel: int, stride: int, pad: Pad) -> None:
        super().__init__(kernel, stride)
        self.pad = pad

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H', W']."""
        padded = F.pad(input, edges(self.pad), value=-torch.inf)
        return F.max_pool2d(padded, self.kernel_size, self.stride)

    def extra_repr(self) -> str:
        """Name the padding in the printed module."""
        return f"{super().extra_repr()}, pad={self.pad}"


class BiasedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose running variance takes the biased batch variance.

    torch's kernels add momentum * n/(n-1) * variance; the factor is taken out again afterwards, on
    the device and without reading anything back.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if not self.training:
            return _evaluated(self, input)
        mean, var, momentum = self.running_mean, self.running_var, self.momentum
        assert var is not None and momentum is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # Autograd keeps the running variance it was given, so that one must not change again.
        updated = var.clone()
        y = F.batch_norm(input, mean, updated, self.weight, self.bias, True, momentum, self.eps)
        n = input.numel() // input.shape[1]
        var.copy_(torch.lerp(var * (1.0 - momentum), updated, (n - 1) / n))
        return y


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that stays in evaluation mode, in a network in training, too."""

    def __init__(self, features: int, eps: float, momentum: float) -> None:
        super().__init__(features, eps, momentum)
        self.eval()

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        return _evaluated(self, input)

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Stay in evaluation mode, whatever `mode` is."""
        return super().train(False)


def _evaluated(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise by the running statistics; torch's own `forward` cannot be traced by torch.fx."""
    mean, var = norm.running_mean, norm.running_var
    return F.batch_norm(x, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)


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


class Dropout(nn.Dropout):
    """`nn.Dropout` that multiplies by `noise` [N, C], 0 or 1/(1-rate), where that is set."""

    noise: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """[N, C] or [N, C, 1, 1] to the same shape."""
        if self.training and self.noise is not None:
            return input * self.noise.to(input.dtype).view_as(input)
        return super().forward(input)


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
            noise = torch.empty(x.shape[0], device=x.device).bernoulli_(1.0 - self.rate)
            noise /= 1.0 - self.rate
        return x * noise.to(x.dtype).view(-1, 1, 1, 1)

    def extra_repr(self) -> str:
        """Name the rate in the printed module."""
        return f"rate={self.rate}"
