"""What a MindSpore session predicts by: folded, compiled once, of the weights as they are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import CASES
from small_plans import SIZE, small_plan

from resnet_spec.contract import Array, Batch
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import worn_state
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

pytest.importorskip("mindspore")
backend: Any = load_backend("mindspore")
ms: Any = importlib.import_module("mindspore")
nn: Any = ms.nn

pytestmark = pytest.mark.xdist_group("mindspore_lean")

Change = Callable[[Any], object]
PLAN = small_plan({})


def batch(n: int = 4, seed: int = 0, size: tuple[int, ...] = (SIZE, SIZE, 3)) -> Batch:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, *size), dtype=np.uint8)
    return Batch(images, random.integers(0, 5, n), np.arange(n))


def made(plan: Plan = PLAN, seed: int = 0) -> Any:
    session = backend.Session(plan, Recipe(steps=1, batch=4))
    session.load(worn_state(plan, seed))
    return session


@cache
def _one() -> Any:
    return made()


def shared() -> Any:
    """Return a session of PLAN whose graphs are compiled once for all tests."""
    session = _one()
    session.load(worn_state(PLAN, 0))
    return session


def predicted(session: Any, given: Batch | None = None) -> Array:
    return next(session.predict([given or batch()]))


def as_it_stands(session: Any, given: Batch | None = None) -> Array:
    """Return what the cell itself predicts."""
    session._lean._is_on = False
    try:
        return predicted(session, given)
    finally:
        session._lean._is_on = True


def is_lean(session: Any) -> bool:
    session._follow()
    return session._lean._of(session.native, session._weights) is not None


def close(got: Array, expected: Array) -> bool:
    return bool(np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max())


QUICK = ("tiered_stem_squeeze",)
"""Of the cases; these and more are compared with the reference in test_logits.py."""


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in CASES],
)
def test_it_computes_what_the_cell_does(name: str) -> None:
    plan = CASES[name].plan
    session = made(plan)
    image = plan.input
    given = batch(size=(image.height, image.width, image.channels))
    assert close(predicted(session, given), as_it_stands(session, given))
    assert is_lean(session)


def test_a_norm_follows_no_convolution() -> None:
    session = shared()
    predicted(session)
    kinds = {type(part).__name__ for _, part in session._lean._cell.cells_and_names()}
    assert "Conv2d" in kinds and not [kind for kind in kinds if "BatchNorm" in kind]


# --- Of the weights as they are -------------------------------------------------------------------


def test_it_is_compiled_once_whatever_the_weights() -> None:
    """As in a run that evaluates after every epoch."""
    session = shared()
    before = predicted(session)
    cell = session._lean._cell
    for seed in range(3):
        session.train([batch(seed=seed)], np.array([0.1]))
        changes = session._lean.changes
        first, second = session.predict([batch(), batch(3)])
        assert session._lean.changes == changes + 1
        assert not np.array_equal(first, before) and len(second) == 3
        assert np.array_equal(predicted(session), first)  # And nothing is folded anew.
        assert session._lean.changes == changes + 1
        before = first
    assert session._lean._cell is cell and len(cell.compile_cache) == 1


def test_it_is_not_compiled_as_it_stands() -> None:
    session = made()
    predicted(session)
    assert len(session._logits.compile_cache) == 0


def _one_bit(session: Any) -> None:
    bits = session.native.fc.bias.asnumpy().view(np.int32).copy()
    bits[0] ^= 1 << 20
    ms.ops.assign(session.native.fc.bias, ms.Tensor(bits.view(np.float32)))


def _in_shared_memory(session: Any) -> None:
    session.native.conv1.weight.asnumpy()[:] *= 1.5


CHANGES: dict[str, Change] = {
    "train": lambda it: it.train([batch()], np.array([0.1])),
    "load": lambda it: it.load(worn_state(PLAN, 7)),
    "assign": lambda it: ms.ops.assign(it.native.conv1.weight, it.native.conv1.weight * 1.5),
    "data": lambda it: it.native.conv1.weight.set_data(ms.Tensor(np.ones((8, 3, 3, 3), "f4"))),
    "one bit": _one_bit,
    "shared memory": _in_shared_memory,
    "a statistic": lambda it: ms.ops.assign(
        it.native.bn1.moving_variance, it.native.bn1.moving_variance * 2.0
    ),
    "another parameter": lambda it: setattr(
        it.native.conv1, "weight", ms.Parameter(ms.Tensor(np.ones((8, 3, 3, 3), "f4")))
    ),
}


@cache
def _another() -> Any:
    return backend.Session(PLAN)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_weights_is_seen(change: str) -> None:
    session = made() if change == "another parameter" else shared()
    before = predicted(session)
    CHANGES[change](session)
    got = predicted(session)
    assert not np.array_equal(got, before) and is_lean(session)
    other = _another()  # The same weights are the same bits whatever led there.
    other.load({name: session.state()[name] for name in worn_state(PLAN, 0)})
    assert np.array_equal(predicted(other), got)
    assert close(got, as_it_stands(session))


@pytest.mark.parametrize("change", ["train", "load"])
def test_a_change_between_two_batches_is_seen(change: str) -> None:
    session = shared()
    under_way = session.predict([batch()] * 4)
    first = next(under_way)
    CHANGES[change](session)
    second, third, fourth = under_way
    assert np.array_equal(first, second)  # It was under way.
    assert not np.array_equal(second, third)
    assert np.array_equal(third, fourth) and np.array_equal(third, predicted(session))


def test_two_predictions_at_once_do_not_mix() -> None:
    session = shared()
    one, two = session.predict([batch()] * 4), session.predict([batch()] * 2)
    first = next(one)
    ms.ops.assign(session.native.conv1.weight, session.native.conv1.weight * 1.5)
    other = next(two)
    assert not np.array_equal(first, other)
    _, third, _ = one
    assert np.array_equal(third, other)


class Doubled(nn.ReLU):
    def construct(self, x: Any) -> Any:
        return super().construct(x) * 2.0


def _batch_statistics(session: Any) -> None:
    session.native.bn1.use_batch_statistics = True


SURGERY: dict[str, Change] = {
    "replaced": lambda it: setattr(it.native, "act1", Doubled()),
    "class": lambda it: setattr(it.native.act1, "__class__", Doubled),
    "deleted": lambda it: delattr(it.native.layer1[0], "act1"),
    "operator": lambda it: setattr(it.native.act1, "relu", ms.ops.Sigmoid()),
    "flag": _batch_statistics,
}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            it, marks=pytest.mark.thorough if it in ("class", "deleted", "operator") else ()
        )
        for it in SURGERY
    ],
)
def test_a_cell_that_was_changed_predicts_as_it_stands(change: str) -> None:
    before = predicted(shared())
    session = made()
    assert is_lean(session)
    SURGERY[change](session)
    assert not is_lean(session)
    got = predicted(session)
    assert not close(got, before)
    assert np.array_equal(got, as_it_stands(session))


SETTINGS: dict[str, Change] = {
    "hook": lambda it: it.native.layer1[0].register_forward_hook(lambda c, i, y: 2.0 * y),
    "hook before": lambda it: it.native.fc.register_forward_pre_hook(lambda c, i: i),
    "method": lambda it: setattr(it.native.act1, "construct", lambda x: x),
    "type": lambda it: it.native.to_float(ms.float16),
    "number": lambda it: setattr(it.native.bn1, "eps", 0.5),
}


@pytest.mark.parametrize("change", SETTINGS)
def test_what_may_matter_is_left_to_the_cell(change: str) -> None:
    session = made()
    assert is_lean(session)
    SETTINGS[change](session)
    assert not is_lean(session)


def test_what_the_session_does_itself_is_no_change_of_the_cell() -> None:
    session = shared()
    list(session.activations(batch()))
    list(session.node_gradients(batch()))
    session.gradients(batch())
    session.train([batch()], np.array([0.1]))
    session.native.set_train(True)
    session.native.set_grad(True)
    assert is_lean(session)
    session.native.set_train(False)
    session.native.set_grad(False)


def test_other_precisions_predict_as_they_stand() -> None:
    session = backend.Session(PLAN, precision="float16")
    assert not is_lean(session)


# --- Nothing hidden that was not ------------------------------------------------------------------


def test_the_relu_hides_nan_with_or_without_norms() -> None:
    """MindSpore's own, on a CPU and in both modes: so that folding hides no more."""
    for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE):
        ms.set_context(mode=mode)
        try:
            got = nn.ReLU()(ms.Tensor(np.full(32, np.nan, np.float32))).asnumpy()
        finally:
            ms.set_context(mode=ms.PYNATIVE_MODE)
        assert not got.any() and not np.isnan(got).any()


@pytest.mark.parametrize("place", ["conv1.weight", "layer1.1.bn1.bias", "layer2.0.bn2.running_var"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_weights_that_are_not_finite_are_left_to_the_cell(place: str, value: float) -> None:
    state = worn_state(PLAN, 0)
    state[place].flat[0] = value
    session = shared()
    session.load(state)
    assert not is_lean(session)
    assert np.array_equal(predicted(session), as_it_stands(session), equal_nan=True)
    session.load(worn_state(PLAN, 0))
    assert is_lean(session)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 3e38])
def test_images_that_are_not_finite_are_not_hidden(value: float) -> None:
    session = shared()
    images = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)
    images[1, 3, 3, 0] = value
    given = Batch(images, np.zeros(4, np.int64), np.arange(4))
    got = predicted(session, given)
    assert np.allclose(got, as_it_stands(session, given), 1e-4, atol=1e-5, equal_nan=True)


def test_huge_logits_are_the_cells_own() -> None:
    state = worn_state(PLAN, 0)
    state["fc.weight"] *= np.float32(1e22)
    session = shared()
    session.load(state)
    assert is_lean(session)
    assert np.array_equal(predicted(session), as_it_stands(session))
