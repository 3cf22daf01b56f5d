"""A run handed from one backend to another in the middle, for every ordered pair of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from test_training import Watch, go, make_run

from resnet_spec.contract import State
from resnet_spec.loader import installed_backends
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.weights.checkpoint import load_checkpoint

PAIRS = list(permutations([name for name in installed_backends() if name != "numpy"], 2))
# Each gives once and takes once.
ROUND = (("torch", "flax"), ("flax", "mindspore"), ("mindspore", "torch"))
AT = 5
STEP = ("names", "shapes", "statistics", "update")
"""What the step after the hand-over is compared by; statistics and update include the average."""


@cache
def begun() -> Setup:
    return make_setup(make_run("numpy", Path()).plan, make_recipe(8, ema={"decay": 0.9}))


@cache
def compiled(backend: str) -> Side:
    return Side(backend, begun())


def side_of(backend: str, setup: Setup) -> Side:
    """Return another part of a run in the session that there is: a new one would compile anew."""
    found = Side(backend, setup)
    found.__dict__["_session"] = compiled(backend)._session
    return found


@cache
def handed(giver: str) -> Setup:
    """Return the rest of a run whose first steps `giver` took."""
    setup, session = begun(), compiled(giver).session
    session.train(iter(setup.batches[:AT]), setup.rates[:AT])
    state = session.state()
    assert any(name.startswith("momentum/") for name in state)
    assert any(name.startswith("ema/") for name in state)
    return replace(setup, state=state, batches=setup.batches[AT:], rates=setup.rates[AT:])


@cache
def floors(giver: str) -> Floors:
    return Floors(reference_of(handed(giver)), "float32")


@cache
def taken(giver: str, taker: str) -> Side:
    return side_of(taker, handed(giver))


def wrong(giver: str, side: Side) -> list[str]:
    """Return the levels at which `side`'s next step is not the one that follows."""
    return [level for level in STEP if judge(level, side, floors(giver)).is_wrong]


@pytest.mark.parametrize(
    ("giver", "taker"),
    [
        pytest.param(*pair, marks=() if "torch" in pair or pair in ROUND else pytest.mark.thorough)
        for pair in PAIRS
    ],
)
@pytest.mark.xdist_group("handover")
def test_the_next_step_is_the_one_that_the_first_backend_would_take(giver: str, taker: str) -> None:
    kept, given = taken(giver, taker).state, handed(giver).state
    assert list(kept) == list(given)
    for name, array in given.items():  # Handing over rounds nothing.
        assert array.tobytes() == kept[name].tobytes(), name
    assert wrong(giver, taken(giver, giver)) == []
    assert wrong(giver, taken(giver, taker)) == []
    assert judge("trajectory", taken(giver, taker), floors(giver)).is_wrong is False


@pytest.mark.parametrize(
    ("giver", "taker"),
    [pytest.param(*pair, marks=() if "torch" in pair else pytest.mark.thorough) for pair in PAIRS],
)
@pytest.mark.xdist_group("handover")
def test_the_average_goes_on(giver: str, taker: str) -> None:
    one, other = taken(giver, giver).stepped, taken(giver, taker).stepped
    before = handed(giver).state
    names = [name for name in one if name.startswith("ema/")]
    assert names
    for name in names:
        size = np.abs(one[name]).max() or 1.0
        assert np.abs(one[name] - other[name]).max() <= 1e-5 * size, name
    assert any(not np.array_equal(before[name], other[name]) for name in names)


def _without(prefix: str) -> Callable[[Setup], Setup]:
    def change(setup: Setup) -> Setup:
        kept = {n: array for n, array in setup.state.items() if not n.startswith(prefix)}
        return replace(setup, state=kept)

    return change


def _scaled(prefix: str, factor: float) -> Callable[[Setup], Setup]:
    def change(setup: Setup) -> Setup:
        moved: State = {
            n: a * np.float32(factor) if n.startswith(prefix) else a for n, a in setup.state.items()
        }
        return replace(setup, state=moved)

    return change


def _rate_a_step_late(setup: Setup) -> Setup:
    return replace(setup, rates=np.roll(setup.rates, 1))


def _batch_a_step_late(setup: Setup) -> Setup:
    return replace(setup, batches=(setup.batches[-1], *setup.batches[:-1]))


FAULTS: dict[str, Callable[[Setup], Setup]] = {
    "velocity lost": _without("momentum/"),
    "rate inside the velocity": _scaled("momentum/", 0.003),
    "schedule a step late": _rate_a_step_late,
    "data a step late": _batch_a_step_late,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_hand_over_that_loses_something_is_seen(fault: str) -> None:
    side = Side("numpy", FAULTS[fault](handed("numpy")))
    assert wrong("numpy", side), fault
    assert not wrong("numpy", taken("numpy", "numpy"))


@pytest.mark.parametrize(
    ("giver", "taker"),
    [pytest.param(*pair, marks=() if pair in ROUND else pytest.mark.thorough) for pair in PAIRS],
)
@pytest.mark.xdist_group("training")  # Its sessions are those of test_training.py.
def test_a_run_goes_on_in_another_framework(giver: str, taker: str, tmp_path: Path) -> None:
    whole, parts = make_run(giver, tmp_path / "whole"), make_run(giver, tmp_path / "parts")
    go(whole)
    first = go(parts, Watch(stop_at=6))
    assert not first.complete
    second = go(
        replace(parts, backend=taker), start=load_checkpoint(parts.out / "last.safetensors")
    )
    assert second.complete and second.steps == 12
    summary = json.loads((parts.out / "summary.json").read_text())
    assert summary["legs"] == [
        {"backend": giver, "first_step": 1},
        {"backend": taker, "first_step": first.steps + 1},
    ]
    one, two = (load_checkpoint(r.out / "last.safetensors").state for r in (whole, parts))
    for name, array in one.items():
        # A few times what a change of the first weights by one ulp makes; a lost velocity makes 1.
        assert np.abs(array - two[name]).max() <= 1e-5 * (np.abs(array).max() or 1.0), name


def test_every_level_of_a_step_exists() -> None:
    assert PAIRS and set(STEP) < set(LEVELS)
