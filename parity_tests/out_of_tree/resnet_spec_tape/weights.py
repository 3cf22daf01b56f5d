"""The border: arrays by canonical name, checked before they are taken.

The network keeps its arrays in the canonical layouts. Another framework transposes here, and only
here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.errors import CheckpointError, problem
from resnet_spec.plan import Plan

SLOTS = ("momentum/", "ema/")


def zeros_of(plan: Plan, dtype: np.dtype) -> State:
    """Return zeros for every tensor of `plan`, by name and in its order."""
    return {tensor.name: np.zeros(tensor.shape, dtype) for tensor in plan.tensors}


def load_weights(weights: State, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `weights`. Raises CheckpointError when it does not fit."""
    check_state(weights, state)
    copy_into(weights, state)


def check_state(targets: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Raise CheckpointError with every missing, unexpected and misshapen name of `state`.

    Slots may be absent, a whole family at a time.
    """
    families = {family(name) for name in state} | {""}
    expected = [name for name in targets if family(name) in families]
    lines = [f"{name}: is missing" for name in expected if name not in state]
    lines += [f"{name}: is unexpected" for name in state if name not in expected]
    lines += [
        problem(name, list(state[name].shape), f"must have shape {list(targets[name].shape)}")
        for name in expected
        if name in state and state[name].shape != targets[name].shape
    ]
    if lines:
        raise CheckpointError(*lines)


def family(name: str) -> str:
    """Return `momentum/` or `ema/` for a slot's name, "" for a weight's."""
    return next((slot for slot in SLOTS if name.startswith(slot)), "")


def copy_into(targets: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Copy what has the same name, keeping the targets' type."""
    for name in targets.keys() & state.keys():
        targets[name][...] = state[name]


def copies(arrays: Mapping[str, Array]) -> State:
    """Return C-contiguous copies that belong to the receiver."""
    return {name: np.array(array, order="C") for name, array in arrays.items()}
