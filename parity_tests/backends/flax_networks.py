"""Networks for the Flax backend's tests: plans, batches and sessions that compile once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch, State, StepLog
from resnet_spec.describing.spec import Spec
from resnet_spec.loader import load_backend
from resnet_spec.ops import DropPath
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

for needed in ("jax", "flax.nnx", "optax"):
    pytest.importorskip(needed)
backend: Any = load_backend("flax")
reference: Any = load_backend("numpy")


CLASSES = 4
COUNT = 4
STAGES = [{"width": 6, "blocks": 1}, {"width": 8, "blocks": 1, "stride": 2}]
SMALL_STEM = {"widths": [6], "kernel": 3, "stride": 1, "pool": False}

# What XLA compiles is the most of a test's time: three networks share out the options.
CASES: dict[str, tuple[dict[str, Any], int | tuple[int, int]]] = {
    # Odd sizes cut the average pool's last window off; the last map is smaller than its kernel.
    "bottleneck": (
        {
            "block": "bottleneck",
            "expansion": 2,
            "stem": {"widths": [4, 6], "kernel": 3, "stride": 2, "pool": True},
            "stages": [{"width": 6, "blocks": 2}, {"width": 8, "blocks": 1, "stride": 2}],
            "groups": 2,
            "squeeze": 0.25,
            "downsample": "avg_pool",
            "stochastic_depth": 0.5,
            "dropout": 0.25,
            "input": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        },
        (9, 13),
    ),
    "pre_activation": (
        {
            "block": "basic",
            "order": "pre_activation",
            "stem": {"widths": [6], "kernel": 3, "stride": 2, "pool": True},
            "stages": [{"width": 6, "blocks": 1}, {"width": 8, "blocks": 2, "dilation": 2}],
            "padding": "same",
            "norm": {"variance": "biased", "eps": 1e-3, "decay": 0.8},
            "dropout": 0.25,
        },
        16,
    ),
    "zero_pad": (
        {
            "block": "basic",
            "stem": SMALL_STEM,
            "stages": STAGES,
            "shortcut": "zero_pad",
            "zero_pad_at": "both",
        },
        11,
    ),
    # For everything that needs a network of its own compiled.
    "tiny": (
        {
            "block": "basic",
            "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
            "stages": [{"width": 4, "blocks": 2}],
            "stochastic_depth": 0.5,
            "dropout": 0.25,
        },
        8,
    ),
}

RECIPE = Recipe(
    steps=20,
    batch=2 * COUNT,
    accumulate=2,
    label_smoothing=0.1,
    optimizer={
        "momentum": 0.8,
        "nesterov": True,
        "weight_decay": 0.01,
        "decay_norms": False,
        "decay_biases": False,
    },
    ema={"decay": 0.7},
)
RATES = 0.02 * 0.5 * (1 + np.cos(np.linspace(0, 3, 20)))


@cache
def plan_of(case: str = "zero_pad") -> Plan:
    fields, size = CASES[case]
    return lower(Spec(classes=CLASSES, **fields), size)


def state_of(plan: Plan, seed: int = 0) -> State:
    """Initial weights, with norms and biases moved away from their trivial values."""
    generator = np.random.default_rng(seed)
    state = initial_state(plan, seed)
    for array in state.values():
        if array.ndim == 1:
            array += generator.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    return state


def batch_of(plan: Plan, seed: int = 0, count: int = COUNT) -> Batch:
    generator = np.random.default_rng(seed)
    shape = (count, plan.input.height, plan.input.width, plan.input.channels)
    noise = {}
    for op in plan.noises:
        size = (count,) if isinstance(op, DropPath) else (count, op.in_shape[0])
        kept = generator.integers(0, 2, size) / (1 - op.rate)
        noise[op.name] = kept.astype(np.float32)
    return Batch(
        images=generator.integers(0, 256, shape, dtype=np.uint8),
        labels=generator.integers(0, plan.classes, count),
        indices=np.arange(count),
        noise=noise,
    )


def batches_of(plan: Plan) -> list[Batch]:
    return [batch_of(plan, seed, RECIPE.batch) for seed in range(20)]


@cache
def _session(case: str, precision: str) -> Any:
    return backend.Session(plan_of(case), RECIPE, device="cpu", precision=precision)


def session_of(case: str = "zero_pad", precision: str = "float32") -> Any:
    """Return a session that the tests share, so that each network is compiled once."""
    session = _session(case, precision)
    session.load(state_of(plan_of(case)))
    return session


def reference_of(case: str, recipe: Recipe = RECIPE) -> Any:
    session = reference.Session(plan_of(case), recipe, precision="float64")
    session.load(state_of(plan_of(case)))
    return session


@cache
def reference_run(case: str, recipe: Recipe = RECIPE) -> tuple[StepLog, State]:
    session = reference_of(case, recipe)
    log = session.train(iter(batches_of(plan_of(case))), RATES)
    return log, session.state()


def assert_close(got: Any, expected: Any, tolerance: float, what: str) -> None:
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, what
    error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-6)
    assert error <= tolerance, f"{what}: {error:.2e} > {tolerance:.0e}"


def assert_states_close(got: State, expected: State, tolerance: float) -> None:
    assert list(got) == list(expected) and expected
    for name, array in expected.items():
        assert_close(got[name], array, tolerance, name)


def assert_identical(got: State, expected: State) -> None:
    assert list(got) == list(expected) and expected
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name


def check_passes(session: Any, case: str, tolerance: float) -> None:
    """Compare logits, training activations, loss and gradients with the reference."""
    batch, exact = batch_of(plan_of(case)), reference_of(case)
    logits, expected_logits = (next(s.predict([batch])) for s in (session, exact))
    assert_close(logits, expected_logits, tolerance, "logits")
    got, expected = (dict(s.activations(batch, train=True)) for s in (session, exact))
    assert_states_close(got, expected, tolerance)
    (loss, got), (expected_loss, expected) = (s.gradients(batch) for s in (session, exact))
    assert_close(loss, expected_loss, tolerance, "loss")
    assert_states_close(got, expected, 10 * tolerance)
