"""The plan: canonical names, shapes, strides, padding, initial values, all written out by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import SpecError
from resnet_spec.ops import (
    AvgPool,
    Chain,
    Conv,
    Dropout,
    DropPath,
    Gate,
    Init,
    Linear,
    MaxPool,
    Norm,
    Op,
    Pad,
    PadChannels,
    Residual,
)
from resnet_spec.plan import Plan, walk
from resnet_spec.planning.lowering import lower

NORM = ("weight", "bias", "running_mean", "running_var")


def plan_of(base: str, *settings: str, size: int | tuple[int, int] | None = None) -> Plan:
    return lower(load_spec(base, settings), size)


def op(plan: Plan, name: str) -> Any:
    return next(op for op in plan.ops if op.name == name)


def conv(plan: Plan, name: str) -> Conv:
    found = op(plan, name)
    assert isinstance(found, Conv)
    return found


def names(plan: Plan) -> list[str]:
    return [tensor.name for tensor in plan.tensors]


def _norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in NORM]


def _basic_block(name: str, has_projection: bool) -> list[str]:
    body = [f"{name}.conv1.weight", *_norm(f"{name}.bn1")]
    body += [f"{name}.conv2.weight", *_norm(f"{name}.bn2")]
    projection = [f"{name}.downsample.0.weight", *_norm(f"{name}.downsample.1")]
    return body + (projection if has_projection else [])


def test_resnet18_has_exactly_torchvision_s_names() -> None:
    expected = ["conv1.weight", *_norm("bn1")]
    for stage in (1, 2, 3, 4):
        expected += _basic_block(f"layer{stage}.0", has_projection=stage > 1)
        expected += _basic_block(f"layer{stage}.1", has_projection=False)
    expected += ["fc.weight", "fc.bias"]
    assert names(plan_of("resnet18")) == expected


def test_names_of_deep_stem_average_pool_and_gate_are_timm_s() -> None:
    found = names(plan_of("seresnet152d"))
    stem = ["conv1.0.weight", *_norm("conv1.1"), "conv1.3.weight", *_norm("conv1.4")]
    assert found[:16] == [*stem, "conv1.6.weight", *_norm("bn1"), "layer1.0.conv1.weight"]
    for name in (
        "layer1.0.downsample.1.weight",  # at stride 1 timm keeps the pool's place
        "layer2.0.downsample.1.weight",
        "layer2.0.downsample.2.running_mean",
        "layer2.1.se.fc1.weight",
        "layer2.1.se.fc2.bias",
    ):
        assert name in found


def test_names_of_the_pre_activation_order_are_timm_s() -> None:
    found = names(plan_of("resnetv2_50d"))
    assert found[0] == "stem.conv1.weight"
    for name in (
        "stem.norm1.weight",
        "stem.conv3.weight",
        "stages.0.blocks.0.norm1.running_var",
        "stages.3.blocks.2.conv3.weight",
        "stages.1.blocks.0.downsample.conv.weight",
        "norm.bias",
        "head.fc.weight",
        "head.fc.bias",
    ):
        assert name in found
    assert not any("downsample.norm" in name or "downsample.bn" in name for name in found)
    assert names(plan_of("resnetv2_50"))[0] == "stem.conv.weight"
    assert conv(plan_of("resnetv2_50"), "head.fc").weight.shape == (1000, 2048, 1, 1)


@pytest.mark.parametrize("preset", ["resnet50", "resnetv2_50", "resnet20_cifar", "plain20_cifar"])
def test_every_name_is_used_once_and_lies_below_its_parent(preset: str) -> None:
    plan = plan_of(preset)
    nodes = [node.name for node in walk(plan.root)]
    assert len(set(nodes)) == len(nodes)
    assert len(set(names(plan))) == len(plan.tensors)
    for node in walk(plan.root):
        if isinstance(node, Chain | Gate):
            prefix = f"{node.name}." if node.name else ""
            assert all(child.name == f"{prefix}{child.key}" for child in node.children)


def test_the_imagenet_stem_and_stages_have_their_shapes() -> None:
    plan = plan_of("resnet50")
    stem = conv(plan, "conv1")
    assert (stem.kernel, stem.stride, stem.pad) == ((7, 7), 2, (3, 3, 3, 3))
    assert stem.weight.shape == (64, 3, 7, 7)
    assert stem.out_shape == (64, 112, 112)
    pool = op(plan, "maxpool")
    assert isinstance(pool, MaxPool)
    assert (pool.kernel, pool.stride, pool.pad) == (3, 2, (1, 1, 1, 1))
    ends = [op(plan, f"layer{i}.0.add").out_shape for i in (1, 2, 3, 4)]
    assert ends == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]


def test_the_stride_sits_where_the_spec_says() -> None:
    def strides(preset: str) -> list[int]:
        return [conv(plan_of(preset), f"layer2.0.conv{i}").stride for i in (1, 2, 3)]

    assert strides("resnet50") == [1, 2, 1]
    assert strides("resnet50_v1") == [2, 1, 1]


def test_groups_and_their_width_follow_torchvision() -> None:
    grouped = conv(plan_of("resnext50_32x4d"), "layer1.0.conv2")
    assert (grouped.groups, grouped.weight.shape) == (32, (128, 4, 3, 3))
    assert conv(plan_of("wide_resnet50_2"), "layer1.0.conv2").weight.shape == (128, 128, 3, 3)
    cifar = conv(plan_of("resnext29_8x64d_cifar"), "layer1.0.conv2")
    assert (cifar.groups, cifar.weight.shape) == (8, (512, 64, 3, 3))


@pytest.mark.parametrize(("size", "pads"), [(224, (2, 3)), (225, (3, 3)), (32, (2, 3))])
def test_same_padding_is_tensorflow_s(size: int, pads: tuple[int, int]) -> None:
    """tensorflow.org/api_docs/python/tf/nn, "SAME": the odd pixel goes to the end."""
    plan = plan_of("resnet18", "padding=same", size=size)
    assert conv(plan, "conv1").pad == pads * 2
    assert conv(plan, "conv1").out_shape[1] == -(-size // 2)
    assert conv(plan, "layer1.0.conv1").pad == (1, 1, 1, 1), "even at stride 1"


@pytest.mark.parametrize(
    ("settings", "first", "pool", "strided"),
    [
        (["stem.pool_padding=same"], (3, 3, 3, 3), (0, 1, 0, 1), (1, 1, 1, 1)),
        (["stem.padding=same"], (2, 3, 2, 3), (1, 1, 1, 1), (1, 1, 1, 1)),
        (["padding=same", "stem.padding=explicit"], (3, 3, 3, 3), (0, 1, 0, 1), (0, 1, 0, 1)),
        (["padding=same", "stem.pool_padding=explicit"], (2, 3, 2, 3), (1, 1, 1, 1), (0, 1, 0, 1)),
    ],
)
def test_the_stem_may_be_padded_by_rules_of_its_own(
    settings: list[str], first: Pad, pool: Pad, strided: Pad
) -> None:
    plan = plan_of("resnet18", *settings)
    assert conv(plan, "conv1").pad == first
    assert op(plan, "maxpool").pad == pool
    assert conv(plan, "layer2.0.conv1").pad == strided
    later = plan_of("resnetv2_18d", *settings)
    assert conv(later, "stem.conv1").pad == ((1, 1, 1, 1) if first[0] == 3 else (0, 1, 0, 1))
    assert op(later, "stem.pool").pad == pool


def test_same_padding_of_the_pool_is_uneven_on_even_sizes() -> None:
    assert op(plan_of("resnet18", "padding=same", size=224), "maxpool").pad == (0, 1, 0, 1)
    assert op(plan_of("resnet18", "padding=explicit", size=224), "maxpool").pad == (1, 1, 1, 1)


def test_heights_and_widths_are_worked_out_apart() -> None:
    plan = plan_of("resnet18", size=(64, 97))
    assert (plan.input.height, plan.input.width) == (64, 97)
    assert conv(plan, "conv1").out_shape == (64, 32, 49)
    assert op(plan, "layer4.1.add").out_shape == (512, 2, 4)


@pytest.mark.parametrize(("at", "channels"), [("end", (0, 16)), ("both", (8, 8))])
def test_shortcut_a_pads_channels(at: str, channels: tuple[int, int]) -> None:
    plan = plan_of("resnet20_cifar", f"zero_pad_at={at}", size=33)
    pad = op(plan, "layer2.0.downsample")
    assert isinstance(pad, PadChannels)
    assert (pad.stride, pad.channels) == (2, channels)
    assert (pad.in_shape, pad.out_shape) == ((16, 33, 33), (32, 17, 17))


def _residuals(plan: Plan) -> dict[str, Residual]:
    return {node.name: node for node in walk(plan.root) if isinstance(node, Residual)}


def test_shortcut_kinds() -> None:
    by_default = _residuals(plan_of("resnet18"))
    assert by_default["layer1.0"].shortcut is None
    assert isinstance(by_default["layer2.0"].shortcut, Chain)
    everywhere = _residuals(plan_of("resnet18", "shortcut=projection_all"))
    assert len(everywhere) == 8
    assert all(node.shortcut is not None for node in everywhere.values())
    assert not _residuals(plan_of("resnet18", "shortcut=none"))


def test_average_pool_shortcut_covers_odd_sizes() -> None:
    pool = op(plan_of("resnet50d", size=36), "layer2.0.downsample.0")
    assert isinstance(pool, AvgPool)
    assert (pool.in_shape, pool.out_shape) == ((256, 9, 9), (256, 5, 5))
    assert (pool.kernel, pool.stride, pool.pad) == (2, 2, (0, 1, 0, 1))


def test_the_pre_activation_split_comes_after_norm_and_relu() -> None:
    blocks = _residuals(plan_of("preact110_cifar"))
    first, second = blocks["stages.1.blocks.0"], blocks["stages.1.blocks.1"]
    assert [node.key for node in first.entry] == ["norm1", "act1"]
    assert [node.key for node in first.body] == ["conv1", "norm2", "act2", "conv2"]
    assert isinstance(first.shortcut, Chain)
    assert second.shortcut is None
    assert first.tail == second.tail == ()


def test_post_activation_block_order() -> None:
    block = _residuals(plan_of("seresnet50"))["layer2.0"]
    keys = ["conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "se"]
    assert [node.key for node in block.body] == keys
    assert block.entry == ()
    assert [node.key for node in block.tail] == ["act3"]
    assert conv(plan_of("seresnet50"), "layer2.0.se.fc1").weight.shape == (32, 512, 1, 1)


def test_dilation_keeps_the_resolution_and_starts_after_the_first_convolution() -> None:
    """torchvision's replace_stride_with_dilation: the first block keeps the dilation before."""
    plan = plan_of("resnet50", "stages[3].stride=1", "stages[3].dilation=2")
    assert op(plan, "layer4.2.add").out_shape == (2048, 14, 14)
    first, later = conv(plan, "layer4.0.conv2"), conv(plan, "layer4.1.conv2")
    assert (first.dilation, first.pad) == (1, (1, 1, 1, 1))
    assert (later.dilation, later.pad) == (2, (2, 2, 2, 2))


