"""The border between modules and the canonical state: arrays by name, checked before taken.

The modules' arrays have the canonical layouts, so nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.errors import CheckpointError, few, problem
from resnet_spec.plan import Plan

SLOTS = ("momentum/", "ema/")


def weights_of(network: Any, plan: Plan) -> State:
    """Return the live arrays of the plan by canonical name, in the plan's order."""
    return {tensor.name: attrgetter(tensor.name)(network) for tensor in plan.tensors}


def load_weights(network: Any, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `network`. Raises CheckpointError with every name that does not fit."""
    targets = weights_of(network, plan)
    check_state(targets, state)
    copy_into(targets, state)


def check_state(targets: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Raise CheckpointError that lists all missing, unexpected and misshapen names of `state`.

    The slots of the optimiser may be absent, a whole family (as `momentum/`) at a time.
    """
    families = {family(name) for name in state}
    expected = {name for name in targets if family(name) in {"", *families}}
    lines = [f"{name}: is missing" for name in targets if name in expected and name not in state]
    lines += [f"{name}: is unexpected" for name in state if name not in expected]
    lines += [
        problem(name, list(np.shape(state[name])), f"must have shape {list(array.shape)}")
        for name, array in targets.items()
        if name in state and np.shape(state[name]) != array.shape
    ]
    if lines:
        raise CheckpointError(*few(lines))


def family(name: str) -> str:
    """Return the slot prefix of a state's name, as `momentum/`; "" for the weights."""
    return next((slot for slot in SLOTS if name.startswith(slot)), "")


def copy_into(targets: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Copy the arrays of `state` into those of the same names in `targets`, keeping their type."""
    for name, array in targets.items():
        if name in state:
            array[...] = state[name]


def to_state(arrays: Mapping[str, Array]) -> State:
    """Return C-contiguous copies of `arrays`."""
    return {name: np.array(array, order="C") for name, array in arrays.items()}
