"""A network that only predicts, of oneDNN's fused primitives: a convolution, a sum and a ReLU.

They are the ones that `torch.compile` takes on a CPU, and need no compiler. A plain convolution, a
sum and a ReLU each read and write the whole map; together they do so once. The ReLU within a
primitive makes 0 of NaN, so that the network looks at what enters each of its segments and says
where NaN cannot be ruled out (`resnet_spec.folding.magnitudes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_spec.contract import State
from resnet_spec.folding import segments
from resnet_spec.ops import Activation, Chain, Conv, Node, Residual
from resnet_spec.plan import Plan
from resnet_spec_torch.in_memory_order import as_it_lies
from resnet_spec_torch.modules import PaddedConv2d, edges
from resnet_spec_torch.products import OnePixelConv2d

After = Literal["none", "relu"]
"""What a convolution, or its sum with another map, is followed by."""


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether torch has oneDNN's fused primitives for `dtype`, and may use them there."""
    onednn = torch.backends.mkldnn
    if device.type != "cpu" or not onednn.is_available() or not onednn.enabled:
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    return all(hasattr(torch.ops.mkldnn, name) for name in names)


class Fused(nn.Module):
    """The layers of `network`, whose norms are folded, with convolutions fused."""

    def __init__(self, network: nn.Module, plan: Plan, state: State) -> None:
        super().__init__()
        found = segments(plan, state)
        self._peaks = [segment.peak for segment in found]
        parts = [_layers(segment.nodes, network) for segment in found]
        self.parts = nn.ModuleList(nn.Sequential(*layers) for layers in parts)
        self._may_overwrite = isinstance(parts[0][0], FusedResidual)
        kept, ops = set(self.modules()), [(network.get_submodule(o.name), o.name) for o in plan.ops]
        self.named = {part: name for part, name in ops if part in kept}
        """The parts that are as in the network, with their names in the plan."""

    def forward(self, x: Tensor) -> Tensor | None:
        """[N, C, H, W] to logits [N, classes]; None where a value may have overflowed.

        None without images, too, whose largest value there is not.
        """
        if not len(x):
            return None
        if self._may_overwrite:
            x = x.clone(memory_format=torch.preserve_format)
        entering: list[Tensor] = []
        for part in self.parts:
            entering.extend(torch.aminmax(as_it_lies(x)))
            x = part(x)
        largest = torch.stack(entering).abs().view(-1, 2).amax(1).tolist()
        allowed = (p.allows(m) for p, m in zip(self._peaks, largest, strict=True))
        return x if all(allowed) else None


def _layers(nodes: Sequence[Node], network: nn.Module) -> list[nn.Module]:
    """Return the layers of consecutive nodes."""
    line = [node for outer in nodes for node in _unchained(outer)]
    found: list[nn.Module] = []
    is_taken = False
    for node, after in zip_longest(line, line[1:]):
        if is_taken:
            is_taken = False
        elif isinstance(node, Conv):
            is_taken = _is_relu(after)
            found.append(_fused(node, network, "relu" if is_taken else "none"))
        elif isinstance(node, Residual):
            found.append(FusedResidual(node, network))
        else:
            found.append(network.get_submodule(node.name))
    return found


def _unchained(node: Node) -> list[Node]:
    if isinstance(node, Chain):
        return [inner for child in node.children for inner in _unchained(child)]
    return [node]


def _is_relu(node: Node | None) -> bool:
    return isinstance(node, Activation) and node.kind == "relu"


def _fused(op: Conv, network: nn.Module, after: After) -> FusedConv:
    conv = network.get_submodule(op.name)
    assert isinstance(conv, nn.Conv2d)
    if isinstance(conv, OnePixelConv2d):
        return FusedOnePixelConv2d(op.name, conv, after)
    return FusedConv2d(op.name, conv, after)


class FusedConv(nn.Module):
    """A convolution with its bias, and what follows it. name: of the convolution, in the plan."""

    def __init__(self, name: str, bias: Tensor | None, after: After) -> None:
        super().__init__()
        self.name = name
        self._bias: Tensor | None = bias
        self._after: After = after

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """Return `other` + the convolution of `x`, and what follows the sum; overwrites `other`."""
        raise NotImplementedError


class FusedConv2d(FusedConv):
    """One that is a primitive of oneDNN."""

    def __init__(self, name: str, conv: nn.Conv2d, after: After) -> None:
        super().__init__(name, conv.bias, after)
        self._weight = conv.weight.detach()
        self._pad = conv.pad if isinstance(conv, PaddedConv2d) else None
        self._sizes: Any = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        x = self._padded(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._weight_for(x), self._bias, *self._sizes, self._after, [], ""
        )

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """See `FusedConv`."""
        x = self._padded(x)
        if x.data_ptr() == other.data_ptr():
            other = other.clone(memory_format=torch.preserve_format)
        after = None if self._after == "none" else self._after
        return torch.ops.mkldnn._convolution_pointwise_(
            other, x, self._weight_for(x), self._bias, *self._sizes, "add", 1.0, after, [], ""
        )

    def _padded(self, x: Tensor) -> Tensor:
        return x if self._pad is None else F.pad(x, edges(self._pad))

    def _weight_for(self, x: Tensor) -> Tensor:
        """Return the weight as the primitive wants it: for the first batch's size, and kept."""
        packed = self._packed
        if packed is None:
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, *self._sizes, list(x.shape)
            )
            self._packed = packed
        return packed


class FusedOnePixelConv2d(FusedConv):
    """One with a single window: a product of what meets in it, of weights that are cut once.

    oneDNN's convolution multiplies the padding, too. Sessions take images of the plan's size alone.
    """

    def __init__(self, name: str, conv: OnePixelConv2d, after: After) -> None:
        super().__init__(name, conv.bias, after)
        _, self._pixels, taps = conv.window
        self._matrix = conv.weight.detach()[:, :, *taps].permute(0, 2, 3, 1).flatten(1).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', 1, 1]."""
        return self._then(self._product(x))

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """See `FusedConv`."""
        return self._then(other.add_(self._product(x)))

    def _product(self, x: Tensor) -> Tensor:
        met = x.permute(0, 2, 3, 1)[:, *self._pixels].flatten(1)
        return F.linear(met, self._matrix, self._bias)[:, :, None, None]

    def _then(self, total: Tensor) -> Tensor:
        return total.relu_() if self._after == "relu" else total


class FusedResidual(nn.Module):
    """A residual block; where its body ends in a convolution, that adds the shortcut itself."""

    def __init__(self, node: Residual, network: nn.Module) -> None:
        super().__init__()
        body = [inner for child in node.body for inner in _unchained(child)]
        last, tail = body[-1] if body else None, node.tail
        adds = isinstance(last, Conv)
        is_taken = adds and bool(tail) and _is_relu(tail[0])
        shortcut = () if node.shortcut is None else (node.shortcut,)
        self.entry = nn.Sequential(*_layers(node.entry, network))
        self.body = nn.Sequential(*_layers(body[:-1] if adds else body, network))
        self.shortcut = nn.Sequential(*_layers(shortcut, network)) if shortcut else None
        self.tail = nn.Sequential(*_layers(tail[1:] if is_taken else tail, network))
        self.last = None
        if isinstance(last, Conv):
            after = "relu" if is_taken else "none"
            self.last = _fused(last, network, after)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']; may overwrite `x`."""
        entered = self.entry(x)
        body = self.body(entered)
        shortcut = x if self.shortcut is None else self.shortcut(entered)
        total = body + shortcut if self.last is None else self.last.added_to(shortcut, body)
        return self.tail(total)
