"""The noise floor and the choices that rounding decides, on the reference itself."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES

from resnet_spec.parity.background_floors import _Worker
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.kink_margin import _smallest
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import first_look, judge, own_drift

CASE = "bottleneck"
NORM, RELU = "layer1.0.bn1", "layer1.0.act1"


def setup_with_corner(distance: float) -> Setup:
    """Return a setup in which one pre-activation is `distance` from its ReLU's corner.

    Beyond that, setups for different distances differ by as little as the distances do.
    """
    setup = make_setup(CASES[CASE].plan, make_recipe())
    before = reference_of(setup).activations[NORM]
    place = np.unravel_index(np.abs(before).argmin(), before.shape)
    shift = setup.state[f"{NORM}.bias"].astype(np.float64)
    shift[place[1]] += distance - before[place]
    return replace(setup, state={**setup.state, f"{NORM}.bias": shift})


@pytest.fixture(scope="module")
def floors() -> Floors:
    return Floors(reference_of(setup_with_corner(1e-8)), "float32")


def other_side(distance: float) -> Side:
    return Side("numpy", setup_with_corner(distance), "float64")


def test_a_relu_that_flips_within_rounding_is_no_bug(floors: Floors) -> None:
    got = other_side(-1e-8)
    _, choices = floors.alike(got)
    assert (choices.count, choices.far) == (1, 0)
    row = first_look("gradients", got, floors)
    assert not row.is_wrong, row.worst
    assert "1 ReLUs" in row.note
    # Against the reference's own choices, the same gradients are far off.
    found = LEVELS["gradients"].compare(got, floors.expected)
    assert max(d.max_rel for d in found) > 1e3 * row.worst.max_rel


def test_a_relu_that_flips_beyond_rounding_is_one(floors: Floors) -> None:
    got = other_side(-1e-3)
    assert floors.alike(got)[1].far > 0
    assert first_look("gradients", got, floors).verdict == "different"


def test_no_floor_is_below_one_rounding(floors: Floors) -> None:
    for level in ("logits", "activations", "gradients", "statistics", "update"):
        floor = floors.of(level)
        assert floor and min(floor.values()) >= UNIT["float32"]
        assert max(floor.values()) < 1e-4, max(floor, key=floor.__getitem__)


def test_floors_scale_with_the_precision(floors: Floors) -> None:
    fine = Floors(floors.expected, "float64")
    coarse, exact = floors.of("gradients"), fine.of("gradients")
    ratios = [coarse[name] / exact[name] for name in coarse]
    assert 0.1 < np.median(ratios) * UNIT["float64"] / UNIT["float32"] < 10


@pytest.mark.parametrize("order", ["reversed", "sequential"])
def test_another_order_is_rounding_and_not_equal(order: str, floors: Floors) -> None:
    got = Side("numpy", floors.expected.setup, "float32", order=order)
    for level in ("activations", "gradients", "statistics", "update", "trajectory"):
        assert judge(level, got, floors).verdict == "rounding", level


def test_a_run_drifts_from_itself(floors: Floors) -> None:
    drift = own_drift(Side("numpy", floors.expected.setup, "float32"))
    assert drift.keys() == {"loss", "weights", "statistics", "momentum"}
    assert 0 < drift.pop("momentum") < 0.1  # Of gradients, which a step has moved little.
    assert all(0 < value < 1e-3 for value in drift.values())


def test_differences_say_where_and_how() -> None:
    expected = np.array([[1.0, -4.0], [0.0, 2.0]])
    got = expected + np.array([[0.0, 0.0], [0.5, -1.0]])
    found = difference("x", got, expected)
    assert (found.max_abs, found.max_rel, found.index) == (1.0, 0.25, (1, 1))
    assert found.element_rel == np.inf  # An element that should be zero is not.
    cosine = (got * expected).sum() / np.linalg.norm(got) / np.linalg.norm(expected)
    assert found.cosine == pytest.approx(cosine)
    assert difference("x", got[0], expected).max_rel == np.inf
    assert difference("x", got * np.nan, expected).max_rel == np.inf


def test_a_value_of_exactly_zero_is_no_corner() -> None:
    assert _smallest(np.array([0.0, 0.5, 0.25])) == 0.25
    assert _smallest(np.zeros(2)) == np.inf


def test_floors_do_not_outlive_the_program() -> None:
    done = threading.Event()

    def work() -> None:
        done.wait(60)

    worker = _Worker(work)
    assert worker._thread.daemon
    done.set()
    worker.wait()
