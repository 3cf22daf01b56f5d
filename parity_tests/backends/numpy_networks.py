"""Whole networks for the reference: plans, states, batches and sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy_ops import draw
from resnet_spec_numpy.session import Session

from resnet_spec import ops
from resnet_spec.contract import Batch, State
from resnet_spec.describing.spec import Spec
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

STAGES = [{"width": 4, "blocks": 1}, {"width": 8, "blocks": 2, "stride": 2}]
SMALL = {"widths": [4], "kernel": 3, "stride": 1, "pool": False}
NETWORKS: dict[str, dict[str, Any]] = {
    "basic": {"block": "basic", "stem": {"widths": [4]}},
    "plain": {"block": "basic", "shortcut": "none"},
    "zero_pad": {"block": "basic", "shortcut": "zero_pad", "zero_pad_at": "both"},
    "bottleneck": {
        "block": "bottleneck",
        "groups": 2,
        "stages": [*STAGES, {"width": 8, "blocks": 2, "dilation": 2}],
        "downsample": "avg_pool",
    },
    "gated": {"block": "bottleneck", "squeeze": 0.25, "shortcut": "projection_all"},
    "same": {"block": "basic", "padding": "same", "stem": {**SMALL, "pool": True}},
    "pre_activation": {
        "block": "bottleneck",
        "order": "pre_activation",
        "stochastic_depth": 0.5,
        "dropout": 0.25,
    },
}


def plan_of(network: str, size: int = 9) -> Plan:
    image = {"size": size, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    fields = {"classes": 5, "stem": SMALL, "stages": STAGES, "input": image}
    return lower(Spec(**{**fields, **NETWORKS[network]}))


def state_of(plan: Plan, dtype: Any = np.float64) -> State:
    """Initial weights, with norms and biases moved away from their trivial values."""
    state = initial_state(plan, 0, dtype)
    for array in state.values():
        if array.ndim == 1:
            array += draw(array.size).uniform(0.1, 0.5, array.shape).astype(dtype)
    return state


def batch_of(plan: Plan, count: int = 4, seed: int = 5) -> Batch:
    noise = {}
    for op in plan.noises:
        shape = (count, op.in_shape[0]) if isinstance(op, ops.Dropout) else (count,)
        noise[op.name] = draw(seed).choice([0.5, 1.5], shape).astype(np.float32)
    size = plan.input
    return Batch(
        images=draw(seed).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8),
        labels=draw(seed).integers(0, plan.classes, count),
        indices=np.arange(count),
        noise=noise,
    )


def session_of(plan: Plan, recipe: Recipe | None = None, precision: Any = "float64") -> Session:
    session = Session(plan, recipe, precision=precision)
    session.load(state_of(plan))
    return session


def assert_equal(got: State, expected: State) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name
