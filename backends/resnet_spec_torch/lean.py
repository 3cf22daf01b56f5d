"""The network as `Session.predict` runs it: norms folded into convolutions, and those fused.

It is made of the session's weights when logits are first asked for, kept, and made anew once a
weight has changed by as much as a bit. A module whose parts were replaced, hooked or set otherwise
since the session was made predicts as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resnet_spec.contract import Precision
from resnet_spec.digests import digest
from resnet_spec.folding import fold_norms
from resnet_spec.plan import Plan
from resnet_spec_torch.fused import Fused, can_fuse
from resnet_spec_torch.in_memory_order import as_it_lies
from resnet_spec_torch.memory_formats import memory_format_of
from resnet_spec_torch.modules import empty
from resnet_spec_torch.weights import Tensors, load_weights, to_state

FOLDED: Mapping[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The precisions in which norms are folded, with what convolutions then compute in.

In float16 a kernel times the factor of its norm may overflow, or lose its digits.
"""

Predict = Callable[[Tensor], Tensor | None]
"""Normalised images [N, C, H, W] to logits; None where the module itself is to be asked."""


@dataclass(frozen=True)
class _Made:
    """A lean network, and what says of weights by name whether all have the bits it was made of."""

    is_of: Callable[[Tensors], bool]
    predict: Predict


class Lean:
    """Makes the lean network of a session's module, and keeps it."""

    def __init__(
        self, plan: Plan, network: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> None:
        """dtype: what convolutions and products compute in; float32, or what autocast is set to."""
        self._plan, self._device, self._dtype = plan, device, dtype
        self._layout = memory_format_of(device, plan)  # Whatever is quickest to train in.
        self._built = _settings(network)
        self._made: _Made | None = None

    @property
    def network(self) -> nn.Module | None:
        """The network that was made last; None where there is none."""
        made = None if self._made is None else self._made.predict
        return made if isinstance(made, nn.Module) else None

    def of(self, network: nn.Module, weights: Tensors) -> Predict | None:
        """Return what predicts as `network` with its `weights` does; None where nothing else does.

        Weights that change while it is in use, as far as torch counts their changes, make it
        return None.
        """
        if _settings(network) != self._built or not all(map(self._is_plain, weights.values())):
            return None
        if self._made is None or not self._made.is_of(weights):
            self._made = None  # Its memory is free before there is another.
            self._made = _Made(_remembered(weights, self._device), self._new(weights))
        return partial(self._while, _versions(weights), weights, self._made.predict)

    def _is_plain(self, tensor: Tensor) -> bool:
        is_own = type(tensor) in (Tensor, nn.Parameter) and tensor.device == self._device
        return is_own and tensor.dtype == torch.float32 and not tensor.is_inference()

    def _while(
        self, versions: list[int], weights: Tensors, predict: Predict, x: Tensor
    ) -> Tensor | None:
        if _versions(weights) != versions:
            return None
        return predict(x.to(self._dtype).contiguous(memory_format=self._layout))

    def _new(self, weights: Tensors) -> Predict:
        folded = fold_norms(self._plan, to_state(weights))
        if not all(np.isfinite(array).all() for array in folded.state.values()):
            return _none  # They may be so as they are, or have become so.
        network: Any = empty(folded.plan, self._device, torch.float32)
        load_weights(network, folded.plan, folded.state)
        _cast(network, self._dtype)
        network.to(memory_format=self._layout).eval()
        if can_fuse(self._device, self._dtype):
            return Fused(network, folded.plan, folded.state)
        return network


def _cast(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of convolutions and products once, which autocast would for every batch.

    Norms that are kept stay in float32, as autocast leaves them.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.to(dtype)


def _remembered(weights: Tensors, device: torch.device) -> Callable[[Tensors], bool]:
    """Return what compares the bits of others with these; on a CPU by a digest, which keeps none.

    It is quicker than `torch.equal`, too, and a service pays for it with every request.
    """
    if device.type == "cpu":
        before = _digest(weights)
        return lambda others: _digest(others) == before
    kept = {name: tensor.detach().clone() for name, tensor in weights.items()}
    return lambda others: all(torch.equal(kept[name], others[name]) for name in others)


def _digest(weights: Tensors) -> str:
    # With strides: of [O, 3, 3, 3] the shape does not tell in which order its bytes are read.
    laid = ((f"{name} {v.stride()}", v.detach()) for name, v in weights.items())
    return digest({name: as_it_lies(tensor).numpy() for name, tensor in laid})


def _none(x: Tensor) -> None:
    """Leave it to the module."""


def _versions(weights: Tensors) -> list[int]:
    return [tensor._version for tensor in weights.values()]


def _settings(network: nn.Module) -> list[object]:
    """Return what a module computes by, weights apart: its parts, their numbers and hooks."""
    return [
        (
            name,
            id(part),
            type(part),
            part.extra_repr(),
            "forward" in vars(part),
            len(part._forward_hooks) + len(part._forward_pre_hooks),
        )
        for name, part in network.named_modules()
    ]
