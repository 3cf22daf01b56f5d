"""torch's fused optimisers, given kernels of convolutions in the order in which they lie in memory.

Their kernels for CPUs (torch 2.13) go through memory from its beginning to its end. For a tensor in
channels_last they copy the gradient first, and then go through it in leaps, which takes several
times as long; of a gradient in another order than its weight's they take the wrong elements. A view
[O, H, W, I] of either is contiguous, and the equations are by element.
"""

# torch hands `_init_group` the lists of each optimiser by position, and here they are all alike.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]


def in_order(weight: Tensor, gradient: Tensor, slots: Sequence[Tensor | None]) -> list[Any]:
    """Return weight, gradient and slots as views in the order of memory, where that helps.

    A gradient in another order is copied. Where the weight's order is torch's own or another one, a
    slot's is another than the weight's, or a slot (None) is yet to be made, they are returned as
    they are.
    """
    given = [weight, gradient, *slots]
    if weight.device.type != "cpu" or weight.is_contiguous() or not _is_last(weight):
        return given
    if not all(it is not None and (not it.dim() or it.stride() == weight.stride()) for it in slots):
        return given
    if gradient.stride() != weight.stride():
        given[1] = torch.empty_like(weight).copy_(gradient)
    return [it.permute(0, 2, 3, 1) if it.dim() else it for it in given]


def as_it_lies(tensor: Tensor) -> Tensor:
    """Return a view [N, H, W, C] of a tensor in channels_last; any other one as it is.

    `torch.aminmax` goes through memory in leaps where a tensor is not contiguous (torch 2.13), and
    takes many times as long.
    """
    is_last = tensor.dim() == 4 and not tensor.is_contiguous() and _is_last(tensor)
    return tensor.permute(0, 2, 3, 1) if is_last else tensor


def _is_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last)


def _order(group: Group, lists: Sequence[list[Any]]) -> None:
    """Put views in the place of what is in `lists`, each of which has one for each weight or none.

    The first two are weights and gradients.
    """
    if not group["fused"]:
        return
    filled = [one for one in lists if one]
    for i, (weight, gradient, *slots) in enumerate(zip(*filled, strict=True)):
        for one, view in zip(filled, in_order(weight, gradient, slots), strict=True):
            one[i] = view


class _Ordered:
    """What the optimisers have in common."""

    def _init_group(self, group: Group, *lists: list[Any]) -> Any:
        found = super()._init_group(group, *lists)  # pyright: ignore[reportAttributeAccessIssue]
        _order(group, lists)
        return found


class Sgd(_Ordered, torch.optim.SGD):
    """`torch.optim.SGD`."""

    def step(self, closure: Any = None) -> Any:
        """Take a step; see `torch.optim.SGD`."""
        known = set(self.state)
        loss = super().step(closure)
        for view in set(self.state) - known:  # It keeps the velocities of whatever it has moved.
            del self.state[view]
        return loss


class Adam(_Ordered, torch.optim.Adam):
    """`torch.optim.Adam`."""


class AdamW(_Ordered, torch.optim.AdamW):
    """`torch.optim.AdamW`."""
