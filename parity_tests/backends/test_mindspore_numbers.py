"""The MindSpore backend against the float64 reference."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from mindspore_networks import (
    IMAGES,
    NETWORKS,
    RATES,
    TOLERANCE,
    batches,
    loaded,
    make_batch,
    make_plan,
    make_recipe,
    same_bits,
    session,
    worst,
)

from resnet_spec.contract import Batch, State
from resnet_spec.loader import load_backend
from resnet_spec.planning.initial_weights import initial_state

pytestmark = pytest.mark.xdist_group("mindspore_networks")

reference: Any = load_backend("numpy")


@cache
def expected_run(name: str) -> tuple[Any, State]:
    plan = make_plan(name)
    made = reference.Session(plan, make_recipe(name), precision="float64")
    made.load(initial_state(plan, 3))
    return made.train(iter(batches(plan)), RATES), made.state()


@pytest.mark.parametrize("name", NETWORKS)
def test_twenty_steps(name: str) -> None:
    plan, made = make_plan(name), loaded(name)
    log, (expected, state) = made.train(iter(batches(plan)), RATES), expected_run(name)
    assert np.abs(log.loss - expected.loss).max() < TOLERANCE
    assert log.correct.tolist() == expected.correct.tolist()
    assert log.count.tolist() == [IMAGES] * len(RATES)
    assert worst(made.state(), state) < TOLERANCE


@pytest.mark.parametrize("name", ["zero_pad", pytest.param("v2", marks=pytest.mark.thorough)])
def test_twenty_steps_can_fail(name: str) -> None:
    """A rate, an image, or a weight that is off by little is seen."""
    plan, (expected, _) = make_plan(name), expected_run(name)
    start = initial_state(plan, 3)

    def differs(state: State, first: Batch, rates: Any) -> bool:
        made = session(name)
        made.load(state)
        log = made.train(iter([first, *batches(plan)[1:]]), rates)
        return bool(np.abs(log.loss - expected.loss).max() > 2 * TOLERANCE)

    first = batches(plan)[0]
    flipped = replace(first, images=first.images[:, :, ::-1])
    perturbed = {k: v * (1.01 if k.endswith("conv2.weight") else 1.0) for k, v in start.items()}
    assert differs(start, first, RATES * 1.01)
    assert differs(start, flipped, RATES)
    assert differs({k: v.astype(np.float32) for k, v in perturbed.items()}, first, RATES)
    assert not differs(start, first, RATES)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_activations_and_logits(name: str) -> None:
    plan, made = make_plan(name), loaded(name)
    ref = reference.Session(plan, make_recipe(name), precision="float64")
    ref.load(made.state())
    before, batch = made.state(), make_batch(plan)
    loss, gradients = made.gradients(batch)
    expected_loss, expected = ref.gradients(batch)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert list(gradients) == list(plan.trainable)
    assert worst(gradients, expected) < TOLERANCE
    # ops.pad's gradient would be wrong from here on.
    assert same_bits(made.gradients(batch)[1], gradients)
    for train in (False, True):
        activations = dict(made.activations(batch, train))
        assert tuple(activations) == plan.observed
        assert worst(activations, dict(ref.activations(batch, train))) < TOLERANCE
    (logits,), (expected_logits,) = made.predict([batch]), ref.predict([batch])
    assert worst({"": logits}, {"": expected_logits}) < TOLERANCE
    assert same_bits(made.state(), before)
