"""The reference's forward passes against loops."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy_ops import (
    AVG_POOLS,
    CONVS,
    LOOPS,
    MAX_POOLS,
    OPS,
    input_of,
    layer_of,
    norm,
    relative,
    run_for,
)
from resnet_spec_numpy import layers
from resnet_spec_numpy.passes import Run
from resnet_spec_numpy.windows import Window, _columns, convolve

from resnet_spec import ops


def padded(x: Any, pad: ops.Pad, fill: float) -> Any:
    top, bottom, left, right = pad
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)


def places(op: Any, count: int = 2) -> Iterator[tuple[int, ...]]:
    return itertools.product(range(count), *map(range, op.out_shape))


def loop_conv(op: ops.Conv, x: Any, weight: Any, bias: Any) -> Any:
    x, y = padded(x, op.pad, 0.0), np.zeros((2, *op.out_shape))
    per_group, of_group = weight.shape[1], len(weight) // op.groups
    for n, o, i, j in places(op):
        total = 0.0 if bias is None else bias[o]
        for c, p, q in np.ndindex(weight.shape[1:]):
            row, column = i * op.stride + p * op.dilation, j * op.stride + q * op.dilation
            total += weight[o, c, p, q] * x[n, o // of_group * per_group + c, row, column]
        y[n, o, i, j] = total
    return y


def loop_pool(op: Any, x: Any) -> Any:
    """Mean or maximum of the pixels that are there: padding is NaN and left out."""
    x, y = padded(x, op.pad, np.nan), np.zeros((2, *op.out_shape))
    reduce = np.nanmax if isinstance(op, ops.MaxPool) else np.nanmean
    for n, c, i, j in places(op):
        top, left = i * op.stride, j * op.stride
        y[n, c, i, j] = reduce(x[n, c, top : top + op.kernel, left : left + op.kernel])
    return y


def by_loops(op: Any, layer: Any, x: Any) -> Any:
    if isinstance(op, ops.Conv):
        return loop_conv(op, x, layer.weight, layer.bias)
    return loop_pool(op, x)


def check_forward(op: ops.Op, fault: dict[str, Any] | None = None) -> None:
    """Compare the module of `op` with loops; `fault` changes what the module is told."""
    layer, x = layer_of(op), input_of(op)
    expected = by_loops(op, layer, x)
    layer.op = replace(op, **(fault or {}))
    assert relative(layer.forward(x, Run()), expected) <= LOOPS
    # The same numbers in another memory order.
    x = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    assert relative(layer.forward(x, Run()), expected) <= LOOPS


WINDOWED = CONVS | MAX_POOLS | AVG_POOLS


@pytest.mark.parametrize("case", WINDOWED)
def test_windowed_ops_agree_with_loops(case):
    check_forward(WINDOWED[case])


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        ("3x3 stride 2, uneven pads", {"pad": (1, 0, 1, 2)}),
        ("3x3 stride 2, uneven pads", {"pad": (2, 1, 0, 1)}),
        ("3x3 dilation 2", {"dilation": 1, "pad": (1, 1, 0, 0)}),
        ("max uneven pads", {"pad": (1, 0, 0, 1)}),
        ("max overlapping", {"pad": (0, 2, 0, 0)}),
        ("avg sticking out", {"pad": (1, 0, 0, 1)}),
    ],
)
def test_a_wrong_window_is_seen(case, fault):
    with pytest.raises(AssertionError):
        check_forward(WINDOWED[case], fault)


def test_padding_that_counts_is_seen(monkeypatch):
    monkeypatch.setattr(
        layers.AvgPool, "_counts", lambda self, shape, dtype: np.full((), self.op.kernel**2, dtype)
    )
    check_forward(AVG_POOLS["avg 2x2"])
    with pytest.raises(AssertionError):
        check_forward(AVG_POOLS["avg sticking out"])


def test_groups_in_another_order_are_seen():
    op = CONVS["3x3 groups"]
    layer, x = layer_of(op), input_of(op)
    swapped = np.roll(layer.weight, 3, axis=0)
    assert relative(convolve(x, swapped, layer._window, 2), by_loops(op, layer, x)) > 0.1


def test_max_pool_pads_with_minus_infinity():
    op = MAX_POOLS["max 3x3"]
    x = -1.0 - np.abs(input_of(op))
    assert layer_of(op).forward(x, Run()).max() <= -1.0


def test_norm_in_both_modes():
    op = norm()
    layer, x = layer_of(op), input_of(op)
    out = layer.forward(x, Run())
    for c in range(4):
        centred = x[:, c] - layer.running_mean[c]
        expected = centred / (layer.running_var[c] + 1e-2) ** 0.5 * layer.weight[c] + layer.bias[c]
        assert relative(out[:, c], expected) <= LOOPS
    out = layer.forward(x, Run(training=True))
    for c in range(4):
        centred = x[:, c] - np.mean(x[:, c])
        expected = centred / (np.var(x[:, c]) + 1e-2) ** 0.5 * layer.weight[c] + layer.bias[c]
        assert relative(out[:, c], expected) <= LOOPS


@pytest.mark.parametrize(("variance", "ddof"), [("unbiased", 1), ("biased", 0)])
def test_norm_keeps_the_fraction_decay_of_its_statistics(variance, ddof):
    layer, run = layer_of(norm(variance)), Run(training=True)
    x, old = input_of(layer.op), layer.running_var.copy()
    layer.forward(x, run)
    var = 0.75 * layer.running_var + 0.25 * x.var((0, 2, 3), ddof=ddof)
    mean = 0.75 * layer.running_mean + 0.25 * x.mean((0, 2, 3))
    assert relative(run.statistics["op.running_var"], var) <= LOOPS
    assert relative(run.statistics["op.running_mean"], mean) <= LOOPS
    other = 0.75 * layer.running_var + 0.25 * x.var((0, 2, 3), ddof=1 - ddof)
    assert relative(run.statistics["op.running_var"], other) > 1e-4
    assert np.array_equal(layer.running_var, old)


def test_norm_variance_does_not_cancel():
    layer = layer_of(norm())
    x = input_of(layer.op)
    far = layer.forward(x + 1e6, Run(training=True))
    assert relative(far, layer.forward(x, Run(training=True))) <= 1e-9


def test_sigmoid_is_exact_and_never_overflows():
    op = ops.Activation("op", (4,), (4,), "sigmoid")
    y = layer_of(op).forward(np.array([[-1000.0, -30.0, 0.0, 1000.0]]), Run())
    assert y.tolist() == [[0.0, pytest.approx(np.exp(-30.0), rel=1e-12), 0.5, 1.0]]


def test_pad_channels_takes_every_pixel_from_the_first():
    op = ops.PadChannels("op", (1, 3, 3), (4, 2, 2), 2, (1, 2))
    y = layer_of(op).forward(np.arange(9.0).reshape(1, 1, 3, 3), Run())
    assert y[0].tolist() == [[[0, 0], [0, 0]], [[0, 2], [6, 8]], [[0, 0]] * 2, [[0, 0]] * 2]


@pytest.mark.parametrize("case", ["dropout", "dropout of maps", "drop path"])
def test_noise_multiplies_in_training_only(case):
    op = OPS[case]
    layer, x, run = layer_of(op), input_of(op), run_for(op)
    assert layer.forward(x, Run()) is x
    y = layer.forward(x, run)
    for index in np.ndindex(x.shape):
        noise = run.noise["op"]
        assert y[index] == x[index] * noise[index[: noise.ndim]]


@pytest.mark.parametrize("case", ["dropout", "dropout of maps", "drop path"])
def test_a_module_on_its_own_draws_its_noise(case):
    op = replace(OPS[case], rate=0.25)
    x = np.ones((4000, *op.in_shape))
    y = layer_of(op).forward(x, Run(training=True))
    assert set(np.unique(y)) == {0.0, 1.0 / 0.75}
    assert abs(y.mean() - 1.0) < 0.05
    whole = y.reshape(4000, -1)
    together = (whole == whole[:, :1]).all()
    assert together == (case == "drop path")


def test_a_pointwise_convolution_copies_nothing():
    x = np.zeros((4, 2, 5, 6)).swapaxes(0, 1)
    for stride, shared in ((1, True), (2, False)):
        columns = _columns(Window((1, 1), stride, (0, 0, 0, 0)).view(x), 2)
        assert np.shares_memory(columns, x) == shared
    y = convolve(x, np.zeros((6, 4, 3, 3)), Window((3, 3), 1, (1, 1, 1, 1)), 1)
    assert y.shape == (2, 6, 5, 6) and y.swapaxes(0, 1).flags.c_contiguous
