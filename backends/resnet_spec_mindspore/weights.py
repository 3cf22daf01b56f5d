"""The border between MindSpore parameters and the canonical state.

MindSpore's layouts are the canonical ones (conv OIHW, dense [out, in]), so nothing is transposed;
the attributes of its norms are mapped by walking the plan.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan
from resnet_spec.session_state import Shapes, check_state, family, weight_shapes

Parameters = dict[str, Parameter]


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


def load_weights(network: nn.Cell, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `network`. Raises CheckpointError with every name that does not fit."""
    check_state(weight_shapes(plan), state)
    copy_into(parameters_of(network, plan), state)


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


def typed(images: Array) -> Array:
    """Return uint8 images as they are, others in float32."""
    return images if images.dtype == np.uint8 else images.astype(np.float32)


def to_array(tensor: Tensor) -> Array:
    """Return a C-contiguous copy of `tensor` on the host."""
    return np.array(tensor.asnumpy(), order="C")


def to_state(tensors: Mapping[str, Tensor]) -> State:
    """Return copies of `tensors` on the host."""
    return {name: to_array(tensor) for name, tensor in tensors.items()}


def zero_slots(shapes: Shapes) -> Parameters:
    """Return the slots among a state's names, zero."""
    return {name: _slot(name, shape) for name, shape in shapes.items() if family(name)}


def _slot(name: str, shape: tuple[int, ...]) -> Parameter:
    zeros = Tensor(np.zeros(shape, np.float32))
    return Parameter(zeros, name=name.replace("/", ".", 1), requires_grad=False)


def fetched(values: list[Tensor], dtype: type) -> Array:
    """Return scalars of the device as one array; the only wait of a chunk."""
    return to_array(ops.stack(values)).astype(dtype) if values else np.empty(0, dtype)
