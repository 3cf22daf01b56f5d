"""The border between modules and the canonical state: arrays by name, checked before taken.

The modules' arrays have the canonical layouts, so nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.plan import Plan
from resnet_spec.session_state import check_state, weight_shapes


def weights_of(network: Any, plan: Plan) -> State:
    """Return the live arrays of the plan by canonical name, in the plan's order."""
    return {tensor.name: attrgetter(tensor.name)(network) for tensor in plan.tensors}


def load_weights(network: Any, plan: Plan, state: Mapping[str, Array]) -> None:
    """Copy `state` into `network`. Raises CheckpointError with every name that does not fit."""
    check_state(weight_shapes(plan), state)
    copy_into(weights_of(network, plan), state)


def copy_into(targets: Mapping[str, Array], state: Mapping[str, Array]) -> None:
    """Copy the arrays of `state` into those of the same names in `targets`, keeping their type."""
    for name, array in targets.items():
        if name in state:
            array[...] = state[name]


def to_state(arrays: Mapping[str, Array]) -> State:
    """Return C-contiguous copies of `arrays`."""
    return {name: np.array(array, order="C") for name, array in arrays.items()}
