"""The reference's gradients of whole networks against differences; its modules and states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
from numpy_networks import NETWORKS, assert_equal, batch_of, plan_of, session_of, state_of
from numpy_ops import WHOLE, draw, relative
from resnet_spec_numpy.losses import smoothed_cross_entropy
from resnet_spec_numpy.modules import build
from resnet_spec_numpy.session import Session
from resnet_spec_numpy.weights import weights_of

from resnet_spec.contract import Batch
from resnet_spec.errors import CheckpointError
from resnet_spec.recipe import Recipe


def as_floats(batch: Batch) -> Batch:
    return replace(batch, images=draw(6).normal(0.0, 1.0, batch.images.shape))


def check_network(network: str, fault: Callable[[Session], None] = lambda session: None) -> None:
    """Compare the slope along one direction of every tensor, and of the images, with gradients."""
    plan = plan_of(network)
    session = session_of(plan, Recipe(steps=1, batch=4, label_smoothing=0.1))
    batch = as_floats(batch_of(plan))
    fault(session)
    _, gradients = session.gradients(batch)
    assert list(gradients) == list(plan.trainable)
    images = batch.images.transpose(0, 3, 1, 2)
    checks = [("input", images, dict(session.node_gradients(batch))["input"])]
    live = weights_of(session.native, plan)
    checks += [(name, live[name], gradient) for name, gradient in gradients.items()]
    for name, array, gradient in checks:
        assert gradient.shape == array.shape and gradient.flags.c_contiguous
        direction = draw().uniform(0.5, 1.5, array.shape) * np.where(gradient < 0, -1.0, 1.0)
        kept, sides = array.copy(), []
        for step in (1e-6, -1e-6):
            array[...] = kept + step * direction
            sides.append(session.gradients(batch)[0])
        array[...] = kept
        slope, expected = (sides[0] - sides[1]) / 2e-6, float((gradient * direction).sum())
        assert abs(slope - expected) <= WHOLE * abs(expected), (name, slope, expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_of_whole_networks(network):
    check_network(network)


def _lose_what_the_gate_reads(session: Session) -> None:
    gate = attrgetter("layer1.0.se.gate")(session.native)
    right = gate.backward
    gate.backward = lambda dy, run: 0.0 * right(dy, run)


def _lose_what_the_shortcut_reads(session: Session) -> None:
    add = attrgetter("layer2.1.add")(session.native)
    add.backward = lambda dy: (dy, 0.0 * dy)


@pytest.mark.parametrize(
    ("network", "fault"),
    [("gated", _lose_what_the_gate_reads), ("basic", _lose_what_the_shortcut_reads)],
)
def test_a_lost_gradient_of_a_container_is_seen(network, fault):
    with pytest.raises(AssertionError, match=r"input|weight"):
        check_network(network, fault)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_attribute_path_is_the_canonical_name(network):
    plan = plan_of(network)
    state = state_of(plan, np.float32)
    native: Any = build(plan, state)
    for t in plan.tensors:
        array = attrgetter(t.name)(native)
        assert array.dtype == np.float32 and np.array_equal(array, state[t.name])
    for op in plan.ops:
        assert attrgetter(op.name)(native).op is op
    empty: Any = build(plan)
    assert all(not attrgetter(t.name)(empty).any() for t in plan.tensors)


def test_the_native_module_gives_the_logits_of_normalised_images():
    plan = plan_of("basic")
    native, batch = build(plan, state_of(plan, np.float32)), batch_of(plan)
    size = plan.input
    images = ((batch.images / 255.0 - size.mean) / size.std).transpose(0, 3, 1, 2)
    (expected,) = session_of(plan).predict([batch])
    assert relative(native(images.astype(np.float32)), expected) <= 1e-5


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("train", [False, True])
def test_activations_are_all_that_is_observed(network, train):
    plan = plan_of(network)
    session, batch = session_of(plan), batch_of(plan)
    before = session.state()
    found = list(session.activations(batch, train=train))
    assert tuple(name for name, _ in found) == plan.observed
    outputs = dict(found)
    for op in plan.ops:
        assert outputs[op.name].shape == (4, *op.out_shape)
        assert outputs[op.name].flags.c_contiguous
    logits = found[-1][1]
    if train:
        assert smoothed_cross_entropy(logits, batch.labels)[0] == session.gradients(batch)[0]
    else:
        assert np.array_equal(logits, next(session.predict([batch])))
    assert_equal(session.state(), before)


def test_float32_stays_float32_and_near_float64():
    plan = plan_of("gated")
    recipe = Recipe(steps=1, batch=4, accumulate=2, ema={"decay": 0.9})  # pyright: ignore[reportArgumentType]
    single, double = (session_of(plan, recipe, p) for p in ("float32", "float64"))
    batch = batch_of(plan)
    for (name, got), (_, expected) in zip(
        single.activations(batch, train=True), double.activations(batch, train=True), strict=True
    ):
        assert got.dtype == np.float32 and expected.dtype == np.float64
        assert relative(got, expected) <= 1e-5, name
    for session, dtype in ((single, np.float32), (double, np.float64)):
        session.train([batch], np.array([0.1]))
        arrays = {**session.state(), **session.gradients(batch)[1]}
        assert {a.dtype for a in arrays.values()} == {np.dtype(dtype)}
        assert next(session.predict([batch])).dtype == dtype


def test_load_lists_every_name_that_does_not_fit():
    plan = plan_of("basic")
    session = session_of(plan, Recipe(steps=1, batch=4))
    before = session.state()
    state = {name: array + 1.0 for name, array in before.items()}
    del state["bn1.weight"], state["momentum/fc.bias"]
    state |= {"fc.weight": np.zeros((8, 5)), "fc.scale": np.zeros(5), "ema/fc.bias": np.zeros(5)}
    with pytest.raises(CheckpointError) as caught:
        session.load(state)
    assert caught.value.problems == (
        "bn1.weight: is missing",
        "momentum/fc.bias: is missing",
        "fc.scale: is unexpected",
        "ema/fc.bias: is unexpected",
        "fc.weight = [8, 5]: must have shape [5, 8]",
    )
    assert_equal(session.state(), before)
    with pytest.raises(CheckpointError, match=r"42 missing.* The first: conv1\.weight: is missing"):
        build(plan, {})


def test_slots_start_fresh_where_a_state_has_none():
    plan = plan_of("basic")
    recipe = Recipe(steps=1, batch=4, ema={"decay": 0.9})  # pyright: ignore[reportArgumentType]
    session = session_of(plan, recipe)
    session.train([batch_of(plan)], np.array([0.1]))
    trained, weights = session.state(), state_of(plan)
    assert any(trained[f"momentum/{name}"].any() for name in plan.trainable)
    session.load(weights)
    slots = {f"momentum/{name}": np.zeros_like(weights[name]) for name in plan.trainable}
    slots |= {f"ema/{name}": weights[name] for name in weights}
    assert_equal(session.state(), weights | slots)
    session.load(trained)
    assert_equal(session.state(), trained)
    session.state()["fc.bias"][...] = 7.0
    assert_equal(session.state(), trained)
