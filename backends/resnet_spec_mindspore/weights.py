"""The border between MindSpore parameters and the canonical state.

MindSpore's layouts are the canonical ones (conv OIHW, dense [out, in]), so nothing is transposed;
the attributes of its norms are mapped by walking the plan.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from resnet_spec.contract import Array, State
from resnet_spec.errors import BackendError, CheckpointError, few
from resnet_spec.plan import Plan

Parameters = dict[str, Parameter]
SLOTS = ("momentum/", "ema/", "loss_scale/")


def parameters_of(network: nn.Cell, plan: Plan) -> Parameters:
    """Return the live parameters of the plan by canonical name, in the plan's order.

    Those of cells that gave way to others without such a parameter are left out.
    """
    cells = dict(network.cells_and_names())
    found: Parameters = {}
    for op in plan.ops:
        for tensor in op.tensors:
            attribute = _NORM_ATTRIBUTES.get(tensor.role, tensor.name.rpartition(".")[2])
            parameter = getattr(cells.get(op.name), attribute, None)
            if isinstance(parameter, Parameter):
                found[tensor.name] = parameter
    return found


_NORM_ATTRIBUTES = {
    "norm_scale": "gamma",
    "norm_shift": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def check_native(shapes: Mapping[str, tuple[int, ...]], plan: Plan) -> None:
    """Raise BackendError where the native cell no longer has the plan's tensors.

    shapes: of those that it has, by canonical name.
    """
    lines = [
        f"native.{tensor.name}: is missing in a session's network; {_REMEDY}"
        if tensor.name not in shapes
        else f"native.{tensor.name} = {list(shapes[tensor.name])}: must have shape "
        f"{list(tensor.shape)} in a session's network; {_REMEDY}"
        for tensor in plan.tensors
        if shapes.get(tensor.name) != tensor.shape
    ]
    if lines:
        raise BackendError(*few(lines))


_REMEDY = "change the spec instead, or train the network by itself"


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
        raise CheckpointError(*few(lines))


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
