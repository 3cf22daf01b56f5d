"""Every optimiser in every backend: the row's equation, in runs with all that can meet there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from backend_modules import module_of
from cases import CASES
from exact_runs import EXACT, changed_by_going_on, far, in_float64

from resnet_spec.contract import Array, State
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.optimizers import OPTIMIZERS, slots_of
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.levels import slot_differences
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.planning.fine_tuning import fine_tuned

CASE = CASES["plain"]
FRAMEWORKS = [name for name in installed_backends() if name in ("torch", "flax", "mindspore")]
STEPS = 3

pytestmark = pytest.mark.xdist_group("optimizers_everywhere")

# torch compiles nothing; of the others one kind is quick, which has most parts.
PAIRS = [
    pytest.param(
        backend,
        kind,
        marks=() if backend == "torch" or kind == "lamb" else pytest.mark.thorough,
    )
    for backend in FRAMEWORKS
    for kind in OPTIMIZERS
    if kind != "sgd"  # Which is compared in every case of the matrix.
]


@cache
def setup(kind: str) -> Setup:
    """Return a run with all that meets in a step: parts, mixed images and a loss of targets,
    clipping, an average that varies, rates by layer, what is frozen.
    """
    settings = {"kind": kind, "weight_decay": 0.02, "decay_norms": False, "clip_norm": 0.5}
    more: dict[str, Any] = {
        "accumulate": 2,
        "augment": {"mixup": 0.8},
        "loss": {"kind": "binary_cross_entropy"},
        "ema": {"decay": 0.9, "warmup": "count"},
        "head_rate": 2.0,
        "layer_decay": 0.9,
        "freeze": "stem",
    }
    recipe = make_recipe(STEPS, optimizer=settings, **more)
    return make_setup(fine_tuned(CASE.plan, recipe), recipe)


@cache
def side(backend: str, kind: str, precision: Any = "float32") -> Side:
    return Side(backend, setup(kind), precision)


def from_state(backend: str, kind: str, state: State, done: int) -> Side:
    """Return the rest of a run, in the session that there is: another would compile anew."""
    found = Side(backend, rest_of(setup(kind), state, done))
    found.__dict__["_session"] = side(backend, kind)._session
    return found


@pytest.mark.parametrize(("backend", "kind"), PAIRS)
def test_a_run_is_that_of_the_equation(backend: str, kind: str) -> None:
    expected = Floors(reference_of(setup(kind)), "float32")
    got = side(backend, kind)
    for level in ("names", "update", "trajectory"):
        row = judge(level, got, expected)
        assert not row.is_wrong, (level, row.worst)
    ends = {item.name for item in judge("trajectory", got, expected).items}
    assert ends == {"loss", "weights", "statistics", "ema", *_families(kind)}


@pytest.mark.parametrize(("backend", "kind"), in_float64(PAIRS))
def test_in_float64_it_is_so_to_the_last_digits(backend: str, kind: str) -> None:
    found, expected = (side(name, kind, "float64").run for name in (backend, "numpy"))
    assert np.abs(found[0] - expected[0]).max() <= EXACT
    assert far(found[1], expected[1]) == {}
    kept = {n.partition("/")[2] for n in found[1] if n.partition("/")[0] in _families(kind)}
    frozen = {t.name for t in setup(kind).plan.tensors if t.frozen}
    assert kept and frozen and not kept & frozen


@pytest.mark.parametrize(("backend", "kind"), PAIRS)
def test_a_run_goes_on_from_its_state_to_the_bit(backend: str, kind: str) -> None:
    assert changed_by_going_on(side(backend, kind).session, setup(kind)) == []


HANDED = [
    pytest.param(
        giver,
        *pair.values,
        marks=pair.marks if "lamb" in pair.values or giver == "numpy" else pytest.mark.thorough,
    )
    for pair in PAIRS
    for giver in ("numpy", *FRAMEWORKS)
    if giver != pair.values[0]
]


@pytest.mark.parametrize(("giver", "taker", "kind"), HANDED)
def test_a_run_is_handed_over_with_all_that_it_keeps(giver: str, taker: str, kind: str) -> None:
    """The taker's last step is the one that the reference takes from what it was given."""
    state, floors = given(giver, kind)
    taken = from_state(taker, kind, state, 2)
    assert [n for n, a in state.items() if taken.state[n].tobytes() != a.tobytes()] == []
    for level in ("update", "trajectory"):
        row = judge(level, taken, floors)
        assert not row.is_wrong, (level, row.worst)


@cache
def given(giver: str, kind: str) -> tuple[State, Floors]:
    """Return what a run has come to after two steps, and what the reference makes of it."""
    whole = setup(kind)
    session = side(giver, kind).session
    session.train(iter(whole.batches[:2]), *whole.pace(0, 2))
    state = session.state()
    return state, Floors(reference_of(rest_of(whole, state, 2)), "float32")


def rest_of(whole: Setup, state: State, done: int) -> Setup:
    assert whole.keeps is not None
    numbers = {"rates": whole.rates[done:], "keeps": whole.keeps[done:]}
    return replace(whole, state=state, batches=whole.batches[done:], **numbers)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        pytest.param(*p.values, marks=() if p.values[0] == "torch" else pytest.mark.thorough)
        for p in PAIRS
    ],
)
def test_a_step_that_overflows_moves_nothing(backend: str, kind: str) -> None:
    whole = setup(kind)
    session = load_backend(backend).Session(whole.plan, whole.recipe, precision="float16")
    session.load(whole.state)
    session.train(iter(whole.batches[:1]), *whole.pace(0, 1))
    before = session.state()
    session.load({**before, "loss_scale/scale": np.array(2.0**60, np.float32)})
    session.train(iter(whole.batches[1:2]), *whole.pace(1, 2))
    after = session.state()
    assert after["loss_scale/scale"] == 2.0**59
    kept = [*whole.plan.trainable, *(n for n in after if n.partition("/")[0] in _families(kind))]
    assert [n for n in kept if after[n].tobytes() != before[n].tobytes()] == []


def _families(kind: str) -> set[str]:
    return {slot.family for slot in slots_of(setup(kind).recipe.optimizer)}


def test_every_backend_has_every_optimiser() -> None:
    assert FRAMEWORKS
    for name in FRAMEWORKS:
        assert set(module_of(name, "optimizers").OPTIMIZERS) == set(OPTIMIZERS)


def test_slots_that_are_apart_at_the_end_of_a_run_are_found() -> None:
    end: dict[str, Array] = {"fc.bias": np.ones(3), "mean/fc.bias": np.ones(3)}
    other = {**end, "mean/fc.bias": np.full(3, 1.5)}
    (found,) = slot_differences(other, end)
    assert (found.name, found.max_rel) == ("mean", 0.5)
