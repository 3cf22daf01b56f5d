"""Twenty steps with momentum, weight decay and a cosine; and the recipe's other terms."""

from __future__ import annotations

from pairs import Pair, run_margin

from resnet_spec.parity.kink_margin import SAFE_RUN


def test_trajectory(pair: Pair) -> None:
    assert pair.got.losses.shape == (20,)
    assert run_margin(pair.case) >= SAFE_RUN  # As for gradients: no ReLU may flip by rounding.
    pair.check("trajectory")
