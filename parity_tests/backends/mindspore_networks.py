"""Networks for the MindSpore backend's tests.

One small network for each group of options, since every graph takes a second or more to compile.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch, State
from resnet_spec.describing.spec import Spec
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

pytest.importorskip("mindspore")
backend: Any = load_backend("mindspore")


IMAGES = 12
STAGES = [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}]
NETWORKS: dict[str, dict[str, Any]] = {
    "zero_pad": {"shortcut": "zero_pad", "zero_pad_at": "both", "norm": {"variance": "biased"}},
    "same": {
        "padding": "same",
        "stem": {"widths": [8], "kernel": 3, "stride": 2, "pool": True},
        "squeeze": 0.25,
    },
    "v2": {
        "order": "pre_activation",
        "block": "bottleneck",
        "groups": 2,
        "stages": [{"width": 8, "blocks": 1}, {"width": 8, "blocks": 1, "dilation": 2}],
        "downsample": "avg_pool",
        "stochastic_depth": 0.5,
        "dropout": 0.5,
    },
}
RECIPES: dict[str, dict[str, Any]] = {
    "zero_pad": {
        "accumulate": 3,
        "optimizer": {"nesterov": True, "weight_decay": 0.01, "decay_norms": False},
    },
    "same": {"ema": {"decay": 0.9}, "label_smoothing": 0.1},
    "v2": {"optimizer": {"momentum": 0.0, "weight_decay": 0.01, "decay_biases": False}},
}
SIZES = {"zero_pad": (7, 9), "same": (16, 27), "v2": (9, 9)}
RATES = np.linspace(0.1, 0.01, 20)

# Relative to the greatest value of a tensor; measured: 4.6e-6 over 20 steps (float32).
TOLERANCE = 5e-5


def make_plan(name: str, **fields: Any) -> Plan:
    small: dict[str, Any] = {
        "name": name,
        "classes": 5,
        "block": "basic",
        "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": False},
        "stages": STAGES,
        "input": {"mean": [0.5] * 3, "std": [0.25] * 3},
    }
    return lower(Spec(**(small | NETWORKS[name] | fields)), SIZES[name])


def make_recipe(name: str) -> Recipe:
    return Recipe(steps=len(RATES), batch=IMAGES, **RECIPES[name])


def make_batch(plan: Plan, seed: int = 0, count: int = IMAGES) -> Batch:
    rng = np.random.default_rng(seed)
    noise: dict[str, Any] = {}
    for op in plan.noises:
        shape = (count, op.in_shape[0]) if type(op).__name__ == "Dropout" else (count,)
        noise[op.name] = (rng.random(shape) < 0.5).astype(np.float32) * 2.0
    shape = (count, plan.input.height, plan.input.width, plan.input.channels)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    return Batch(images, rng.integers(0, plan.classes, count), np.arange(count), noise=noise)


def batches(plan: Plan) -> list[Batch]:
    return [make_batch(plan, seed) for seed in range(len(RATES))]


@cache
def session(name: str) -> Any:
    """Return one session per network, so that its graphs are compiled once."""
    return backend.Session(make_plan(name), make_recipe(name))


def loaded(name: str) -> Any:
    made = session(name)
    made.load(initial_state(make_plan(name), 3))
    return made


def worst(got: State, expected: State) -> float:
    assert got.keys() == expected.keys()
    return max(
        float(np.abs(got[name] - array).max() / max(np.abs(array).max(), 1e-12))
        for name, array in expected.items()
    )


def same_bits(one: State, two: State) -> bool:
    assert one.keys() == two.keys()
    return all(one[name].tobytes() == two[name].tobytes() for name in one)
