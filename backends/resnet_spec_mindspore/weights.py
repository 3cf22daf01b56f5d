"""The border between MindSpore parameters and the canonical state.

MindSpore's layouts are the canonical ones (conv OIHW, dense [out, in]), so nothing is transposed;
its names of norm parameters are mapped by walking the plan.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from resnet_spec.contract import Array, State
from resnet_spec.errors import CheckpointError
from resnet_spec.ops import Conv, Linear, Norm
from resnet_spec.plan import Plan

Parameters = dict[str, Parameter]
SLOTS = ("momentum/", "ema/", "loss_scale/")


def parameters_of(network: nn.Cell, plan: Plan) -> Parameters:
    """Return the live parameters of the plan by canonical name, in the plan's order."""
    cells = dict(network.cells_and_names())
    found: Parameters = {}
    for op in plan.ops:
        match op:
            case Conv() | Linear():
                found[op.weight.name] = cells[op.name].weight
                if op.bias is not None:
                    found[op.bias.name] = cells[op.name].bias
            case Norm():
                norm = cells[op.name]
                found[op.scale.name] = norm.gamma
                found[op.shift.name] = norm.beta
                found[op.running_mean.name] = norm.moving_mean
                found[op.running_var.name] = norm.moving_variance
            case _:
                pass
    return found


def load_weights(network: nn.Cell, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `network`. Raises CheckpointError with every name that does not fit."""
    targets = parameters_of(network, plan)
    check_state(targets, state)
    copy_into(targets, state)


def check_state(targets: Mapping[str, Parameter], state: Mapping[str, Array]) -> None:
    """Raise CheckpointError that lists all missing, unexpected and misshapen names of `state`.

    The slots of the optimiser may be absent, a whole family (as `momentum/`) at a time.
    """
    families = {family(name) for name in state}
    expected = {name for name in targets if family(name) in {"", *families}}
    lines = [f"{name}: is missing" for name in targets if name in expected and name not in state]
    lines += [f"{name}: is unexpected" for name in state if name not in expected]
    lines += [
        f"{name} = {list(state[name].shape)}: must have shape {list(parameter.shape)}"
        for name, parameter in targets.items()
        if name in state and state[name].shape != tuple(parameter.shape)
    ]
    if lines:
        raise CheckpointError(*lines)


def family(name: str) -> str:
    """Return the slot prefix of a state's name, as `momentum/`; "" for the weights."""
    return next((slot for slot in SLOTS if name.startswith(slot)), "")


def copy_into(targets: Mapping[str, Parameter], state: Mapping[str, Array]) -> None:
    """Copy the arrays of `state` into the parameters of the same names, in place.

    `Parameter.set_data` gives a parameter new memory, which a graph compiled before does not see.
    """
    for name, parameter in targets.items():
        if name in state:
            ops.assign(parameter, to_tensor(state[name].astype(np.float32)))


def to_tensor(array: Array) -> Tensor:
    """Return a tensor with a copy of `array`."""
    return Tensor(np.ascontiguousarray(array).reshape(array.shape))


def to_array(tensor: Tensor) -> Array:
    """Return a C-contiguous copy of `tensor` on the host."""
    return np.array(tensor.asnumpy(), order="C")


def to_state(tensors: Mapping[str, Tensor]) -> State:
    """Return copies of `tensors` on the host."""
    return {name: to_array(tensor) for name, tensor in tensors.items()}
