"""What a side computes once, when its session is loaded, and first looks beside the frameworks."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from cases import CASES
from threadpoolctl import threadpool_info, threadpool_limits

from resnet_spec.contract import Array, State
from resnet_spec.parity import blas_threads
from resnet_spec.parity.background_floors import _Worker, look_at_all
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.kink_choices import Choices
from resnet_spec.parity.levels import LEVELS, compute
from resnet_spec.parity.once import once
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge

CASE, RELU = "bottleneck", "layer1.0.act1"
QUICK = ["names", "logits", "activations", "gradients", "update"]


def setup() -> Setup:
    return make_setup(CASES[CASE].plan, make_recipe())


class Counting(Side):
    """A side that counts how often its weights are loaded."""

    loads = 0

    def __init__(self, *fixed: Any) -> None:
        super().__init__(*fixed)
        session: Any = self._session
        load = session.load

        def counted(state: State) -> None:
            self.loads += 1
            load(state)

        session.load = counted


def test_what_changes_nothing_needs_one_load() -> None:
    side = Counting("numpy", setup())
    for level in ("names", "logits", "activations", "gradients"):
        for value in LEVELS[level].values:
            getattr(side, value)
    assert side.loads == 1


@pytest.mark.parametrize("moved", ["stepped", "run", "drift"])
def test_what_has_trained_is_loaded_again(moved: str) -> None:
    side, other = Counting("numpy", setup()), Side("numpy", setup())
    assert np.array_equal(side.logits, other.logits)
    if moved == "drift":
        side.run_from(other.stepped)
    else:
        getattr(side, moved)
    before = side.loads
    assert before > 1
    assert all(np.array_equal(a, other.evaluated[name]) for name, a in side.evaluated.items())
    assert side.loads == before + 1


def test_a_session_that_was_handed_out_is_loaded_again() -> None:
    side, other = Side("numpy", setup()), Side("numpy", setup())
    session = side.session
    session.train(iter(side.setup.batches[:1]), *side.setup.pace(0, 1))
    assert np.array_equal(side.logits, other.logits)


def test_outputs_are_of_the_pass_that_gave_gradients() -> None:
    side, other = Side("numpy", setup()), Side("numpy", setup())
    assert other.outputs is other.activations
    assert side.gradients[0] == other.gradients[0]
    assert "activations" not in side.__dict__
    assert list(side.outputs) == list(side.setup.plan.observed)
    assert all(np.array_equal(a, other.outputs[name]) for name, a in side.outputs.items())


def test_a_side_that_chooses_shares_weights_and_not_results() -> None:
    expected = reference_of(setup())
    other_way = {RELU: expected.activations[RELU] <= 0}
    other = expected.sharing(choices=other_way)
    name = "layer1.0.conv1.weight"
    there, here = other.gradients[1][name], expected.gradients[1][name]
    assert np.abs(there - here).max() > 1e-3 * np.abs(here).max()
    moved = other.stepped[name], expected.stepped[name]
    assert not np.array_equal(*moved)
    assert np.array_equal(expected.evaluated[RELU], reference_of(setup()).evaluated[RELU])
    again = expected.sharing()
    assert np.array_equal(again.gradients[1][name], here)


def test_what_was_computed_to_compare_slopes_is_let_go_of() -> None:
    expected, got = reference_of(setup()), Side("numpy", setup(), "float32")
    floors = Floors(expected, "float32")
    made = {RELU: expected.activations[RELU] <= 0}
    alike = expected.sharing(choices=made)
    floors._alike[got] = alike, Choices(made, 1, 0)
    for level in ("gradients", "update"):
        compare = LEVELS[level].compare
        found = floors.compared(compare, level, got)
        assert not {"_backward", "_first_step"} & alike.__dict__.keys()
        assert found == compare(got, reference_of(setup()).sharing(choices=made))
        assert found != floors.compared(compare, level, Side("numpy", setup(), "float32"))
    assert floors.of("gradients") == Floors(reference_of(setup()), "float32").of("gradients")
    assert not any("_backward" in side.__dict__ for side in floors.sides)


def test_first_looks_beside_the_frameworks_are_those_of_judging() -> None:
    expected = reference_of(setup())
    orders = ("reversed", "natural")
    sides = [Side("numpy", expected.setup, "float32", order=order) for order in orders]
    told: list[str] = []
    looks = look_at_all(sides, Floors(expected, "float32"), QUICK, told.append)
    assert list(looks) == [(side, level) for side in sides for level in QUICK]
    alone = Floors(reference_of(setup()), "float32")
    for side, order in zip(sides, orders, strict=True):
        again = Side("numpy", setup(), "float32", order=order)
        assert [looks[side, level] for level in QUICK] == [judge(x, again, alone) for x in QUICK]
    assert told == [*(f"numpy: {level}" for _ in sides for level in QUICK), "noise floors"]


def test_an_error_of_the_thread_is_raised_and_ends_it() -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError("floors")

    worker = _Worker(lambda: done.append("first"))
    worker.then(fail)
    worker.then(lambda: done.append("after"))
    with pytest.raises(ValueError, match="floors"):
        worker.wait()
    assert done == ["first"]


def test_products_leave_a_processor_and_take_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas_threads, "usable_processors", lambda: 3)
    with threadpool_limits(4, user_api="blas"):
        with blas_threads.one_processor_left():
            assert of_blas() == {2}
        assert of_blas() == {4}
        with threadpool_limits(1, user_api="blas"), blas_threads.one_processor_left():
            assert of_blas() == {1}
    monkeypatch.setattr(blas_threads, "usable_processors", lambda: 1)
    with blas_threads.one_processor_left():
        assert of_blas() == {1}


def of_blas() -> set[int]:
    found: list[dict[str, Any]] = threadpool_info()
    return {library["num_threads"] for library in found if library["user_api"] == "blas"}


class Meeting(Side):
    """A side whose value is ready when that of another one is being computed, too."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__("numpy", setup())
        self._barrier = barrier

    @once
    def logits(self) -> Array:
        self._barrier.wait(timeout=20)
        return super().logits


def test_sides_of_two_threads_do_not_wait_for_each_other() -> None:
    barrier = threading.Barrier(2)
    one, other = Meeting(barrier), Meeting(barrier)
    worker = _Worker(lambda: compute(other, "logits"))
    compute(one, "logits")
    worker.wait()
    assert one.logits is one.logits
    assert np.array_equal(one.logits, other.logits)
    assert isinstance(Side.logits, once)
