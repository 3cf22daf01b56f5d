"""Naming schemes are maps over the plan: complete, one to one, as the projects write the names."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming import SCHEMES, Foreign, Paths, Scheme, scheme
from resnet_spec.weights.naming.conventions import applied, conflicts
from resnet_spec.weights.naming.lifting import foreign_shape
from resnet_spec.weights.naming.numbered_nodes import NumberedNodes

# How many of the presets each scheme has names for; a scheme that loses some has a fault.
NAMED = {
    "timm": 63,
    "timm-v2": 18,
    "torchvision": 25,
    "hf": 17,
    "hf-flax": 17,
    "mindcv": 34,
    "mindvision": 17,
    "mindspore-tutorial": 12,
    "keras-hub": 39,
    "keras-applications": 12,
    "keras-applications-rgb": 12,
    "flax-imagenet": 17,
    "jax-resnet": 43,
    "pycls": 25,
    "akamaster": 6,
    "kuangliu": 25,
    "canonical": 81,
}


@cache
def plan_of(preset: str) -> Plan:
    return lower(load_spec(preset))


def _named(chosen: Scheme, plan: Plan) -> dict[str, Foreign] | str:
    """Return what `in_file` gives, or the line with which it refuses."""
    try:
        return chosen.in_file(plan)
    except CheckpointError as error:
        (line,) = error.problems
        return line


def test_the_table_here_has_every_scheme() -> None:
    assert NAMED.keys() == SCHEMES.keys()


@pytest.mark.parametrize("name", SCHEMES)
def test_presets_are_named_tensor_by_tensor_or_refused_in_one_line(name: str) -> None:
    chosen, named = scheme(name), 0
    for preset in PRESETS:
        plan = plan_of(preset)
        found = _named(chosen, plan)
        if isinstance(found, dict):
            named += 1
            _assert_named(chosen, plan, found)
        else:
            assert found.startswith(f"names = {name}: "), preset
            assert "has no name for" not in found, f"{preset}: a reason is missing"
    assert named == NAMED[name]


def _assert_named(chosen: Scheme, plan: Plan, in_file: dict[str, Foreign]) -> None:
    assert list(in_file) == [tensor.name for tensor in plan.tensors]
    files = [there.name for there in in_file.values()]
    biases = [fold.name for fold in chosen.folds(plan)]
    assert len({*files, *biases}) == len(files) + len(biases)
    assert not chosen.counters(plan) & set(files)
    for tensor in plan.tensors:
        shape = foreign_shape(tensor, in_file[tensor.name].layout)
        assert sorted(n for n in shape if n > 1) == sorted(n for n in tensor.shape if n > 1)


# From the sources named in each scheme's file.
NAMES = [
    ("timm", "resnet50", "layer2.0.downsample.0.weight", "layer2.0.downsample.0.weight", "OIHW"),
    ("timm-v2", "resnetv2_50", "head.fc.weight", "head.fc.weight", "OIHW"),
    ("mindcv", "resnet50", "layer2.0.downsample.1.weight", "layer2.0.down_sample.1.gamma", "C"),
    ("mindcv", "resnet50", "bn1.running_var", "bn1.moving_variance", "C"),
    ("mindcv", "resnet50", "fc.weight", "classifier.weight", "OI"),
    ("mindcv", "seresnet50", "bn1.weight", "layer0.1.gamma", "C"),
    (
        "mindcv",
        "seresnet50",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.0.weight",
        "OIHW",
    ),
    (
        "mindcv",
        "seresnet50",
        "layer1.0.se.fc1.weight",
        "layer1.0.se_module.conv_reduce.weight",
        "OI",
    ),
    ("mindcv", "seresnet50", "layer1.0.se.fc2.bias", "layer1.0.se_module.conv_expand.bias", "C"),
    ("mindvision", "resnet50", "conv1.weight", "backbone.conv1.features.0.weight", "OIHW"),
    (
        "mindvision",
        "resnet50",
        "layer1.0.downsample.1.bias",
        "backbone.layer1.0.down_sample.features.1.beta",
        "C",
    ),
    ("mindvision", "resnet50", "fc.bias", "head.dense.bias", "C"),
    ("mindspore-tutorial", "resnet50", "bn1.running_mean", "norm.moving_mean", "C"),
    ("mindspore-tutorial", "resnet50", "layer4.2.bn3.weight", "layer4.2.norm3.gamma", "C"),
    ("hf", "resnet50", "conv1.weight", "resnet.embedder.embedder.convolution.weight", "OIHW"),
    (
        "hf",
        "resnet50",
        "layer2.0.bn3.running_mean",
        "resnet.encoder.stages.1.layers.0.layer.2.normalization.running_mean",
        "C",
    ),
    ("hf", "resnet50", "fc.bias", "classifier.1.bias", "C"),
    (
        "hf-flax",
        "resnet50",
        "layer2.0.bn3.running_mean",
        "batch_stats.resnet.encoder.stages.1.layers.0.layer.2.normalization.mean",
        "C",
    ),
    (
        "hf-flax",
        "resnet18",
        "layer1.1.conv2.weight",
        "params.resnet.encoder.stages.0.layers.1.layer.layer_1.convolution.kernel",
        "HWIO",
    ),
    ("keras-hub", "resnet50", "conv1.weight", "conv1_conv.kernel", "HWIO"),
    ("keras-hub", "resnet50d", "conv1.4.weight", "conv2_bn.gamma", "C"),
    ("keras-hub", "resnet50d", "bn1.weight", "conv3_bn.gamma", "C"),
    (
        "keras-hub",
        "resnet50",
        "layer1.0.downsample.0.weight",
        "stack0_block0_0_conv.kernel",
        "HWIO",
    ),
    (
        "keras-hub",
        "resnetv2_50",
        "stages.1.blocks.2.norm1.weight",
        "stack1_block2_pre_activation_bn.gamma",
        "C",
    ),
    ("keras-hub", "resnetv2_50", "stages.1.blocks.2.norm2.bias", "stack1_block2_1_bn.beta", "C"),
    ("keras-hub", "resnetv2_50", "norm.running_var", "post_bn.moving_variance", "C"),
    ("keras-hub", "resnetv2_50", "head.fc.weight", "predictions.kernel", "IO"),
    ("keras-applications", "resnet50", "layer4.2.bn3.bias", "conv5_block3_3_bn.beta", "C"),
    (
        "keras-applications",
        "resnet50",
        "layer1.0.downsample.0.weight",
        "conv2_block1_0_conv.kernel",
        "HWIO",
    ),
    ("flax-imagenet", "resnet50", "bn1.weight", "params.bn_init.scale", "C"),
    (
        "flax-imagenet",
        "resnet50",
        "layer2.0.conv3.weight",
        "params.BottleneckResNetBlock_3.Conv_2.kernel",
        "HWIO",
    ),
    (
        "flax-imagenet",
        "resnet50",
        "layer2.0.downsample.1.running_var",
        "batch_stats.BottleneckResNetBlock_3.norm_proj.var",
        "C",
    ),
    ("flax-imagenet", "resnet18", "fc.weight", "params.Dense_0.kernel", "IO"),
    ("jax-resnet", "resnet50", "conv1.weight", "params.layers_0.ConvBlock_0.Conv_0.kernel", "HWIO"),
    (
        "jax-resnet",
        "resnet50d",
        "layer2.0.downsample.1.weight",
        "params.layers_5.ResNetDSkipConnection_0.ConvBlock_0.Conv_0.kernel",
        "HWIO",
    ),
    ("jax-resnet", "resnet50", "fc.weight", "params.layers_19.kernel", "IO"),
    ("pycls", "resnet50", "layer2.0.bn2.weight", "s2.b1.f.b_bn.weight", "C"),
    ("pycls", "resnet50", "layer2.0.downsample.1.bias", "s2.b1.bn.bias", "C"),
    ("akamaster", "resnet20_cifar", "fc.weight", "linear.weight", "OI"),
    (
        "kuangliu",
        "resnet18_cifar",
        "layer2.0.downsample.0.weight",
        "layer2.0.shortcut.0.weight",
        "OIHW",
    ),
]


@pytest.mark.parametrize(("name", "preset", "canonical", "foreign", "layout"), NAMES)
def test_names_are_those_of_the_project(
    name: str, preset: str, canonical: str, foreign: str, layout: str
) -> None:
    found = scheme(name).in_file(plan_of(preset))[canonical]
    assert (found.name, found.layout) == (foreign, layout)


@pytest.mark.parametrize("case", [NAMES[2], NAMES[-1]])
def test_two_names_swapped_would_be_seen(
    case: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, preset, canonical, *_ = case
    chosen, node = scheme(name), canonical.rpartition(".")[0]

    def swapped(nodes: NumberedNodes) -> Paths:
        found = chosen.paths(nodes)
        other = next(key for key in found.modules if key != node and key[-1] == node[-1])
        modules = {**found.modules, node: found.modules[other], other: found.modules[node]}
        return replace(found, modules=modules)

    monkeypatch.setitem(SCHEMES, name, replace(chosen, paths=swapped))
    _assert_named(scheme(name), plan_of(preset), scheme(name).in_file(plan_of(preset)))
    with pytest.raises(AssertionError):
        test_names_are_those_of_the_project(*case)


def test_only_files_of_flax_have_a_collection_in_their_names() -> None:
    plan = plan_of("resnet50")
    for chosen in SCHEMES.values():
        if chosen.name == "timm-v2" or chosen.name == "akamaster":
            continue
        is_same = chosen.names(plan) == chosen.in_file(plan)
        assert is_same == (chosen.dialect != "flax"), chosen.name


def test_another_framework_has_its_own_words_in_the_same_modules() -> None:
    plan = plan_of("resnet50")
    assert scheme("timm").names(plan, "mindspore")["bn1.weight"].name == "bn1.gamma"
    assert scheme("timm").names(plan, "flax")["conv1.weight"].layout == "HWIO"


def test_somebody_s_own_modules_may_have_what_the_project_has_not() -> None:
    plan = plan_of("resnext50_32x4d")
    assert scheme("hf").names(plan, "torch")
    with pytest.raises(CheckpointError, match="has no groups"):
        scheme("hf").names(plan)
    for preset in ("resnetv2_50", "resnet50d"):  # Nothing like it; one name for three.
        with pytest.raises(CheckpointError, match="names = hf: has no name for"):
            scheme("hf").names(plan_of(preset), "torch")


@pytest.mark.parametrize(
    ("name", "preset", "reason"),
    [
        ("timm", "resnetv2_50", "has post-activation networks only; use timm-v2"),
        ("timm-v2", "resnet50", "has pre-activation networks only; use timm"),
        ("mindcv", "resnetv2_50", "has no such pre-activation network"),
        ("mindcv", "resnet50d", "has one convolution first, but in its SENet"),
        ("mindvision", "resnext50_32x4d", "has no groups of convolutions"),
        ("mindspore-tutorial", "resnet18", "share one norm"),
        ("keras-hub", "resnet18d", "has a convolution in the first shortcut"),
        ("keras-hub", "resnetv2_50d", "it leaves the pool out"),
        ("keras-applications", "resnetv2_50", "a max-pool for a shortcut"),
        ("keras-applications", "resnext50_32x4d", "as a depthwise convolution and a sum"),
        ("hf", "wide_resnet50_2", "has bottlenecks a quarter as wide inside as outside"),
        ("pycls", "seresnet50", "has no squeeze-and-excitation"),
        ("akamaster", "resnet18_cifar", "use kuangliu"),
        ("akamaster", "plain20_cifar", "has a shortcut in every block"),
        ("kuangliu", "resnet20_cifar", "use akamaster"),
        ("kuangliu", "preact110_cifar", "ends its pre-activation networks without a norm"),
    ],
)
def test_a_network_that_the_project_has_not_is_refused(name: str, preset: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        scheme(name).in_file(plan_of(preset))


def test_a_convolution_in_a_shortcut_that_needs_none_is_refused() -> None:
    plan = lower(load_spec("resnet18", ["shortcut=projection_all"]))
    for name in ("torchvision", "hf", "mindcv", "keras-hub", "flax-imagenet", "kuangliu"):
        with pytest.raises(CheckpointError, match="in a shortcut that needs none"):
            scheme(name).names(plan)
    assert scheme("timm").names(plan)


@pytest.mark.parametrize("name", SCHEMES)
def test_conventions_are_fields_of_a_spec_and_then_no_conflict(name: str) -> None:
    chosen = scheme(name)
    for preset in ("resnet50", "resnet18_cifar", "resnet20_cifar", "resnetv2_50"):
        spec = applied(chosen, load_spec(preset))
        assert conflicts(chosen, spec) == []
        assert applied(chosen, spec) == spec


@pytest.mark.parametrize(
    ("name", "preset", "fields"),
    [
        ("torchvision", "resnet50", {}),
        ("torchvision", "resnet50_v1", {"stride_position": "logits"}),
        ("hf", "resnet50_v1", {}),
        ("mindcv", "resnet50", {"stem.pool_padding": "logits"}),
        ("mindcv", "resnet50_cifar", {"stem.stride": "logits"}),
        (
            "flax-imagenet",
            "resnet50",
            {
                "norm.variance": "training",
                "padding": "logits",
                "input.mean": "images",
                "input.std": "images",
            },
        ),
        (
            "keras-applications",
            "resnet50",
            {
                "norm.eps": "logits",
                "norm.decay": "training",
                "norm.variance": "training",
                "stride_position": "logits",
            },
        ),
        ("keras-applications", "resnet50_v1", {"norm.eps": "logits"}),
        (
            "akamaster",
            "resnet20_cifar",
            {"zero_pad_at": "logits", "input.mean": "images", "input.std": "images"},
        ),
    ],
)
def test_conflicts_are_the_fields_that_change_something(
    name: str, preset: str, fields: dict[str, str]
) -> None:
    found = {c.field: c.changes for c in conflicts(scheme(name), load_spec(preset))}
    assert fields.items() <= found.items()
    logits = {field for field, changes in found.items() if changes == "logits"}
    wanted = {field for field, changes in fields.items() if changes == "logits"}
    assert logits - {"stem.pool", "stem.pool_padding"} <= wanted or logits == wanted, found


def test_applied_conventions_reach_the_plan() -> None:
    def pads(name: str) -> list[Any]:
        plan = lower(applied(scheme(name), load_spec("resnet50")))
        ops: dict[str, Any] = {op.name: op for op in plan.ops}
        return [ops[key].pad for key in ("conv1", "maxpool", "layer2.0.conv2")]

    even, uneven = (1, 1, 1, 1), (0, 1, 0, 1)
    assert pads("torchvision") == [(3, 3, 3, 3), even, even]
    assert pads("mindcv") == [(3, 3, 3, 3), uneven, even]
    assert pads("flax-imagenet") == [(3, 3, 3, 3), uneven, uneven]
    assert pads("mindspore-tutorial") == [(2, 3, 2, 3), uneven, uneven]
