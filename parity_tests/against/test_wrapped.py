"""Our own native modules, wrapped as if they were a stranger's, do what their sessions do."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Array, Precision
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.setup import Setup, make_recipe, make_setup, worn_state
from resnet_spec.parity.wrapping import wrap

pytestmark = pytest.mark.xdist_group("wrapped")

BACKENDS = [name for name in ("torch", "flax", "mindspore") if name in installed_backends()]
# MindSpore has no float64. A rounding difference is far below, a wrong layout or pad far above.
PRECISION: dict[str, Precision] = {"torch": "float64", "flax": "float64", "mindspore": "float32"}
TOLERANCE = {"float64": 1e-11, "float32": 2e-5}
ALL = ["names", "shapes", "counts", "logits", "accuracy", "activations", "train_logits"]
ALL += ["gradients", "statistics"]


class Both:
    """A session, and the wrapped native module with the same weights."""

    def __init__(self, case: str, backend: str) -> None:
        self.precision = PRECISION[backend]
        self.setup = setup_of(case)
        plan, recipe = self.setup.plan, self.setup.recipe
        self.session: Any = load_backend(backend).Session(plan, recipe, precision=self.precision)
        self.native: Any = load_backend(backend).build(plan, self.setup.state)
        self.own: Any = wrap(self.native, plan, recipe=recipe, precision=self.precision)
        self.batch = self.setup.batches[0]

    def assert_close(self, name: str, got: Array, expected: Array) -> None:
        assert got.shape == expected.shape, name
        assert got.dtype == expected.dtype, name
        error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-3)
        assert error < TOLERANCE[self.precision], (name, error)

    def assert_all_close(self, got: Any, expected: Any) -> None:
        got, expected = dict(got), dict(expected)
        assert list(got) == list(expected)
        assert got
        for name in got:
            self.assert_close(name, got[name], expected[name])


@cache
def setup_of(case: str) -> Setup:
    return make_setup(CASES[case].plan, make_recipe(1, 4))


@cache
def both(case: str, backend: str) -> Both:
    return Both(case, backend)


@pytest.fixture(
    params=[
        pytest.param((case, backend), marks=marks, id=f"{case}-{backend}")
        for case, marks in (("bottleneck", ()), ("pre_activation_bottleneck", pytest.mark.thorough))
        for backend in BACKENDS
    ],
)
def two(request: pytest.FixtureRequest) -> Both:
    case, backend = request.param
    found = both(case, backend)
    found.session.load(found.setup.state)
    return found


def test_state_is_lifted_to_the_canonical_names_and_layouts(two: Both) -> None:
    assert list(two.own.state()) == [tensor.name for tensor in two.setup.plan.tensors]
    for name, array in two.own.state().items():
        assert np.array_equal(array, two.setup.state[name]), name
        assert array.flags.c_contiguous


def test_logits(two: Both) -> None:
    (got,), (expected,) = (list(s.predict([two.batch])) for s in (two.own, two.session))
    two.assert_close("logits", got, expected)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_every_node_shows(two: Both, train: bool) -> None:
    got, expected = (s.activations(two.batch, train=train) for s in (two.own, two.session))
    two.assert_all_close(got, expected)


def test_gradients(two: Both) -> None:
    (loss, got), (wanted, expected) = (s.gradients(two.batch) for s in (two.own, two.session))
    two.assert_close("loss", np.array(loss), np.array(wanted))
    two.assert_all_close(got, expected)


def test_node_gradients(two: Both) -> None:
    got, expected = (s.node_gradients(two.batch) for s in (two.own, two.session))
    two.assert_all_close(got, expected)


def test_statistics_are_those_of_one_step(two: Both) -> None:
    got = two.own.statistics(two.batch)
    two.session.train(iter([two.batch]), np.zeros(1))
    names = [tensor.name for tensor in two.setup.plan.tensors if tensor.is_statistic]
    after = two.session.state()
    two.assert_all_close({n: got[n] for n in names}, {n: after[n] for n in names})
    assert any(not np.array_equal(got[n], two.setup.state[n]) for n in names)


def test_every_pass_leaves_the_model_as_it_was(two: Both) -> None:
    before = two.own.state()
    two.own.gradients(two.batch)
    two.own.statistics(two.batch)
    list(two.own.activations(two.batch, train=True))
    list(two.own.node_gradients(two.batch))
    list(two.own.predict([two.batch]))
    after = two.own.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_all_levels_without_an_optimiser_are_offered(two: Both) -> None:
    assert two.own.levels == set(ALL)
    with pytest.raises(BackendError, match="a bare model has no optimiser"):
        two.own.train([two.batch], np.zeros(1))
    assert two.own.info["precision"] == two.precision


@pytest.mark.parametrize("backend", BACKENDS)
def test_load_gives_the_model_other_weights(backend: str) -> None:
    plan = CASES["bottleneck"].plan
    native = load_backend(backend).build(plan, worn_state(plan, 0))
    own: Any = wrap(native, plan)
    other = worn_state(plan, 1)
    own.load(other)
    # Read again through another eye: the native module itself was changed.
    state = wrap(native, plan).state()
    assert all(np.array_equal(state[name], other[name]) for name in other)
    short = {name: array for name, array in other.items() if name != "fc.bias"}
    with pytest.raises(CheckpointError, match=r"fc\.bias: is missing"):
        own.load({**short, "fc.extra": other["fc.bias"]})


def test_training_levels_are_left_out_where_the_plan_has_noise() -> None:
    plan = CASES["noise"].plan
    native = load_backend("torch").build(plan, worn_state(plan, 0))
    assert "logits" in wrap(native, plan).levels
    assert not wrap(native, plan).levels & {"gradients", "statistics", "train_logits"}


def test_all_frameworks_were_looked_at() -> None:
    assert BACKENDS
