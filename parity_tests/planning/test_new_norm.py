"""What a norm without running statistics touches: as any new op, its class, its row, its classes.

`GroupNorm` (Wu & He 2018), made here, out of the tree, takes the place of every norm of a plan.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from backend_modules import module_of
from cases import CASES

from resnet_spec import ops
from resnet_spec.loader import installed_backends
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.plan import Plan
from resnet_spec.planning import op_rows
from resnet_spec.planning.costs import describe
from resnet_spec.planning.fine_tuning import fine_tuned

CASE = CASES["plain"]
GROUPS, EPS = 2, 1e-5


@dataclass(frozen=True, slots=True)
class GroupNorm(ops.BaseOp):
    """Norm of each image over groups of channels, then a scale and a shift per channel."""

    weight: ops.Tensor
    bias: ops.Tensor


ROW = op_rows.Row(
    sort="norm", words=lambda op: op_rows.OpText("group_norm", "", f"{GROUPS}"), kept="inputs"
)


def exchanged(node: ops.Node) -> Any:
    """Return the tree below `node` with a group norm in the place of each norm."""
    match node:
        case ops.Norm():
            fixed = node.name, node.in_shape, node.out_shape, node.scale, node.shift
            return GroupNorm(*fixed, at=node.at)
        case ops.Chain() | ops.Gate():
            return replace(node, children=tuple(map(exchanged, node.children)))
        case ops.Residual():
            parts = {part: tuple(map(exchanged, getattr(node, part))) for part in _PARTS}
            shortcut = None if node.shortcut is None else exchanged(node.shortcut)
            return replace(node, shortcut=shortcut, **parts)
        case _:
            return node


_PARTS = ("entry", "body", "tail")


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(op_rows, "ROWS", {**op_rows.ROWS, GroupNorm: ROW})
    return replace(CASE.plan, root=exchanged(CASE.plan.root))


@pytest.fixture
def in_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, passes = module_of("numpy", "layers"), module_of("numpy", "passes")

    class GroupNormLayer(passes.Leaf):
        def forward(self, x: Any, run: Any) -> Any:
            groups = x.reshape(len(x), GROUPS, -1)
            mean, var = groups.mean(2, keepdims=True), groups.var(2, keepdims=True)
            scale = 1.0 / np.sqrt(var + EPS)
            normal = ((groups - mean) * scale).reshape(x.shape)
            run.save(self.op.name, (normal, scale))
            return normal * self.weight[:, None, None] + self.bias[:, None, None]

        def backward(self, dy: Any, run: Any) -> Any:
            normal, scale = run.saved.pop(self.op.name)
            run.gradients[self.op.weight.name] = (dy * normal).sum((0, 2, 3))
            run.gradients[self.op.bias.name] = dy.sum((0, 2, 3))
            d, y = (
                a.reshape(len(dy), GROUPS, -1) for a in (dy * self.weight[:, None, None], normal)
            )
            means = d.mean(2, keepdims=True), (d * y).mean(2, keepdims=True)
            return (scale * (d - means[0] - y * means[1])).reshape(dy.shape)

    monkeypatch.setitem(layers.LAYERS, GroupNorm, GroupNormLayer)


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    if "torch" not in installed_backends():
        pytest.skip("torch is not installed")
    modules, torch = module_of("torch", "modules"), importlib.import_module("torch")
    known = modules._module

    def module(op: Any) -> Any:
        if isinstance(op, GroupNorm):
            return torch.nn.GroupNorm(GROUPS, op.in_shape[0], EPS)
        return known(op)

    monkeypatch.setattr(modules, "_module", module)


def test_the_core_asks_such_a_norm_for_no_statistics(plan: Plan) -> None:
    assert plan.batch_norms == ()
    assert [t.name for t in plan.tensors if t.is_statistic] == []
    assert "bn1.weight" in plan.trainable
    assert describe(plan).params == describe(CASE.plan).params
    frozen = fine_tuned(plan, make_recipe(1, freeze="stem"))
    assert {t.name for t in frozen.tensors if t.frozen} == {
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
    }


@pytest.mark.usefixtures("in_reference", "in_torch")
def test_it_trains_the_same_in_a_framework_and_the_reference(plan: Plan) -> None:
    setup: Setup = make_setup(plan, make_recipe(3, ema={"decay": 0.9}))
    got, floors = Side("torch", setup), Floors(reference_of(setup), "float32")
    levels = [level for level in LEVELS if level not in ("accuracy", "statistics")]
    assert [level for level in levels if judge(level, got, floors).is_wrong] == []
    one = replace(setup.batches[0], **{k: getattr(setup.batches[0], k)[:1] for k in _PER_IMAGE})
    loss, _ = got.session.gradients(one)  # No batch is too small for it.
    assert np.isfinite(loss)


_PER_IMAGE = ("images", "labels", "indices")
