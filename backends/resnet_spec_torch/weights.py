"""The border between torch tensors and the canonical state: arrays by name, checked before taken.

torch's own layouts are the canonical ones (conv OIHW, linear [out, in]), so nothing is transposed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

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
    """Copy the arrays of `state` into the tensors of the same names, keeping layout and type.

    Of an array for a sharded tensor each process takes its part; nothing is sent.
    """
    with torch.no_grad():
        for name, tensor in targets.items():
            if name in state:
                array = to_tensor(state[name])
                part_of(tensor).copy_(part_like(array, tensor) if is_sharded(tensor) else array)


def to_tensor(array: Array) -> Tensor:
    """Return a CPU tensor that shares the array's memory where torch can."""
    return torch.from_numpy(np.require(array, requirements=("C", "W", "A")))


def to_array(tensor: Tensor) -> Array:
    """Return a C-contiguous copy of `tensor` on the host."""
    return np.array(tensor.numpy(force=True), order="C")


def arrays(tensors: Iterable[Tensor], ahead: int) -> Iterator[Array]:
    """Yield each tensor as an array, once `ahead` more of them are under way."""
    waiting: deque[Tensor] = deque()
    for tensor in tensors:
        waiting.append(tensor)
        if len(waiting) > ahead:
            yield to_array(waiting.popleft())
    yield from map(to_array, waiting)


def to_state(tensors: Mapping[str, Tensor]) -> State:
    """Return copies of `tensors` on the host, sharded ones whole: all processes ask for those."""
    return {name: to_array(whole_of(tensor)) for name, tensor in tensors.items()}


def fetched(values: list[Tensor]) -> Array:
    """Return scalars of the device as one array; the only wait of a chunk."""
    return to_array(torch.stack(values)) if values else np.empty(0)


# --- Sharded tensors ------------------------------------------------------------------------------

# FSDP2 makes a DTensor of a parameter. It is known by what it can do: the class would have to be
# imported, with all of torch.distributed.tensor, for sessions that have none.


def is_sharded(tensor: Tensor) -> bool:
    """Return whether `tensor` lies in parts, one in each process."""
    return hasattr(tensor, "full_tensor")


def part_of(tensor: Any) -> Tensor:
    """Return what of `tensor` lies in this process, in the same memory; all of a plain one."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()


def part_like(whole: Tensor, tensor: Any) -> Tensor:
    """Return the part of a plain tensor that this process has of the sharded `tensor`."""
    from torch.distributed.tensor import distribute_tensor

    fixed = tensor.device_mesh, tensor.placements
    return distribute_tensor(whole, *fixed, src_data_rank=None).to_local()


def whole_of(tensor: Any) -> Tensor:
    """Return a sharded tensor whole, put together by all processes; a plain one as it is."""
    return tensor.detach().full_tensor() if is_sharded(tensor) else tensor
