"""The border between torch tensors and the canonical state: arrays by name, checked before taken.

torch's own layouts are the canonical ones (conv OIHW, linear [out, in]), so nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan
from resnet_spec.session_state import check_network, check_state, weight_shapes

Tensors = dict[str, Tensor]


def weights_of(module: nn.Module, plan: Plan) -> Tensors:
    """Return the live tensors of the plan by canonical name, in the plan's order."""
    found = dict(chain(module.named_parameters(), module.named_buffers()))
    check_network({name: tuple(tensor.shape) for name, tensor in found.items()}, plan)
    return {tensor.name: found[tensor.name] for tensor in plan.tensors}


def load_weights(module: nn.Module, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `module`. Raises CheckpointError with every name that does not fit."""
    check_state(weight_shapes(plan), state)
    copy_into(weights_of(module, plan), state)


def copy_into(targets: Mapping[str, Tensor], state: Mapping[str, Array]) -> None:
    """Copy the arrays of `state` into the tensors of the same names, keeping layout and type."""
    with torch.no_grad():
        for name, tensor in targets.items():
            if name in state:
                tensor.copy_(to_tensor(state[name]))


def to_tensor(array: Array) -> Tensor:
    """Return a CPU tensor that shares the array's memory where torch can."""
    return torch.from_numpy(np.require(array, requirements=("C", "W", "A")))


def to_array(tensor: Tensor) -> Array:
    """Return a C-contiguous copy of `tensor` on the host."""
    return np.array(tensor.numpy(force=True), order="C")


def to_state(tensors: Mapping[str, Tensor]) -> State:
    """Return copies of `tensors` on the host."""
    return {name: to_array(tensor) for name, tensor in tensors.items()}


def fetched(values: list[Tensor]) -> Array:
    """Return scalars of the device as one array; the only wait of a chunk."""
    return to_array(torch.stack(values)) if values else np.empty(0)
