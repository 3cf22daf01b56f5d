"""Arrays from another project's names and layouts to the canonical ones, and back; all checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.errors import CheckpointError, nearest
from resnet_spec.naming.dialects import Layout
from resnet_spec.naming.names import Foreign
from resnet_spec.ops import Shape, Tensor
from resnet_spec.plan import Plan

# Axes of the canonical array that the foreign one has, in the order of the foreign one.
_AXES: dict[Layout, tuple[int, ...]] = {
    "OIHW": (0, 1, 2, 3),
    "HWIO": (2, 3, 1, 0),
    "OI": (0, 1),
    "IO": (1, 0),
    "C": (0,),
}


def foreign_shape(tensor: Tensor, layout: Layout) -> Shape:
    """Return the shape of `tensor` in `layout`; a 1x1 kernel may be kept as a matrix."""
    return tuple(tensor.shape[axis] for axis in _AXES[layout])


def to_canonical(tensor: Tensor, layout: Layout, array: Array) -> Array:
    """Return a C-contiguous copy of `array`, which is in `layout`, in the canonical layout."""
    moved = array.transpose(np.argsort(_AXES[layout]))
    return np.array(moved.reshape(tensor.shape), order="C")


def to_foreign(tensor: Tensor, layout: Layout, array: Array) -> Array:
    """Return a C-contiguous copy of `array`, in canonical layout, in `layout`."""
    axes = _AXES[layout]
    kept = array.reshape(array.shape[: len(axes)])
    return np.array(kept.transpose(axes), order="C")


def lift(plan: Plan, names: Mapping[str, Foreign], found: Mapping[str, Array]) -> State:
    """Return the canonical tensors of `plan` out of `found`, whose names and layouts are foreign.

    Raises CheckpointError as `check` does.
    """
    check(plan, names, {name: array.shape for name, array in found.items()})
    return {
        tensor.name: to_canonical(tensor, names[tensor.name].layout, found[names[tensor.name].name])
        for tensor in plan.tensors
    }


def check(plan: Plan, names: Mapping[str, Foreign], shapes: Mapping[str, Shape]) -> None:
    """Raise CheckpointError that lists every missing, unexpected and misshapen tensor.

    shapes: those of all tensors there are, by foreign name. A missing name comes with the nearest
        of the unexpected ones.
    """
    wanted = {names[tensor.name].name: tensor for tensor in plan.tensors}
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    lines = [f"{name}: is missing{_hint(name, unexpected)}" for name in missing]
    lines += [f"{name}: is unexpected{_hint(name, missing)}" for name in unexpected]
    for name, tensor in wanted.items():
        right = foreign_shape(tensor, names[tensor.name].layout)
        if name in shapes and tuple(shapes[name]) != right:
            lines.append(f"{name} = {list(shapes[name])}: must have shape {list(right)}")
    if lines:
        raise CheckpointError(*lines)


def _hint(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    return f"; did you mean '{close}'?" if close is not None else ""
