"""Arrays from another project's names and layouts to the canonical ones, and back; all checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.errors import MOST_LINES, CheckpointError, few, nearest
from resnet_spec.ops import Shape, Tensor
from resnet_spec.plan import Plan
from resnet_spec.weights.naming.dialects import Layout
from resnet_spec.weights.naming.names import Foreign, Scheme

# Axes of the canonical array that the foreign one has, in the order of the foreign one. A matrix
# has height and width 1.
_AXES: dict[Layout, tuple[int, ...]] = {
    "OIHW": (0, 1, 2, 3),
    "HWIO": (2, 3, 1, 0),
    "OI": (0, 1),
    "IO": (1, 0),
    "C": (0,),
}


def foreign_shape(tensor: Tensor, layout: Layout) -> Shape:
    """Return the shape of `tensor` in `layout`.

    A kernel of one pixel may be kept as a matrix, and a matrix as a kernel of one pixel.
    """
    shape = (*tensor.shape, 1, 1)
    return tuple(shape[axis] for axis in _AXES[layout])


def to_canonical(tensor: Tensor, layout: Layout, array: Array) -> Array:
    """Return `array`, which is in `layout`, in the canonical layout, C-contiguous and aligned.

    Where nothing moves it is a view: a large file is not copied.
    """
    moved = array.transpose(np.argsort(_AXES[layout]))
    return np.require(moved.reshape(tensor.shape), requirements=("C", "A"))


def to_foreign(tensor: Tensor, layout: Layout, array: Array) -> Array:
    """Return a C-contiguous copy of `array`, in canonical layout, in `layout`."""
    axes = _AXES[layout]
    kept = array.reshape((*tensor.shape, 1, 1)[: len(axes)])
    return np.array(kept.transpose(axes), order="C")


def from_file(
    plan: Plan, scheme: Scheme, tensors: Mapping[str, Array], *, empties: bool = False
) -> State:
    """Return the canonical tensors of `plan` out of a file's, whose names are those of `scheme`.

    Values keep their bits and their type; the network takes RGB images, whatever the project's
    does. Biases that `plan` has not are subtracted from the
    running means that follow, in float64, rounded once. Counters of steps are left out.

    empties: take the arrays out of `tensors`, a dict then, so that the large ones are not in memory
        twice once they are lifted.

    Raises CheckpointError as `check` does, and when the scheme's project has no such network.
    """
    names, folds = scheme.in_file(plan), scheme.folds(plan)
    counters = scheme.counters(plan)
    found = {name: array for name, array in tensors.items() if not _counts(name, array, counters)}
    biases = {fold.name: found.pop(fold.name) for fold in folds if fold.name in found}
    wanted = shapes_of(plan, names) | {fold.name: fold.shape for fold in folds}
    _compare(wanted, {name: array.shape for name, array in (found | biases).items()})
    if empties:
        cast("dict[str, Array]", tensors).clear()
    state = _lifted(plan, names, found)
    for name in scheme.reversed_weights(plan):
        state[name] = _reversed(state[name])
    for fold in folds:
        state[fold.mean] = _less(state[fold.mean], biases[fold.name])
    return state


def to_file(plan: Plan, scheme: Scheme, state: Mapping[str, Array]) -> dict[str, Array]:
    """Return `state`, the canonical tensors of `plan`, as a file of `scheme` has them.

    Biases that `plan` has not are zeros. `from_file` gives back the bits of `state`; the other way
    round, a file with biases of its own comes back with them folded.

    Raises CheckpointError as `check` does, and when the scheme's project has no such network.
    """
    names = scheme.in_file(plan)
    own = {tensor.name: tensor.shape for tensor in plan.tensors}
    _compare(own, {name: array.shape for name, array in state.items()})
    biases = {
        fold.name: np.zeros(fold.shape, state[fold.mean].dtype) for fold in scheme.folds(plan)
    }
    theirs = dict(state) | {name: _reversed(state[name]) for name in scheme.reversed_weights(plan)}
    return {
        names[t.name].name: to_foreign(t, names[t.name].layout, theirs[t.name])
        for t in plan.tensors
    } | biases


def lift(plan: Plan, names: Mapping[str, Foreign], found: Mapping[str, Array]) -> State:
    """Return the canonical tensors of `plan` out of `found`, whose names and layouts are foreign.

    Raises CheckpointError as `check` does.
    """
    check(plan, names, {name: array.shape for name, array in found.items()})
    return _lifted(plan, names, dict(found))


def check(plan: Plan, names: Mapping[str, Foreign], shapes: Mapping[str, Shape]) -> None:
    """Raise CheckpointError that lists every missing, unexpected and misshapen tensor.

    shapes: those of all tensors there are, by foreign name. A missing name comes with the nearest
        of the unexpected ones.
    """
    _compare(shapes_of(plan, names), shapes)


def shapes_of(plan: Plan, names: Mapping[str, Foreign]) -> dict[str, Shape]:
    """Return the shape of every tensor by its foreign name."""
    return {
        names[tensor.name].name: foreign_shape(tensor, names[tensor.name].layout)
        for tensor in plan.tensors
    }


def _lifted(plan: Plan, names: Mapping[str, Foreign], found: dict[str, Array]) -> State:
    """Return the canonical tensors, taken out of `found` one by one."""
    there = ((tensor, names[tensor.name]) for tensor in plan.tensors)
    return {
        tensor.name: to_canonical(tensor, foreign.layout, found.pop(foreign.name))
        for tensor, foreign in there
    }


def _reversed(weight: Array) -> Array:
    """Return a convolution's weight, OIHW, for images whose channels come in the other order."""
    return np.ascontiguousarray(weight[:, ::-1])


def _less(mean: Array, bias: Array) -> Array:
    """Return mean - bias, rounded once to the type of `mean`."""
    return (mean.astype(np.float64) - bias.astype(np.float64)).astype(mean.dtype)


def _counts(name: str, array: Array, counters: Collection[str]) -> bool:
    return name in counters and array.size == 1


def _compare(wanted: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> None:
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    # Of many, no name is like another's by more than chance.
    is_few = len(missing) + len(unexpected) <= MOST_LINES
    mine, theirs = (missing, unexpected) if is_few else ([], [])
    lines = [f"{name}: is missing{_hint(name, theirs)}" for name in missing]
    lines += [f"{name}: is unexpected{_hint(name, mine)}" for name in unexpected]
    for name, right in wanted.items():
        if name in shapes and tuple(shapes[name]) != right:
            lines.append(f"{name} = {list(shapes[name])}: must have shape {list(right)}")
    if lines:
        raise CheckpointError(*few(lines))


def _hint(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    return f"; did you mean '{close}'?" if close is not None else ""
