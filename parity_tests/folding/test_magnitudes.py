"""Bounds of what a network computes: held against what the reference computes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Batch, State
from resnet_spec.folding import Bound, Segment, fold_norms, magnitudes, segments
from resnet_spec.loader import load_backend
from resnet_spec.ops import BaseOp
from resnet_spec.parity.setup import worn_state
from resnet_spec.plan import Plan, walk


def observed(plan: Plan, state: State, images: np.ndarray) -> dict[str, np.ndarray]:
    session = load_backend("numpy").Session(plan, precision="float64")
    session.load(state)
    n = len(images)
    return dict(session.activations(Batch(images, np.zeros(n, np.int64), np.arange(n))))


def leaves(segment: Segment) -> list[str]:
    return [op.name for node in segment.nodes for op in walk(node) if isinstance(op, BaseOp)]


@pytest.mark.parametrize("gain", [1.0, 1e24])
@pytest.mark.parametrize("name", CASES)
def test_no_value_exceeds_its_bound(
    name: str, gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(magnitudes, "_GAIN", gain)
    plan = CASES[name].plan
    folded = fold_norms(plan, worn_state(plan, 0))
    size = plan.input.height, plan.input.width, plan.input.channels
    images = np.random.default_rng(0).normal(size=(4, *size)) * 3
    values = observed(folded.plan, folded.state, images)
    found = segments(folded.plan, folded.state)
    assert [name for it in found for name in leaves(it)] == [op.name for op in folded.plan.ops]
    assert len(found) > 2 if gain == 1 else len(found) <= 3
    entering = np.abs(images).max()
    for segment in found:
        names = leaves(segment)
        largest = max(np.abs(values[name]).max() for name in names)
        bound = segment.peak.gain * entering + segment.peak.offset
        assert largest <= bound < 1e30
        entering = np.abs(values[names[-1]]).max()


def test_a_bound_is_the_largest_sum() -> None:
    plan = CASES["plain"].plan
    folded = fold_norms(plan, worn_state(plan, 0))
    stem = folded.plan.ops[0]
    weight = folded.state[stem.tensors[0].name].astype(np.float64)
    bias = folded.state[stem.tensors[1].name]
    node = folded.plan.root.children[0]
    found = magnitudes._bounds(node, Bound(1.0), folded.state)[0]
    assert found.gain == np.abs(weight).sum(axis=(1, 2, 3)).max()
    assert found.offset == np.abs(bias).max()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_weights_that_are_not_finite_allow_nothing(value: float) -> None:
    plan = CASES["bottleneck"].plan
    for tensor in plan.tensors:
        state = worn_state(plan, 0)
        state[tensor.name].flat[0] = value
        peaks = [it.peak for it in segments(plan, state)]
        harmless = tensor.role == "running_var" and value > 0  # It makes values small.
        assert harmless or not all(peak.allows(1e3) for peak in peaks), tensor.name


def test_what_is_not_a_number_is_never_allowed() -> None:
    assert Bound(2.0, 1.0).allows(1e36)
    assert not Bound(2.0, 1.0).allows(1e37)
    assert not Bound(2.0).allows(math.nan) and not Bound(0.0, math.nan).allows(1.0)
    assert (Bound(1.0) | Bound(math.nan)) == (Bound(math.nan) | Bound(1.0)) == Bound(math.inf)
    assert Bound(math.inf).then(0.0) == Bound(math.inf, 0.0)


def test_an_op_of_another_class_allows_nothing() -> None:
    @dataclass(frozen=True, slots=True)
    class Cube(BaseOp):
        """x ** 3."""

    plan = CASES["plain"].plan
    cube = Cube("cube", plan.ops[0].in_shape, plan.ops[0].in_shape)
    root = replace(plan.root, children=(cube, *plan.root.children))  # pyright: ignore
    found = segments(Plan(plan.name, plan.input, plan.classes, root), worn_state(plan, 0))
    assert not all(segment.peak.allows(1.0) for segment in found)
