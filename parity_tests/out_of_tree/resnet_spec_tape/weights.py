"""The border: arrays by canonical name, checked before they are taken.

The network keeps its arrays in the canonical layouts. Another framework transposes here, and only
here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan
from resnet_spec.session_state import check_state, weight_shapes


def zeros_of(plan: Plan, dtype: np.dtype) -> State:
    """Return zeros for every tensor of `plan`, by name and in its order."""
    return {tensor.name: np.zeros(tensor.shape, dtype) for tensor in plan.tensors}


def load_weights(weights: State, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `weights`. Raises CheckpointError when it does not fit."""
    check_state(weight_shapes(plan), state)
    copy_into(weights, state)


def copy_into(targets: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Copy what has the same name, keeping the targets' type."""
    for name in targets.keys() & state.keys():
        targets[name][...] = state[name]


def copies(arrays: Mapping[str, Array]) -> State:
    """Return C-contiguous copies that belong to the receiver."""
    return {name: np.array(array, order="C") for name, array in arrays.items()}
