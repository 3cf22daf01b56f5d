"""The border between Flax variables and the canonical state: names, layouts, checked arrays.

Inside, weights are a flat dict too, under canonical names but in Flax's layouts (kernels HWIO and
[in, out]): JAX flattens a dict of arrays in C++ at every step, an `nnx.State` in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import numpy as np
from flax import nnx

from resnet_spec.contract import Array, State
from resnet_spec.errors import BackendError, few
from resnet_spec.ops import Tensor
from resnet_spec.plan import Plan
from resnet_spec.session_state import check_network, check_state, weight_shapes

Weights = dict[str, jax.Array]
"""Canonical name -> array in Flax's layout."""
Path = tuple[str, ...]

_MORE = "is no tensor of the plan; give a layer of your own no parameters, or wrap the network"

_LEAVES = {
    "conv_weight": "kernel",
    "linear_weight": "kernel",
    "bias": "bias",
    "norm_scale": "scale",
    "norm_shift": "bias",
    "running_mean": "mean",
    "running_var": "var",
}
_TO_FLAX = {"OIHW": (2, 3, 1, 0), "OI": (1, 0), "C": (0,)}
_TO_CANONICAL = {"OIHW": (3, 2, 0, 1), "OI": (1, 0), "C": (0,)}


def path_of(tensor: Tensor) -> Path:
    """Return the path of the tensor's variable: ("layer1", "0", "bn1", "scale")."""
    module, _, _ = tensor.name.rpartition(".")
    return (*module.split("."), _LEAVES[tensor.role])


def read(module: nnx.Module, tensors: Iterable[Tensor]) -> Weights:
    """Return the module's present values of `tensors`, in their order."""
    return of_state(nnx.state(module, (nnx.Param, nnx.BatchStat)), tensors)


def of_state(state: nnx.State, tensors: Iterable[Tensor]) -> Weights:
    """Return the values of `tensors` in a module's state, in their order."""
    variables = dict(nnx.to_flat_state(state))
    return {t.name: variables[path_of(t)].get_value() for t in tensors}


def check_native(module: nnx.Module, plan: Plan, *, exactly: bool = False) -> None:
    """Raise BackendError where a session's module no longer has the plan's tensors.

    exactly: or where it has more, which nothing that goes through the plan would follow.
    """
    variables = dict(nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    found = {t.name: (t, variables.get(path_of(t))) for t in plan.tensors}
    check_network(
        {n: canonical_shape(t, v.shape) for n, (t, v) in found.items() if v is not None}, plan
    )
    more = variables.keys() - set(map(path_of, plan.tensors)) if exactly else ()
    if lines := [f"native.{'.'.join(map(str, path))}: {_MORE}" for path in sorted(more, key=str)]:
        raise BackendError(*few(lines))


def write(module: nnx.Module, tensors: Iterable[Tensor], weights: Weights) -> None:
    """Put `weights` into the module's variables."""
    nnx.update(module, as_state(tensors, weights))


def as_state(tensors: Iterable[Tensor], weights: Weights) -> nnx.State:
    """Return `weights` under their paths, as `nnx.merge` and `nnx.update` take them."""
    return nnx.from_flat_state({path_of(t): weights[t.name] for t in tensors})


def load_weights(module: nnx.Module, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `module`. Raises CheckpointError with every name that does not fit."""
    check_state(weight_shapes(plan), state)
    dtype = next(iter(read(module, plan.tensors).values())).dtype
    write(module, plan.tensors, jax.device_put(from_state(plan.tensors, state, dtype)))


def to_flax(tensor: Tensor, array: Array, dtype: np.dtype) -> Array:
    """Return a copy of `array`, in canonical layout, in Flax's layout and in `dtype`."""
    # A copy in any case: a CPU device takes over aligned host memory instead of copying it.
    return np.array(array.transpose(_TO_FLAX[tensor.layout]), dtype, order="C")


def to_canonical(tensor: Tensor, array: jax.Array) -> Array:
    """Return a C-contiguous copy of `array` on the host, in canonical layout."""
    return np.array(np.asarray(array).transpose(_TO_CANONICAL[tensor.layout]), order="C")


def canonical_shape(tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return `shape`, of a variable in Flax's layout, in canonical layout."""
    order = _TO_CANONICAL[tensor.layout]
    if len(order) != len(shape):  # Of another layer than the plan's.
        return shape
    return tuple(int(shape[axis]) for axis in order)


def to_state(tensors: Iterable[Tensor], weights: Weights, prefix: str = "") -> State:
    """Return copies of `weights` on the host, in canonical layout, `prefix` before their names."""
    return {prefix + t.name: to_canonical(t, weights[t.name]) for t in tensors}


def from_state(
    tensors: Iterable[Tensor], state: Mapping[str, Array], dtype: np.dtype, prefix: str = ""
) -> State:
    """Return copies of `state`'s arrays in Flax's layouts, by the names of `tensors`."""
    return {t.name: to_flax(t, state[prefix + t.name], dtype) for t in tensors}


def flax_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the tensor's shape in Flax's layout."""
    return tuple(tensor.shape[axis] for axis in _TO_FLAX[tensor.layout])


def trainable(plan: Plan) -> list[Tensor]:
    """Return the tensors the optimiser updates, in order of execution."""
    return [tensor for tensor in plan.tensors if tensor.trainable]
