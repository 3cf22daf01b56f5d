"""The only tap of a kernel on a map of one pixel, against the cross-correlation written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec.describing.spec import Spec
from resnet_spec.ops import Conv
from resnet_spec.planning.lowering import lower


@pytest.mark.parametrize(
    ("changes", "size", "tap"),
    [
        ({}, 8, (1, 1)),
        ({}, 16, None),
        ({"padding": "same"}, 8, (1, 1)),
        ({"groups": 2, "block": "bottleneck", "width_per_group": 32}, 8, None),
        ({"stages": [{"width": 8, "blocks": 2, "stride": 8, "dilation": 2}]}, 8, (1, 1)),
    ],
    ids=str,
)
def test_of_a_map_of_one_pixel_a_kernel_has_one_tap(
    changes: dict[str, Any], size: int, tap: tuple[int, int] | None
) -> None:
    small: dict[str, Any] = {
        "block": "basic",
        "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": False},
        "stages": [{"width": 8, "blocks": 2, "stride": 8}],
    }
    plan = lower(Spec(**(small | changes)), size)
    found = {op.name: op.only_tap for op in plan.ops if isinstance(op, Conv)}
    last = "layer1.1.conv2"
    assert found[last] == tap and found["conv1"] is None
    if tap is None:
        return
    (op,) = (op for op in plan.ops if isinstance(op, Conv) and op.name == last)
    x = np.full((1, 8, 1, 1), 2.0)
    kernel = np.random.default_rng(0).standard_normal(op.weight.shape)
    seen = np.pad(x, ((0, 0), (0, 0), op.pad[:2], op.pad[2:]))[..., :: op.dilation, :: op.dilation]
    assert np.allclose((seen * kernel).sum((1, 2, 3)), 2.0 * kernel[:, :, *tap].sum(1))
