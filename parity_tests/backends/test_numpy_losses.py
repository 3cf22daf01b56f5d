"""The reference's losses against their definitions, and the gradients against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy_ops import DIFFERENCES, draw, relative, slopes
from resnet_spec_numpy.losses import LOSSES

from resnet_spec.parity.localise.loss import slope

LOGITS = 3.0 * draw().normal(size=(4, 3))
TARGETS = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.1, 0.1, 0.8], [0.0, 1.5, 0.3]])


def cross_entropy() -> float:
    total = 0.0
    for z, t in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        whole = sum(math.exp(value) for value in z)
        total -= sum(share * math.log(math.exp(v) / whole) for v, share in zip(z, t, strict=True))
    return total / 4


def binary_cross_entropy() -> float:
    total = 0.0
    for z, t in zip(LOGITS.ravel().tolist(), TARGETS.ravel().tolist(), strict=True):
        s = 1.0 / (1.0 + math.exp(-z))
        total -= t * math.log(s) + (1.0 - t) * math.log(1.0 - s)
    return total / 12


BY_HAND = {"cross_entropy": cross_entropy, "binary_cross_entropy": binary_cross_entropy}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_its_definition(kind: str) -> None:
    loss, gradient = LOSSES[kind](LOGITS, TARGETS)
    assert loss == pytest.approx(BY_HAND[kind](), rel=1e-13)
    numeric = slopes(lambda: LOSSES[kind](LOGITS, TARGETS)[0], LOGITS)
    assert relative(gradient, numeric) <= DIFFERENCES
    assert np.allclose(slope(kind, LOGITS, TARGETS), gradient, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("kind", "loss"), [("cross_entropy", 1e4), ("binary_cross_entropy", 1e4)])
def test_large_logits_overflow_nothing(kind: str, loss: float) -> None:
    found, gradient = LOSSES[kind](np.array([[1e4, -1e4]]), np.array([[0.0, 1.0]]))
    scale = {"cross_entropy": 2.0, "binary_cross_entropy": 1.0}[kind]
    assert found == pytest.approx(scale * loss)
    assert np.isfinite(gradient).all()
