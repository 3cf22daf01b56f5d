"""What meets in a convolution's only window, against the cross-correlation written out."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from resnet_spec.describing.spec import Spec
from resnet_spec.ops import Conv, Met
from resnet_spec.planning.lowering import lower

DILATED = {"stages": [{"width": 8, "blocks": 2, "stride": 8, "dilation": 2}]}


def conv_of(name: str, size: int, changes: dict[str, Any]) -> Conv:
    """Return a convolution of a network that has maps of one pixel for images of 8."""
    small: dict[str, Any] = {
        "block": "basic",
        "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": False},
        "stages": [{"width": 8, "blocks": 2, "stride": 8}],
    }
    plan = lower(Spec(**(small | changes)), size)
    return next(op for op in plan.ops if isinstance(op, Conv) and op.name == name)


@pytest.mark.parametrize(
    ("name", "changes", "taps", "pixels"),
    [
        ("layer1.1.conv2", {}, [1], [0]),
        ("layer1.1.conv2", {"padding": "same"}, [1], [0]),
        ("layer1.1.conv2", DILATED, [1], [0]),
        ("layer1.0.conv1", {}, [1, 2], [0, 1]),
        ("layer1.0.conv1", {"padding": "same"}, [0, 1, 2], [0, 1, 2]),
        ("layer1.0.downsample.0", {}, [0], [0]),
    ],
    ids=str,
)
def test_of_one_window_a_kernel_has_what_meets_a_pixel(
    name: str, changes: dict[str, Any], taps: list[int], pixels: list[int]
) -> None:
    op = conv_of(name, 8, changes)
    assert op.only_window is not None
    rows, columns = op.only_window
    for side in (rows, columns):
        assert ([*side.taps], [*side.pixels]) == (taps, pixels)
    draws = np.random.default_rng(0)
    x, kernel = draws.standard_normal(op.in_shape), draws.standard_normal(op.weight.shape)
    padded = np.pad(x, ((0, 0), op.pad[:2], op.pad[2:]))
    high, wide = ((taps - 1) * op.dilation + 1 for taps in op.kernel)
    window = padded[:, : high : op.dilation, : wide : op.dilation]
    met = kernel[:, :, rows.taps][..., columns.taps]
    seen = x[:, rows.pixels][..., columns.pixels]
    assert np.allclose((met * seen).sum((1, 2, 3)), (kernel * window).sum((1, 2, 3)))


@pytest.mark.parametrize(
    ("name", "size", "changes"),
    [
        ("layer1.1.conv2", 16, {}),
        ("layer1.0.conv1", 16, {}),
        ("conv1", 8, {}),
        ("layer1.1.conv2", 8, {"groups": 2, "block": "bottleneck", "width_per_group": 32}),
    ],
)
def test_of_more_windows_or_groups_there_is_none(
    name: str, size: int, changes: dict[str, Any]
) -> None:
    assert conv_of(name, size, changes).only_window is None


def test_on_each_side_those_meet_that_are_within() -> None:
    for size, kernel, pad, dilation in product((1, 2, 5), (1, 2, 3, 7), (0, 1, 4, 9), (1, 2, 3)):
        found = Met.along(size, kernel, pad, dilation)
        at = {tap: tap * dilation - pad for tap in range(kernel)}
        within = {tap: pixel for tap, pixel in at.items() if 0 <= pixel < size}
        told = (size, kernel, pad, dilation)
        assert ([*found.taps], [*found.pixels]) == ([*within], [*within.values()]), told
