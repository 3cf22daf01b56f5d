"""The moving average where steps differ in what they keep of it, in every backend."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import CASES
from exact_runs import changed_by_going_on, far
from pairs import SLOW

from resnet_spec.contract import State
from resnet_spec.errors import BackendError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.running.opening import check_trains

CASE = CASES["plain"]
FRAMEWORKS = [name for name in installed_backends() if name in ("torch", "flax", "mindspore")]
EVERYWHERE = [*FRAMEWORKS, "numpy"]
STEPS = 7
VARYING = {"decay": 0.9, "warmup": "power", "start": 1.0, "every": 2}

pytestmark = pytest.mark.xdist_group("averages")


@cache
def setup(parts: int = 1) -> Setup:
    """Return a run that moves its average at every second step, which it first copies."""
    made = make_setup(CASE.plan, make_recipe(STEPS, accumulate=parts, ema=VARYING))
    assert made.keeps is not None
    assert made.keeps.tolist()[:4] == [0.0, 1.0, 0.0, 1.0]
    assert 0.0 < made.keeps[4] < made.keeps[6] < 0.9
    return made


@cache
def side(backend: str, parts: int = 1, precision: Any = "float32") -> Side:
    return Side(backend, setup(parts), precision)


@cache
def expected(parts: int = 1) -> Floors:
    return Floors(reference_of(setup(parts)), "float32")


def averages(state: State) -> State:
    return {name: array for name, array in state.items() if name.startswith("ema/")}


def _cells() -> list[Any]:
    """Return backends and parts of a step; what compiles has two in optimizers/test_everywhere."""
    repeated = pytest.mark.thorough
    return [
        pytest.param(backend, parts, marks=repeated if parts > 1 and backend in SLOW else ())
        for backend in FRAMEWORKS
        for parts in (1, 2)
    ]


@pytest.mark.parametrize(("backend", "parts"), _cells())
def test_an_average_is_that_of_the_reference(backend: str, parts: int) -> None:
    row = judge("trajectory", side(backend, parts), expected(parts))
    assert not row.is_wrong, row.worst
    assert "ema" in {item.name for item in row.items}


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=pytest.mark.thorough if name in SLOW else ())
        for name in FRAMEWORKS
        if name != "mindspore"
    ],
)
def test_in_float64_it_is_so_to_the_last_digits(backend: str) -> None:
    ends = [side(name, precision="float64").run[1] for name in (backend, "numpy")]
    assert averages(ends[0])
    assert not far(averages(ends[0]), averages(ends[1]))


def late(made: Setup) -> Setup:
    """The numbers of the step before."""
    assert made.keeps is not None
    return replace(made, keeps=np.roll(made.keeps, 1))


def constant(made: Setup) -> Setup:
    """The decay at every step, as where the warm-up is forgotten."""
    assert made.keeps is not None
    return replace(made, keeps=np.full(STEPS, made.recipe.ema.decay))


@pytest.mark.parametrize("fault", [late, constant], ids=["late", "constant"])
def test_another_step_s_number_is_found(fault: Any) -> None:
    row = judge("trajectory", Side("torch", fault(setup())), expected())
    assert row.is_wrong
    assert row.worst is not None
    assert row.worst.name == "ema"


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_an_average_rests_bit_by_bit_and_is_copied_so(backend: str) -> None:
    session, made = side(backend).session, setup()
    session.train(iter(made.batches[:1]), *made.pace(0, 1))
    first = session.state()
    copied = averages(first)
    assert all(np.array_equal(first[n.removeprefix("ema/")], a) for n, a in copied.items())
    session.train(iter(made.batches[1:2]), *made.pace(1, 2))
    second = session.state()
    assert all(np.array_equal(second[name], array) for name, array in copied.items())
    assert not np.array_equal(second["fc.weight"], first["fc.weight"])


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_going_on_changes_nothing(backend: str) -> None:
    assert not changed_by_going_on(side(backend).session, setup())


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_without_numbers_every_step_keeps_the_decay(backend: str) -> None:
    session, made = side(backend).session, setup()
    session.train(iter(made.batches[:2]), made.rates[:2])
    plain = make_setup(CASE.plan, make_recipe(STEPS, ema={"decay": 0.9}))
    other = Side("numpy", plain, "float64").session
    other.train(iter(plain.batches[:2]), *plain.pace(0, 2))
    found, wanted = averages(session.state()), averages(other.state())
    for name, array in wanted.items():
        assert np.abs(found[name] - array).max() <= 1e-5 * np.abs(array).max()


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_numbers_that_do_not_fit_are_refused(backend: str) -> None:
    session, made = side(backend).session, setup()
    with pytest.raises(BackendError, match="keeps = 2: must be as many as the rates, 1"):
        session.train(iter(made.batches[:1]), made.rates[:1], np.ones(2))
    if backend == "numpy":
        recipe = make_recipe(1, ema={"decay": 0.9})
        plain = load_backend(backend).Session(CASE.plan, recipe)
        with pytest.raises(BackendError, match="keeps: are given, and the recipe's average keeps"):
            plain.train(iter(made.batches[:1]), made.rates[:1], np.ones(1))


def test_a_backend_that_does_not_know_of_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_spec.running import opening

    found = opening.manifest_of("numpy")
    assert found is not None
    monkeypatch.setattr(opening, "manifest_of", lambda name: replace(found, keeps=False))
    line = r"ema\.warmup = power: numpy keeps the same of an average at every step"
    with pytest.raises(BackendError, match=line):
        check_trains("numpy", setup().recipe, CASE.plan.classes)
    check_trains("numpy", make_recipe(1, ema={"decay": 0.9}), CASE.plan.classes)
