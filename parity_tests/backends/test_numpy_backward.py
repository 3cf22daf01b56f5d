"""The reference's backward passes and its loss against differences."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np
import pytest
from numpy_ops import (
    DIFFERENCES,
    LAYERS,
    OPS,
    draw,
    input_of,
    layer_of,
    relative,
    run_for,
    slopes,
)
from resnet_spec_numpy.losses import smoothed_cross_entropy
from resnet_spec_numpy.passes import Run

from resnet_spec import ops


def check_backward(op: ops.Op) -> None:
    """Compare dx and the gradient of every tensor with differences."""
    layer, x = layer_of(op), input_of(op)
    weights = draw(4).normal(0.0, 1.0, (2, *op.out_shape))

    def loss() -> float:
        return float((weights * layer.forward(x, run_for(op))).sum())

    run = run_for(op)
    layer.forward(x, run)
    dx = layer.backward(weights, run)
    assert not run.saved
    assert relative(dx, slopes(loss, x)) <= DIFFERENCES
    trained = [t for t in op.tensors if t.trainable]
    assert set(run.gradients) == {t.name for t in trained}
    for t in trained:
        array = attrgetter(t.name.removeprefix("op."))(layer)
        assert relative(run.gradients[t.name], slopes(loss, array)) <= DIFFERENCES


@pytest.mark.parametrize("case", OPS)
def test_backward_is_the_derivative(case):
    check_backward(OPS[case])


ONE_OF_EACH = list({type(op): case for case, op in OPS.items()}.values())


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_a_derivative_off_by_a_millionth_is_seen(case, monkeypatch):
    op = OPS[case]
    kind = LAYERS[type(op)]
    right = kind.backward
    monkeypatch.setattr(kind, "backward", lambda self, dy, run: right(self, dy, run) * (1 + 1e-6))
    with pytest.raises(AssertionError):
        check_backward(op)


@pytest.mark.parametrize("case", ["1x1", "norm", "linear"])
def test_a_gradient_off_by_a_millionth_is_seen(case, monkeypatch):
    op = OPS[case]
    kind = LAYERS[type(op)]
    right = kind.backward
    for t in (t for t in op.tensors if t.trainable):

        def wrong(self: Any, dy: Any, run: Run, name: str = t.name) -> Any:
            dx = right(self, dy, run)
            run.gradients[name] = run.gradients[name] * (1 + 1e-6)
            return dx

        monkeypatch.setattr(kind, "backward", wrong)
        with pytest.raises(AssertionError):
            check_backward(op)


def test_every_op_of_the_plan_was_checked():
    every = {op for op in ops.Op.__args__ if op is not ops.Add}
    assert {type(op) for op in OPS.values()} == every


def test_ties_go_to_the_first_maximum_of_a_window():
    op = ops.MaxPool("op", (1, 2, 4), (1, 1, 2), 2, 2, (0, 0, 0, 0))
    layer, run = layer_of(op), Run(training=True)
    layer.forward(np.array([[[[1.0, 5.0, 7.0, 7.0], [5.0, 5.0, 7.0, 7.0]]]]), run)
    dx = layer.backward(np.array([[[[2.0, 3.0]]]]), run)
    assert dx.tolist() == [[[[0.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]


def test_relu_has_no_gradient_at_zero():
    layer, run = layer_of(ops.Activation("op", (3,), (3,), "relu")), Run(training=True)
    layer.forward(np.array([[-1.0, 0.0, 1.0]]), run)
    assert layer.backward(np.ones((1, 3)), run).tolist() == [[0.0, 0.0, 1.0]]


def test_cross_entropy_by_hand():
    logits, labels = draw().normal(0.0, 2.0, (3, 4)), np.array([3, 0, 0])
    for smoothing in (0.0, 0.2):
        terms = []
        for row, label in zip(logits, labels, strict=True):
            p = np.exp(row) / np.exp(row).sum()
            target = [smoothing / 4 + (1 - smoothing) * (k == label) for k in range(4)]
            terms.append(-sum(t * np.log(q) for t, q in zip(target, p, strict=True)))
        loss, gradient = smoothed_cross_entropy(logits, labels, smoothing)
        assert loss == pytest.approx(np.mean(terms), rel=1e-13)
        numeric = slopes(lambda s=smoothing: smoothed_cross_entropy(logits, labels, s)[0], logits)
        assert relative(gradient, numeric) <= DIFFERENCES
    assert smoothed_cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))[0] == 1e4
