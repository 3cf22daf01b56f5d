"""The reference's three orders of summation, its single nodes, and its forced choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.loader import load_backend
from resnet_spec.ops import Gate
from resnet_spec.parity.kink_choices import normalised
from resnet_spec.parity.setup import make_recipe, make_setup
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.planning.dataflow import steps

numpy_backend: Any = load_backend("numpy")


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("order", ["natural", "reversed", "sequential"])
def test_orders_give_the_same_but_for_rounding(order: str) -> None:
    from resnet_spec_numpy.sums import mean, product, total

    a, b = draw(3, 5, 700), draw(3, 700, 4)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(product(a, b, order) - exact).max() < 1e-4 < np.abs(exact).max()  # pyright: ignore[reportArgumentType]
    x = draw(6, 3, 20, 20)
    for axes in ((0, 2, 3), (2, 3)):
        exact = x.astype(np.float64).sum(axes, keepdims=True)
        found = total(x, axes, order, keep=True)  # pyright: ignore[reportArgumentType]
        assert found.shape == exact.shape and found.dtype == np.float32
        assert np.abs(found - exact).max() < 1e-3
        count = x.size // exact.size
        assert np.abs(mean(x, axes, order, keep=True) - exact / count).max() < 1e-5  # pyright: ignore[reportArgumentType]


def test_sequential_adds_one_term_after_another() -> None:
    from resnet_spec_numpy.sums import total

    x = draw(7, 2, 9, 9)
    expected = np.zeros(2, np.float32)
    for n, i, j in np.ndindex(7, 9, 9):
        expected += x[n, :, i, j]
    assert np.array_equal(total(x, (0, 2, 3), "sequential"), expected)
    assert not np.array_equal(total(x, (0, 2, 3)), expected)


@pytest.mark.parametrize("case", ["imagenet_stem", "pre_activation_everything", "zero_pad_both"])
def test_nodes_do_alone_what_they_do_in_the_network(case: str) -> None:
    """Forward and backward: the localiser's premise."""
    setup = make_setup(CASES[case].plan, make_recipe())
    side = reference_of(setup)
    values = {"input": normalised(setup), **side.activations}
    sums: dict[str, np.ndarray] = {}
    for step in reversed(list(steps(setup.plan))):
        inputs = [values[value.name] for value in step.inputs]
        dy = side.node_gradients[step.node.name]
        if isinstance(step.node, Gate):
            assert np.allclose(inputs[0] * inputs[1], values[step.node.name], rtol=1e-12)
            sent = dy * inputs[1], (dy * inputs[0]).sum((2, 3), keepdims=True)
        else:
            node = numpy_backend.Node(
                step.node, setup.state, training=True, noise=setup.batches[0].noise
            )
            assert np.allclose(node.forward(*inputs), values[step.node.name], rtol=0, atol=1e-12)
            sent, tensors = node.backward(dy)
            for name, gradient in tensors.items():
                expected = side.gradients[1][name]
                assert np.abs(gradient - expected).max() <= 1e-11 * np.abs(expected).max()
        for value, gradient in zip(step.inputs, sent, strict=True):
            sums[value.name] = sums.get(value.name, 0.0) + gradient
    assert sums.keys() == side.node_gradients.keys() - {setup.plan.observed[-1]}
    for name, gradient in sums.items():
        expected = side.node_gradients[name]
        assert np.abs(gradient - expected).max() <= 1e-11 * np.abs(expected).max(), name
