"""The small networks that tests of native modules take apart: three blocks, images of 16 pixels."""

from __future__ import annotations

from typing import Any

from resnet_spec.describing.spec import Spec
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower

SIZE = 16
BASIC: dict[str, Any] = {"squeeze": 0.25}
PRE_ACTIVATION: dict[str, Any] = {
    "order": "pre_activation",
    "block": "bottleneck",
    "downsample": "avg_pool",
    "stochastic_depth": 0.5,
    "dropout": 0.5,
}


def small_plan(fields: dict[str, Any]) -> Plan:
    """Return a plan of five classes, [3, SIZE, SIZE]; `fields` of the spec are as given."""
    small: dict[str, Any] = {
        "name": "small",
        "classes": 5,
        "block": "basic",
        "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": True},
        "stages": [{"width": 8, "blocks": 2}, {"width": 8, "blocks": 1, "stride": 2}],
        "input": {"mean": [0.5] * 3, "std": [0.25] * 3},
    }
    return lower(Spec(**(small | fields)), (SIZE, SIZE))