def test_norms_carry_the_spec_s_numbers() -> None:
    plan = plan_of("resnet18", "norm.eps=1e-3", "norm.decay=0.7", "norm.variance=biased")
    norms = [op for op in plan.ops if isinstance(op, Norm)]
    assert len(norms) == 20
    assert {(n.eps, n.decay, n.variance, n.sync) for n in norms} == {
        (1e-3, 0.7, "biased", "global")
    }


@pytest.mark.parametrize("sync", ["global", "replica"])
def test_norm_sync_reaches_every_norm(sync: str) -> None:
    """The plan is where it shows: with one process, both mean the same to every backend."""
    norms = [op for op in plan_of("resnet18", f"norm.sync={sync}").ops if isinstance(op, Norm)]
    assert [norm.sync for norm in norms] == [sync] * 20


def test_no_other_norm_sync_is_taken() -> None:
    with pytest.raises(SpecError, match=r"norm\.sync = .*: must be 'global' or 'replica'"):
        load_spec("resnet18", ["norm.sync=local"])


def test_zero_init_reaches_the_last_norm_of_each_block_only() -> None:
    plan = plan_of("resnet50", "zero_init_last_norm=true")
    zero = [n.name for n in plan.ops if isinstance(n, Norm) and n.scale.init.value == 0.0]
    assert len(zero) == 16
    assert all(re.fullmatch(r"layer\d\.\d\.bn3", name) for name in zero)


