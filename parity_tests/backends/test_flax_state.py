"""The Flax session's state: taken, loaded, resumed, and left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flax_networks import (
    RATES,
    RECIPE,
    assert_identical,
    batch_of,
    batches_of,
    plan_of,
    session_of,
    state_of,
)

from resnet_spec.errors import CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import state_shapes

jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")

pytestmark = pytest.mark.xdist_group("flax_networks")
backend: Any = load_backend("flax")


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_resume_is_bit_identical(precision: str) -> None:
    batches = batches_of(plan_of())[:6]
    session = session_of(precision=precision)
    losses = session.train(batches, RATES[:6]).loss
    whole = session.state()
    session = session_of(precision=precision)
    session.train(batches[:3], RATES[:3])
    middle = session.state()
    session.train(batches[:1], RATES[:1])
    session.load(middle)
    assert_identical(session.state(), middle)
    assert np.array_equal(session.train(batches[3:], RATES[3:6]).loss, losses[3:])
    assert_identical(session.state(), whole)


def test_another_session_takes_over_to_the_bit() -> None:
    plan = plan_of("tiny")
    batches = batches_of(plan)[:4]
    first = session_of("tiny", "float16")
    first.train(batches, RATES[:4])
    whole = first.state()
    first.load(state_of(plan))
    first.train(batches[:2], RATES[:2])
    second = backend.Session(plan, RECIPE, device="cpu", precision="float16")
    second.load(first.state())
    second.train(batches[2:], RATES[2:4])
    assert_identical(second.state(), whole)
    assert list(whole) == list(state_shapes(plan, RECIPE, "float16"))
    assert list(whole)[-2:] == ["loss_scale/scale", "loss_scale/good_steps"]


def test_a_fresh_load_resets_the_slots() -> None:
    plan, weights = plan_of(), state_of(plan_of())
    session = session_of()
    session.train(batches_of(plan)[:1], RATES[:1])
    session.load(weights)
    state = session.state()
    assert all(np.array_equal(state[name], a) for name, a in weights.items())
    assert all(np.array_equal(state[f"ema/{name}"], a) for name, a in weights.items())
    assert not any(state[f"momentum/{name}"].any() for name in plan.trainable)
    recipe = Recipe(steps=1, optimizer={"momentum": 0.0})
    assert set(backend.Session(plan, recipe).state()) == set(weights)


def test_state_is_owned_by_its_receiver() -> None:
    plan, given = plan_of(), state_of(plan_of())
    session = session_of()
    session.load(given)
    for array in given.values():
        array += 1.0
    taken = session.state()
    assert_identical({name: taken[name] for name in given}, state_of(plan))
    before = {name: array.copy() for name, array in taken.items()}
    session.train(batches_of(plan)[:2], RATES[:2])
    assert_identical(taken, before)
    for array in taken.values():
        assert array.flags["C_CONTIGUOUS"] and array.flags["OWNDATA"]
        assert array.dtype == np.float32
        array += 1.0
    assert not np.array_equal(session.state()["conv1.weight"], taken["conv1.weight"])


def test_training_leaves_arrays_taken_from_the_module_alone() -> None:
    session = session_of()
    kernel = session.native.conv1.kernel.get_value()
    before = np.array(kernel)
    session.train(batches_of(plan_of())[:2], RATES[:2])
    assert np.array_equal(kernel, before)
    assert not np.array_equal(session.native.conv1.kernel[...], before)


def test_gradients_activations_and_predict_change_nothing() -> None:
    session = session_of("bottleneck")
    batch = batch_of(plan_of("bottleneck"))
    session.train(batches_of(plan_of("bottleneck"))[:1], RATES[:1])
    state = session.state()
    graphdef, before = nnx.split(session.native)
    session.gradients(batch)
    for train in (False, True):
        list(session.activations(batch, train=train))
    list(session.predict([batch]))
    assert_identical(session.state(), state)
    after = nnx.split(session.native)
    assert after[0] == graphdef
    pairs = zip(jax.tree.leaves(after[1]), jax.tree.leaves(before), strict=True)
    assert all(a is b for a, b in pairs)


def test_load_lists_every_wrong_name_and_changes_nothing() -> None:
    plan = plan_of()
    session = session_of()
    before = session.state()
    wrong = {name: a + 1 for name, a in before.items()}
    wrong["stray"] = wrong.pop("fc.bias")
    wrong["conv1.weight"] = wrong["conv1.weight"][:1]
    del wrong["momentum/fc.weight"]
    with pytest.raises(CheckpointError) as error:
        session.load(wrong)
    assert sorted(error.value.problems) == [
        "conv1.weight = [1, 3, 3, 3]: must have shape [6, 3, 3, 3]",
        "fc.bias: is missing",
        "momentum/fc.weight: is missing",
        "stray: is unexpected",
    ]
    assert_identical(session.state(), before)
    with pytest.raises(CheckpointError, match="is missing"):
        backend.build(plan, {})
