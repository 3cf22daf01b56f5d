"""Blocks computed again in the backward pass by MindSpore, held to the bits of those that are not.

The resident memory that it saves is told in `recomputed`'s docstring: a small network saves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from mindspore_networks import (
    RATES,
    backend,
    batches,
    make_batch,
    make_plan,
    make_recipe,
    same_bits,
    session,
)

from resnet_spec.contract import State
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.rematerialisation import rematerialised
from resnet_spec.recipe import Recipe

pytestmark = pytest.mark.xdist_group("mindspore_networks")

STEPS = 3
NAMES = "v2", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("same", "zero_pad"))
"""Noise; gates and an average; accumulation, and norms that MindSpore's kernels do not have."""


def recipe_of(name: str, remat: str) -> Recipe:
    return Recipe.model_validate({**make_recipe(name).model_dump(), "remat": remat})


def made(name: str, remat: str) -> Any:
    recipe = recipe_of(name, remat)
    return backend.Session(rematerialised(make_plan(name), recipe), recipe)


def trained(one: Any, name: str) -> State:
    one.load(initial_state(make_plan(name), 3))
    log = one.train(iter(batches(make_plan(name))[:STEPS]), RATES[:STEPS])
    return {**one.state(), "loss": log.loss, "correct": log.correct}


@pytest.fixture(scope="module", params=NAMES)
def both(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any, Any]]:
    name = request.param
    yield name, made(name, "all"), session(name)


def test_training_has_the_bits_that_it_has_without(both: tuple[str, Any, Any]) -> None:
    name, again, usual = both
    assert again._plan.remat == tuple(block.name for block in again._plan.blocks)
    found, expected = trained(again, name), trained(usual, name)
    # MindSpore's logarithm rounds by how its threads share out the images, which it tries out.
    loss, expected_loss = found.pop("loss"), expected.pop("loss")
    np.testing.assert_array_max_ulp(loss.astype(np.float32), expected_loss.astype(np.float32), 4)
    assert same_bits(found, expected)


@pytest.mark.thorough
def test_gradients_do_too_and_leave_the_session_as_it_was(both: tuple[str, Any, Any]) -> None:
    name, again, usual = both
    batch = make_batch(make_plan(name), 7)
    for one in (again, usual):
        one.load(initial_state(make_plan(name), 3))
    before = again.state()
    (loss, gradients), (expected_loss, expected) = again.gradients(batch), usual.gradients(batch)
    assert loss == expected_loss and same_bits(gradients, expected)
    assert same_bits(again.state(), before)


def test_gradients_by_outputs_are_those_without(both: tuple[str, Any, Any]) -> None:
    """Op by op nothing runs twice: what the session adds to outputs inside would be lost."""
    name, again, usual = both
    batch = make_batch(make_plan(name), 7)
    for one in (again, usual):
        one.load(initial_state(make_plan(name), 3))
    assert same_bits(dict(again.node_gradients(batch)), dict(usual.node_gradients(batch)))


@pytest.mark.thorough
def test_a_norm_that_runs_twice_would_be_seen() -> None:
    """Which also shows that blocks are computed again."""
    with patch("resnet_spec_mindspore.recomputed._keep"):
        again = made("same", "all")
    found, expected = (trained(one, "same") for one in (again, session("same")))
    differing = {name for name in found if found[name].tobytes() != expected[name].tobytes()}
    inside = {t.name for t in make_plan("same").tensors if t.is_statistic and "layer" in t.name}
    assert {name for name in differing if not name.startswith("ema/")} == inside