@pytest.mark.parametrize(
    ("init", "kind", "variance"),
    [
        ("he_fan_out", "normal", 2 / (128 * 9)),
        ("he_fan_in", "normal", 2 / (64 * 9)),
        ("lecun", "truncated_normal", 1 / (64 * 9)),
    ],
)
def test_initial_deviations_follow_the_fans(init: str, kind: str, variance: float) -> None:
    weight = conv(plan_of("resnet18", f"init={init}"), "layer2.0.conv1").weight
    assert weight.init.kind == kind
    assert weight.init.value == pytest.approx(variance**0.5, rel=1e-15)


def test_the_classifier_starts_as_torch_s_linear_layer() -> None:
    """torch.nn.Linear: uniform between plus and minus 1 / sqrt(in)."""
    fc = op(plan_of("resnet18"), "fc")
    assert isinstance(fc, Linear)
    assert fc.weight.init == fc.bias.init == Init("uniform", 512**-0.5)


def test_stochastic_depth_grows_from_nothing_to_the_rate() -> None:
    plan = plan_of("resnet110_cifar", "stochastic_depth=0.5")
    rates = [op.rate for op in plan.ops if isinstance(op, DropPath)]
    assert len(rates) == 53, "the first of 54 blocks is never dropped"
    assert rates == [0.5 * i / 53 for i in range(1, 54)]
    assert plan.noises == tuple(op for op in plan.ops if isinstance(op, DropPath))


