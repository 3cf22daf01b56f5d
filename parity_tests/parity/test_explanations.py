"""Explanations that no planted fault needs, each given what it explains by itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec import ops
from resnet_spec.contract import Array
from resnet_spec.parity.floors import UNIT
from resnet_spec.parity.localise import update
from resnet_spec.parity.localise.causes import _of_noise
from resnet_spec.parity.localise.evidence import Hypothesis, Work, explain
from resnet_spec.parity.localise.norms import of_norm
from resnet_spec.parity.localise.rules import Move, Rule
from resnet_spec.parity.localise.slopes import Sent, hypotheses
from resnet_spec.parity.localise.windows import pads
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.planning.dataflow import Step, steps

IMAGES = 3


@cache
def setup_of(case: str) -> Setup:
    return make_setup(CASES[case].plan, make_recipe(1, IMAGES))


def step_of(case: str, kind: type[ops.Op], /, **fields: Any) -> Step:
    """Return the first step of the case with such an op."""
    for step in steps(setup_of(case).plan):
        op: Any = step.node
        if isinstance(op, kind) and all(getattr(op, n) == v for n, v in fields.items()):
            return step
    raise AssertionError(f"{case}: has no such {kind.__name__}")


def work_of(case: str, precision: Any = "float64") -> Work:
    setup = setup_of(case)
    return Work(precision, setup.state, setup.state, True, setup.batches[0].noise)


def drawn(shape: Iterable[int]) -> Array:
    return np.random.default_rng(1).standard_normal((IMAGES, *shape))


def said(got: Array, expected: Array, tried: Iterable[Hypothesis]) -> str:
    found = explain(got, expected, UNIT["float64"], 8.0, tried)
    return "" if found is None else found.detail


def test_a_norm_by_the_unbiased_variance() -> None:
    work, step = work_of("bottleneck"), step_of("bottleneck", ops.Norm)
    op: Any = step.node
    x = drawn((op.in_shape[0], 2, 2)) * np.geomspace(0.1, 10.0, op.in_shape[0])[:, None, None]
    scale, shift = (work.state[tensor.name] for tensor in (op.scale, op.shift))
    pixels = x.transpose(1, 0, 2, 3).reshape(op.in_shape[0], -1)
    mean, deviation = pixels.mean(1), np.sqrt(pixels.var(1, ddof=1) + op.eps)
    rows = (pixels - mean[:, None]) / deviation[:, None] * scale[:, None] + shift[:, None]
    got = rows.reshape(-1, IMAGES, 2, 2).transpose(1, 0, 2, 3)
    expected = work.output(step, (x,))
    text = "normalised with the variance over n-1, not n"
    assert said(got, expected, of_norm(work, op, x, got)) == text


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (1.0, "what is kept is not divided by 1 - rate"),
        (0.0, "nothing is dropped"),
    ],
)
def test_noise_that_is_scaled_otherwise(factor: float, text: str) -> None:
    work, step = work_of("noise"), step_of("noise", ops.DropPath)
    op: Any = step.node
    x = drawn(op.in_shape)
    noise = np.array([[[[0.0]]], [[[1.0]]], [[[1.0]]]])
    work = Work("float64", work.state, work.own, True, {op.name: noise[:, 0, 0, 0] / 0.9})
    expected = work.output(step, (x,))
    got = x * noise if factor else x
    assert said(got, expected, _of_noise(op, x, work)) == text


def test_a_convolution_that_sends_back_by_another_kernel() -> None:
    work, step = work_of("bottleneck"), step_of("bottleneck", ops.Conv, kernel=(3, 3), stride=1)
    op: Any = step.node
    x, dy = drawn(op.in_shape), drawn(op.out_shape)

    def sent_by(weight: Array) -> Array:
        node = work.node(op, state={**work.state, op.weight.name: weight})
        node.forward(x)
        return node.backward(dy).inputs[0]

    weight = work.state[op.weight.name]
    others = drawn(op.in_shape)
    right = sent_by(weight)
    sent = Sent(step, 0, (x,), dy, None, right)
    for other, text in (
        (weight.transpose(0, 1, 3, 2), "transposed in the backward pass"),
        (weight[:, :, ::-1, ::-1], "flipped in the backward pass"),
    ):
        got = others + sent_by(other)
        assert said(got, others + right, hypotheses(work, sent, others)) == text


def test_paddings_off_by_one_pixel_are_all_tried() -> None:
    tried = [pad for _, _, pad in pads((1, 1, 1, 1), (3, 3), 1, 1, (5, 5))]
    moved = product([(1, 1), (0, 2), (2, 0)], repeat=2)
    wider = product([(1, 1), (0, 0), (2, 2)], repeat=2)
    expected = {(*rows, *columns) for rows, columns in (*moved, *wider)} - {(1, 1, 1, 1)}
    assert sorted(tried) == sorted(expected)


def test_a_sigmoid_may_be_off_by_a_few_roundings_and_nothing_else_by_one() -> None:
    case = "tiered_stem_squeeze"
    work = work_of(case, "float32")
    for kind, roundings in (("relu", 1.0), ("sigmoid", 4.0)):
        step = step_of(case, ops.Activation, kind=kind)
        x = drawn(step.output.shape)
        assert work.floor(step, (x,), work.output(step, (x,))) == roundings * UNIT["float32"]


@pytest.mark.parametrize(("rate", "roundings"), [(1e-9, 40.0), (1.0, 40.0 / 65.0)])
def test_a_step_is_measured_in_roundings_of_weight_and_change(
    rate: float, roundings: float
) -> None:
    setup, got = setup_of("bottleneck"), SimpleNamespace(precision="float32")
    tensor = next(tensor for tensor in setup.plan.tensors if tensor.trainable)
    recipe = make_recipe(1, IMAGES, optimizer={"momentum": 0.0, "weight_decay": 0.0})
    weight = gradient = np.linspace(0.5, 1.0, 6)
    right, rates = Rule.of(recipe), np.array([rate])
    still = Move(tensor, weight, {}, gradient, weight, {}, 0)
    moved = right.step(still, recipe, rates)[0] + 40.0 * UNIT["float32"]
    errors = update._errors(still._replace(new_weight=moved), right, recipe, rates, got)  # pyright: ignore[reportArgumentType]
    assert errors == {"the weight": pytest.approx(roundings, rel=1e-3)}
