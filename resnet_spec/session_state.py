"""The state of a session where no framework is needed: its names, its fresh values, its checks.

A session holds the plan's tensors, and slots beside them: what an optimiser (see `optimizers`), a
moving average and the scale of a float16 loss keep from step to step. A slot's name is its family,
"/" and the rest; no tensor's name has a "/". Backends import this; everything is NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from resnet_spec.contract import Array, Precision
from resnet_spec.errors import BackendError, CheckpointError, few, problem
from resnet_spec.optimizers import known_slots, slots_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

Shapes = dict[str, tuple[int, ...]]

AVERAGE = "ema"
"""Family of the moving average of every tensor."""
LOSS_SCALE = "loss_scale"
"""Family of the two numbers of dynamic loss scaling."""
FIRST_LOSS_SCALE: Mapping[str, float] = {"scale": 2.0**16, "good_steps": 0.0}
"""The numbers of dynamic loss scaling before the first step, those of torch's GradScaler."""
GROWTH_STEPS = 2000
"""Steps without an overflow after which the loss scale is doubled; after one it is halved."""


def family(name: str) -> str:
    """Return the family of a slot's name, as `ema` of `ema/fc.bias`; "" for a tensor's."""
    before, slash, _ = name.partition("/")
    return before if slash else ""


def is_slot(name: str) -> bool:
    """Whether `name` is that of a slot of any session there can be."""
    return family(name) in {*known_slots(), AVERAGE, LOSS_SCALE}


def weight_shapes(plan: Plan) -> Shapes:
    """Return the shape of every tensor of `plan`, in its order."""
    return {tensor.name: tensor.shape for tensor in plan.tensors}


def state_shapes(plan: Plan, recipe: Recipe | None, precision: Precision) -> Shapes:
    """Return the shape of every array in a session's state, in the order of `Session.state`."""
    weights = weight_shapes(plan)
    shapes = dict(weights)
    trained = {name: weights[name] for name in plan.trainable}
    for slot in () if recipe is None else slots_of(recipe.optimizer):
        shapes |= slot.shapes(trained)
    if recipe is not None and recipe.ema.decay > 0:
        shapes |= {f"{AVERAGE}/{name}": shape for name, shape in weights.items()}
    if precision == "float16":
        shapes |= {f"{LOSS_SCALE}/{name}": () for name in FIRST_LOSS_SCALE}
    return shapes


def whole_state(shapes: Shapes, state: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays of `state`, and fresh ones of the slots that it lacks, by `shapes`' names.

    shapes: those of a session, as `state_shapes` gives them. Arrays of `state` are not copied, and
    are of any floating type. Raises CheckpointError as `check_state` does.
    """
    check_state(shapes, state)
    return {
        name: state[name] if name in state else _fresh(name, shape, state)
        for name, shape in shapes.items()
    }


def _fresh(name: str, shape: tuple[int, ...], state: Mapping[str, Array]) -> Array:
    """Return the first value of the slot `name` beside the weights in `state`."""
    kind, _, rest = name.partition("/")
    if kind == AVERAGE:
        return state[rest]
    first = FIRST_LOSS_SCALE[rest] if kind == LOSS_SCALE else known_slots()[kind].first
    return np.full(shape, first, np.float32)


def check_state(shapes: Shapes, state: Mapping[str, Array]) -> None:
    """Raise CheckpointError that lists all missing, unexpected and unfitting names of `state`.

    shapes: of every name that there may be. Slots may be absent, a whole family at a time.
    """
    others = [name for name in state if not isinstance(name, str)]  # pyright: ignore
    if others:
        raise CheckpointError(*few([f"{name!r}: is unexpected: no text" for name in others]))
    families = {"", *(family(name) for name in state)}
    expected = [name for name in shapes if family(name) in families]
    lines = [f"{name}: is missing" for name in expected if name not in state]
    lines += [f"{name}: is unexpected" for name in state if name not in shapes]
    for name in expected:
        if name in state:
            lines += _misfits(name, state[name], shapes[name])
    if lines:
        raise CheckpointError(*few(lines))


def _misfits(name: str, array: Array, shape: tuple[int, ...]) -> list[str]:
    """Return what is wrong with one array."""
    if np.shape(array) != shape:
        return [problem(name, list(np.shape(array)), f"must have shape {list(shape)}")]
    found: Any = getattr(array, "dtype", None)
    if not isinstance(found, np.dtype):
        return [problem(name, type(array).__name__, "must be an array of NumPy's types")]
    dtype = cast("np.dtype[Any]", found)
    if not dtype.isnative:  # Frameworks read the bytes as they are, or refuse them, each its way.
        return [problem(name, dtype.str, "must have this machine's byte order")]
    # Types that NumPy does not know itself, as bfloat16, are of kind V, and cast.
    is_number = dtype.kind in "fiu" or (dtype.kind == "V" and dtype.names is None)
    return [] if is_number else [problem(name, dtype, "must hold real numbers")]


def check_network(shapes: Mapping[str, tuple[int, ...]], plan: Plan) -> None:
    """Raise BackendError where a session's native module no longer has the plan's tensors.

    shapes: of those that it has, by canonical name and in canonical layout.
    """
    lines: list[str] = []
    for tensor in plan.tensors:
        found = shapes.get(tensor.name)
        if found is None:
            lines.append(f"native.{tensor.name}: is missing in a session's network; {_REMEDY}")
        elif found != tensor.shape:
            rule = f"must have shape {list(tensor.shape)} in a session's network"
            lines.append(problem(f"native.{tensor.name}", list(found), rule, _REMEDY))
    if lines:
        raise BackendError(*few(lines))


_REMEDY = "change the spec instead, or train the network by itself"
