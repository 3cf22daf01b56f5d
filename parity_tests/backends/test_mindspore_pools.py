"""The max-pool of networks that only predict: oneDNN's values, and where it may not stand."""

from __future__ import annotations

import importlib
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from resnet_spec.describing.spec import Spec
from resnet_spec.ops import MaxPool
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower

ms = pytest.importorskip("mindspore")
nn: Any = importlib.import_module("mindspore.nn")
modules: Any = importlib.import_module("resnet_spec_mindspore.modules")
pools: Any = importlib.import_module("resnet_spec_mindspore.pools")
pytestmark = pytest.mark.xdist_group("mindspore_pools")

STEM = {"widths": [4], "kernel": 3, "stride": 1, "pool": True}
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "explicit": ({"stem": STEM}, 8),
    "explicit, odd": ({"stem": STEM}, (7, 9)),
    "same": ({"stem": STEM, "padding": "same"}, 8),
    "same, odd": ({"stem": STEM, "padding": "same"}, (9, 7)),
}
PRE_ACTIVATION = {"stem": STEM, "order": "pre_activation"}


def plan_of(fields: dict[str, Any], size: Any) -> Plan:
    stages = [{"width": 4, "blocks": 1}]
    return lower(Spec(name="pooled", classes=3, block="basic", stages=stages, **fields), size)


def pool_of(plan: Plan) -> MaxPool:
    (op,) = (op for op in plan.ops if isinstance(op, MaxPool))
    return op


def kinds_in(plan: Plan) -> set[type[Any]]:
    """Return the classes of cells of a network that `quicken` has seen."""
    network = modules.empty(plan)
    pools.quicken(network, plan)
    return {type(cell) for _, cell in network.cells_and_names()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_other_one_to_the_bit(kind: str) -> None:
    op = pool_of(plan_of(*KINDS[kind]))
    drawn = np.random.default_rng(0).normal(size=(3, *op.in_shape))
    for values in (drawn, np.maximum(np.round(drawn), 0.0), -np.abs(drawn) - 1.0):
        x = ms.Tensor(values.astype(np.float32))
        ours, theirs = pools.ForwardMaxPool(op)(x), modules._max_pool(op)(x)
        assert ours.shape == (3, *op.out_shape)
        assert np.array_equal(ours.asnumpy(), theirs.asnumpy())


def test_a_shifted_padding_is_seen() -> None:
    op = pool_of(plan_of(*KINDS["same"]))
    x = ms.Tensor(np.random.default_rng(0).normal(size=(1, *op.in_shape)).astype(np.float32))
    good = pools.ForwardMaxPool(op)(x).asnumpy()
    object.__setattr__(op, "pad", (op.pad[1], op.pad[0], *op.pad[2:]))
    assert not np.array_equal(good, pools.ForwardMaxPool(op)(x).asnumpy())


def test_it_stands_where_nothing_is_nan() -> None:
    after_relu, bare = plan_of(*KINDS["explicit"]), plan_of(PRE_ACTIVATION, 8)
    assert pools.ForwardMaxPool in kinds_in(after_relu)
    assert nn.MaxPool2d not in kinds_in(after_relu)
    assert pools.ForwardMaxPool not in kinds_in(bare) and nn.MaxPool2d in kinds_in(bare)


def test_a_relu_of_nan_is_zero_and_so_nothing_is_lost() -> None:
    """Were it NaN, the pool would hide it; then `quicken` should leave all pools alone."""
    x = ms.Tensor(np.array([[np.nan, -1.0, 2.0]], np.float32))
    with_graph: Any = nn.ReLU()
    assert np.array_equal(with_graph(x).asnumpy(), [[0.0, 0.0, 2.0]])


def test_accelerators_keep_theirs() -> None:
    with patch.object(pools.ms, "get_context", lambda name: "GPU"):
        assert pools.ForwardMaxPool not in kinds_in(plan_of(*KINDS["explicit"]))