@pytest.mark.parametrize("preset", ["resnet18", "resnetv2_18"])
def test_dropout_stands_before_the_classifier(preset: str) -> None:
    plan = plan_of(preset, "dropout=0.2")
    ops: tuple[Op, ...] = plan.ops
    place = next(i for i, op in enumerate(ops) if isinstance(op, Dropout))
    assert ops[place + 1].key == "fc"


@pytest.mark.parametrize("preset", ["resnet18", "resnetv2_18d", "resnet50", "seresnet50"])
@pytest.mark.parametrize("size", [1, 7, (1, 300)])
def test_tiny_images_never_lose_their_last_pixel(preset: str, size: int | tuple[int, int]) -> None:
    for op_ in plan_of(preset, size=size).ops:
        assert min(op_.out_shape) >= 1


@pytest.mark.parametrize("size", [0, -3, (32, 0)])
def test_a_size_that_is_not_positive_is_refused(size: int | tuple[int, int]) -> None:
    with pytest.raises(SpecError, match=r"input_size = .*: must be >= 1"):
        plan_of("resnet18", size=size)


def test_lowering_is_a_function_of_the_spec() -> None:
    spec = load_spec("resnext50d_32x4d")
    assert lower(spec).root == lower(spec).root
    assert lower(spec).root != lower(spec, 192).root


@pytest.mark.parametrize("size", ["64", "classes=5", (8, 8, 3), (8.0, 8)], ids=repr)
def test_an_input_size_of_another_kind_is_refused(size: Any) -> None:
    with pytest.raises(SpecError, match=r"input_size = .*whole number or"):
        lower("resnet10", size)
