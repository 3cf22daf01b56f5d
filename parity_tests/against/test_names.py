"""Schemes against the packages they name: names, shapes, and what their code fixes.

Models of full size on torch's meta device, which holds no values. Skipped, saying so, where absent.
"""

from __future__ import annotations

from typing import Any

import pytest
from test_packages import package

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.ops import Conv, MaxPool, Norm, Shape
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming import Scheme, scheme
from resnet_spec.weights.naming.conventions import applied
from resnet_spec.weights.naming.lifting import foreign_shape

TORCHVISION = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet152": "resnet152",
    "resnext50_32x4d": "resnext50_32x4d",
    "resnext101_64x4d": "resnext101_64x4d",
    "wide_resnet50_2": "wide_resnet50_2",
}
TIMM = [
    "resnet10t",
    "resnet14t",
    "resnet18",
    "resnet18d",
    "resnet26d",
    "resnet50",
    "resnet50c",
    "resnet50s",
    "resnet50d",
    "resnet50t",
    "resnet200d",
    "resnext50d_32x4d",
    "wide_resnet101_2",
    "seresnet18",
    "seresnet50",
    "seresnet152d",
    "seresnext101_32x8d",
]
TIMM_V2 = [
    "resnetv2_18",
    "resnetv2_18d",
    "resnetv2_34",
    "resnetv2_50",
    "resnetv2_50d",
    "resnetv2_50t",
]
HF = {"resnet18": "basic", "resnet34": "basic", "resnet50": "bottleneck", "resnet101": "bottleneck"}
MINDCV = [
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "seresnet18",
    "seresnet50",
    "seresnext50_32x4d",
]


def _plan(chosen: Scheme, preset: str) -> Plan:
    return lower(applied(chosen, load_spec(preset)))


def _wanted(chosen: Scheme, plan: Plan) -> dict[str, Shape]:
    names = chosen.in_file(plan)
    return {names[t.name].name: foreign_shape(t, names[t.name].layout) for t in plan.tensors}


def _assert_torch_model_is(model: Any, name: str, preset: str) -> None:
    chosen = scheme(name)
    plan = _plan(chosen, preset)
    counters = chosen.counters(plan)
    found = {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if key not in counters
    }
    assert found == _wanted(chosen, plan)
    assert len(model.state_dict()) == len(found) + len(counters)
    _assert_modules_are(dict(model.named_modules()), chosen, plan)


def _assert_modules_are(modules: dict[str, Any], chosen: Scheme, plan: Plan) -> None:
    """Compare strides, padding, groups and norms with the plan that the conventions give."""
    names = chosen.names(plan)
    compared = 0
    for op in plan.ops:
        if isinstance(op, Conv):
            module = modules[names[op.weight.name].name.rpartition(".")[0]]
            found = (module.stride[0], module.padding[0], module.groups, module.dilation[0])
            assert found == (op.stride, op.pad[0], op.groups, op.dilation), op.name
            assert len(set(op.pad)) == 1, op.name
        elif isinstance(op, Norm):
            module = modules[names[op.scale.name].name.rpartition(".")[0]]
            assert (module.eps, 1 - module.momentum) == (op.eps, op.decay), op.name
        elif isinstance(op, MaxPool):
            (module,) = [m for m in modules.values() if type(m).__name__ == "MaxPool2d"]
            assert (module.kernel_size, module.stride) == (op.kernel, op.stride)
            assert (module.padding,) * 4 == op.pad
        else:
            continue
        compared += 1
    assert compared > 20


@pytest.mark.parametrize("preset", TORCHVISION)
def test_torchvision(preset: str) -> None:
    models = package("torchvision.models.resnet")
    with package("torch").device("meta"):
        model = getattr(models, TORCHVISION[preset])()
    for name in ("torchvision", "timm"):
        _assert_torch_model_is(model, name, preset)


@pytest.mark.parametrize("preset", [*TIMM, *TIMM_V2])
def test_timm(preset: str) -> None:
    models = package("timm.models.resnetv2" if preset in TIMM_V2 else "timm.models.resnet")
    with package("torch").device("meta"):
        model = getattr(models, preset)()
    _assert_torch_model_is(model, "timm-v2" if preset in TIMM_V2 else "timm", preset)


@pytest.mark.parametrize("preset", HF)
def test_transformers(preset: str) -> None:
    module = package("transformers.models.resnet.modeling_resnet")
    spec = load_spec(preset)
    config = package("transformers").ResNetConfig(
        hidden_sizes=[stage.width * spec.expansion for stage in spec.stages],
        depths=[stage.blocks for stage in spec.stages],
        layer_type=HF[preset],
        num_labels=1000,
    )
    with package("torch").device("meta"):
        model = module.ResNetForImageClassification(config)
    _assert_torch_model_is(model, "hf", preset)


@pytest.mark.parametrize("preset", MINDCV)
def test_mindcv(preset: str) -> None:
    models = package(f"mindcv.models.{'senet' if preset.startswith('se') else 'resnet'}")
    model = getattr(models, preset)()
    chosen = scheme("mindcv")
    plan = _plan(chosen, preset)
    assert {p.name: tuple(p.shape) for p in model.get_parameters()} == _wanted(chosen, plan)
    names, cells = chosen.names(plan), dict(model.cells_and_names())
    for op in plan.ops:
        if isinstance(op, Conv) and not op.name.endswith((".se.fc1", ".se.fc2")):
            cell = cells[names[op.weight.name].name.rpartition(".")[0]]
            assert (cell.stride[0], cell.group) == (op.stride, op.groups), op.name
            assert cell.pad_mode == "pad" or op.kernel == (1, 1), op.name
        elif isinstance(op, Norm):
            cell = cells[names[op.scale.name].name.rpartition(".")[0]]
            # A cell keeps the weight of the new value, though its argument is that of the old.
            assert (cell.eps, 1 - cell.momentum) == (op.eps, op.decay), op.name
        elif isinstance(op, MaxPool):
            (cell,) = [cell for cell in cells.values() if type(cell).__name__ == "MaxPool2d"]
            assert (cell.pad_mode.lower(), op.pad) == ("same", (0, 1, 0, 1))
