"""What a new op touches: a throw-away one needs its class, its row, and a class in each backend.

`Scale` multiplies each channel by a learned factor (LayerScale, Touvron et al. 2021). It is made
here, out of the tree, and put into a plan by hand in the place of its lowering.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import numpy as np
import pytest
from backend_modules import module_of
from cases import CASES

from resnet_spec import ops
from resnet_spec.contract import Batch
from resnet_spec.errors import BackendError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.kink_margin import margin
from resnet_spec.parity.setup import make_setup
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan, walk
from resnet_spec.planning import op_rows
from resnet_spec.planning.costs import describe
from resnet_spec.planning.dataflow import _flow, image, steps
from resnet_spec.planning.fine_tuning import fine_tuned
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.recipe import Recipe
from resnet_spec.session_steps import Intake
from resnet_spec.showing.diagram_ops import look_of
from resnet_spec.showing.network import network_of
from resnet_spec.showing.op_text import op_text
from resnet_spec.showing.tree import lines


@dataclass(frozen=True, slots=True)
class Scale(ops.BaseOp):
    """y = x times a factor per channel."""

    weight: ops.Tensor


ROW = op_rows.Row(
    sort="norm", words=lambda op: op_rows.OpText("scale", "", "per channel"), kept="inputs"
)


def with_scale(plan: Plan) -> Plan:
    """Return `plan` with a `Scale` after its first op."""
    first = plan.root.children[0]
    assert isinstance(first, ops.Conv)
    shape = first.out_shape
    weight = ops.Tensor("scale1.weight", shape[:1], "C", "norm_scale", ops.Init("constant", 0.5))
    scale: Any = Scale("scale1", shape, shape, weight, at=first.at)
    children = (first, scale, *plan.root.children[1:])
    return replace(plan, root=replace(plan.root, children=children))


@pytest.fixture
def rowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_rows, "ROWS", {**op_rows.ROWS, Scale: ROW})


@pytest.fixture
def in_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, passes = module_of("numpy", "layers"), module_of("numpy", "passes")

    class ScaleLayer(passes.Leaf):
        def forward(self, x: Any, run: Any) -> Any:
            run.save(self.op.name, x)
            return x * self.weight[:, None, None]

        def backward(self, dy: Any, run: Any) -> Any:
            x = run.saved.pop(self.op.name)
            run.gradients[self.op.weight.name] = (dy * x).sum((0, 2, 3))
            return dy * self.weight[:, None, None]

    monkeypatch.setitem(layers.LAYERS, Scale, ScaleLayer)


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    if "torch" not in installed_backends():
        pytest.skip("torch is not installed")
    modules = module_of("torch", "modules")
    torch = importlib.import_module("torch")

    class ScaleModule(torch.nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(channels))

        def forward(self, x: Any) -> Any:
            return x * self.weight[:, None, None]

    usual = modules._module
    monkeypatch.setattr(
        modules,
        "_module",
        lambda op: ScaleModule(op.in_shape[0]) if isinstance(op, Scale) else usual(op),
    )


PLAN = next(iter(CASES.values())).plan
RECIPE = Recipe.from_dict({"steps": 1, "batch": 8})


@pytest.mark.usefixtures("rowed")
def test_what_the_core_works_out_of_a_plan_holds_a_new_op_by_its_row_alone() -> None:
    plan = with_scale(PLAN)
    channels = plan.tensors[0].shape[0]
    assert [t.name for t in plan.tensors][:2] == ["conv1.weight", "scale1.weight"]
    assert plan.observed[:2] == ("conv1", "scale1")
    assert next(s for s in steps(plan) if s.node.name == "scale1").inputs[0].name == "conv1"
    assert np.array_equal(initial_state(plan)["scale1.weight"], np.full(channels, 0.5, np.float32))
    before, after = describe(PLAN), describe(plan)
    assert after.params == before.params + channels
    assert after.macs == before.macs
    assert [row.receptive_field for row in after.stages] == [
        row.receptive_field for row in before.stages
    ]
    # Of the first convolution's output two copies are read now: the factor's input and the norm's.
    added = int(np.prod(PLAN.root.children[0].out_shape))  # type: ignore[union-attr]
    assert after.activation_bytes == before.activation_bytes + 4 * added
    scale: Any = plan.ops[1]
    assert str(op_text(scale)) == "scale, per channel"
    assert look_of(scale) == look_of(next(op for op in PLAN.ops if isinstance(op, ops.Norm)))
    assert any("scale, per channel" in line for line in lines(network_of(plan)))
    frozen = fine_tuned(plan, Recipe.from_dict({"steps": 1, "batch": 8, "freeze": "stem"}))
    assert [t.frozen for t in frozen.tensors[:2]] == [True, True]


FOLDS: dict[str, Callable[[Plan], object]] = {
    "costs": describe,
    "words": lambda plan: op_text(plan.ops[1]),
    "colours": lambda plan: look_of(plan.ops[1]),
    "pictures": lambda plan: lines(network_of(plan)),
    "kinks": lambda plan: margin(plan, {n.name: np.ones(1) for n in walk(plan.root)}),
}


@pytest.mark.parametrize("fold", FOLDS)
def test_an_op_without_a_row_is_an_error_that_names_it(fold: str) -> None:
    with pytest.raises(
        TypeError, match=r"scale1: an op of class Scale has no row in op_rows\.ROWS"
    ):
        FOLDS[fold](with_scale(PLAN))


@pytest.mark.usefixtures("rowed")
def test_an_op_that_a_backend_does_not_know_is_an_error_that_names_it() -> None:
    plan = with_scale(PLAN)
    with pytest.raises(TypeError, match="scale1: an op of class Scale has no layer"):
        load_backend("numpy").build(plan)
    for name in installed_backends():
        with pytest.raises((TypeError, AssertionError), match="Scale"):
            load_backend(name).build(plan)


@pytest.mark.usefixtures("rowed", "in_reference", "in_torch")
def test_a_new_op_computes_the_same_in_a_framework_and_the_reference() -> None:
    setup = make_setup(with_scale(PLAN), RECIPE, seed=0)
    expected = Side("numpy", setup, precision="float64")
    got = Side("torch", setup, precision="float64")
    for name, array in expected.evaluated.items():
        assert np.allclose(got.evaluated[name], array, rtol=1e-9, atol=1e-9), name
    gradients = got.gradients[1]
    assert "scale1.weight" in gradients
    for name, array in expected.gradients[1].items():
        assert np.allclose(gradients[name], array, rtol=1e-7, atol=1e-9), name


def test_every_op_has_a_row() -> None:
    assert set(get_args(ops.Op)) == set(op_rows.ROWS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ops.Activation("a", (1,), (1,), cast(Any, "gelu")),
            r"a\.kind = gelu: must be one of relu,",
        ),
        (lambda: ops.Init(cast(Any, "zeros"), 0.0), r"init\.kind = zeros: must be one of normal,"),
        (
            lambda: ops.Tensor("w", (1,), cast(Any, "HWIO"), "bias", ops.Init("constant", 0.0)),
            r"w\.layout = HWIO: must be one of OIHW,",
        ),
        (
            lambda: ops.Tensor("w", (1,), "C", cast(Any, "mask"), ops.Init("constant", 0.0)),
            r"w\.role = mask: must be one of conv_weight,",
        ),
        (
            lambda: replace(_norm(), variance="sample"),
            r"bn1\.variance = sample: must be one of unbiased, biased",
        ),
        (lambda: replace(_norm(), sync="none"), r"bn1\.sync = none: must be one of global, rep"),
    ],
)
def test_an_unknown_kind_is_an_error_at_once(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_node_of_no_kind_has_no_steps() -> None:
    with pytest.raises(AssertionError, match="'node'"):
        list(_flow(cast(Any, "node"), image(PLAN)))


def _norm() -> ops.Norm:
    return next(op for op in PLAN.ops if isinstance(op, ops.Norm))


def unknown_activation() -> Plan:
    """Return a plan whose first activation is of a kind that nobody knows."""
    plan = replace(PLAN)
    op = next(op for op in plan.ops if isinstance(op, ops.Activation))
    changed = replace(op)
    object.__setattr__(changed, "kind", "gelu")
    children = tuple(changed if child is op else child for child in plan.root.children)
    assert children != plan.root.children
    return replace(plan, root=replace(plan.root, children=children))


@pytest.mark.parametrize("name", installed_backends())
def test_a_backend_takes_no_activation_for_another(name: str) -> None:
    plan = unknown_activation()
    package = load_backend(name)
    with pytest.raises((KeyError, AssertionError), match="gelu"):
        session = package.Session(plan, device="cpu")
        session.load(initial_state(plan))
        next(iter(session.predict(make_setup(PLAN, RECIPE, seed=0).batches[:1])))


def test_a_class_made_of_another_op_s_is_refused_for_it_would_pass_for_that_one() -> None:
    with pytest.raises(TypeError, match=r"Gelu: must not be made of Activation, .* of BaseOp or"):
        type("Gelu", (ops.Activation,), {})
    with pytest.raises(TypeError, match="must not be made of Chain"):
        type("Row", (ops.Chain,), {})


@dataclass(frozen=True, slots=True)
class DropBlock(ops.NoisyOp):
    """Factors for every pixel of every channel (Ghiasi et al. 2018)."""

    @property
    def noise_shape(self) -> ops.Shape:
        return self.in_shape


def test_noise_is_checked_by_the_shape_that_its_op_says() -> None:
    first = PLAN.root.children[0]
    assert isinstance(first, ops.Conv)
    drop: Any = DropBlock("drop1", first.out_shape, first.out_shape, 0.5, at=first.at)
    plan = replace(PLAN, root=replace(PLAN.root, children=(first, drop, *PLAN.root.children[1:])))
    image = PLAN.input
    images = np.zeros((2, image.height, image.width, image.channels), np.uint8)
    noise = {"drop1": np.ones((2, *first.out_shape), np.float32)}
    batch = Batch(images, np.zeros(2, np.int64), np.arange(2), noise=noise)
    (part,) = Intake(plan).parts(batch)
    assert part.noise["drop1"].shape == (2, *first.out_shape)
    flat = replace(batch, noise={"drop1": np.ones(2, np.float32)})
    with pytest.raises(BackendError, match="drop1"):
        Intake(plan).parts(flat)
