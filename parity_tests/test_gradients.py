"""The loss and the gradient of every parameter, on batches away from every ReLU's corner."""

from __future__ import annotations

import pytest
from pairs import Pair, cells_of_few

from resnet_spec.parity.kink_margin import SAFE


def test_gradients(pair: Pair) -> None:
    # Without a margin one ReLU may flip within rounding and change a gradient by 1e-2; with it,
    # a flip is a bug.
    assert pair.margin.value >= SAFE, f"{pair.margin.node}: no seed has a safe margin"
    assert pair.floors.alike(pair.got)[1].count == 0
    assert set(pair.got.gradients[1]) == set(pair.expected.setup.plan.trainable)
    pair.check("gradients")


@pytest.mark.parametrize("of_few", cells_of_few(), ids=str)
def test_update(of_few: Pair) -> None:
    of_few.check("update")
