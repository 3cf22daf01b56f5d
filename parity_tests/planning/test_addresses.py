"""Where lowering says that nodes stand, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from resnet_spec.ops import Address, Flatten, Residual
from resnet_spec.plan import Plan, walk
from resnet_spec.planning.lowering import lower

SMALL = {"classes": 3, "input": {"size": 32}, "stages": [{"width": 8, "blocks": 2, "stride": 1}]}
STEM, HEAD = Address(None, None, "stem"), Address(None, None, "head")
WHOLE = Address(None, None, "network")


def small(**fields: Any) -> Plan:
    return lower({"name": "small", **SMALL, **fields})


def addresses(plan: Plan) -> dict[str, Address]:
    return {node.name: node.address for node in walk(plan.root)}


def in_block(stage: int, block: int, **parts: str) -> dict[str, Address]:
    """Return the addresses of a block's nodes: body="conv1 bn1", gate=... below its name."""
    found: dict[str, Address] = {}
    for part, names in parts.items():
        found |= {name: Address(stage, block, part) for name in names.split()}  # pyright: ignore[reportArgumentType]
    return found


def below(prefix: str, found: dict[str, Address]) -> dict[str, Address]:
    return {f"{prefix}.{name}": address for name, address in found.items()}


def test_a_post_activation_network_of_basic_blocks() -> None:
    plan = small(
        block="basic",
        stem={"widths": [8]},
        stages=[{"width": 8, "blocks": 1, "stride": 1}, {"width": 16, "blocks": 2, "stride": 2}],
    )
    body = "conv1 bn1 act1 conv2 bn2 add act2"
    assert addresses(plan) == {
        "": WHOLE,
        **dict.fromkeys(("conv1", "bn1", "act1", "maxpool"), STEM),
        "layer1": Address(1, None, "stage"),
        "layer1.0": Address(1, 0, "block"),
        **below("layer1.0", in_block(1, 0, body=body)),
        "layer2": Address(2, None, "stage"),
        "layer2.0": Address(2, 0, "block"),
        **below(
            "layer2.0",
            in_block(2, 0, body=body, shortcut="downsample downsample.0 downsample.1"),
        ),
        "layer2.1": Address(2, 1, "block"),
        **below("layer2.1", in_block(2, 1, body=body)),
        **dict.fromkeys(("global_pool", "fc"), HEAD),
    }


def test_a_pre_activation_network_with_a_deep_stem_and_pooling_shortcuts() -> None:
    plan = small(
        block="bottleneck",
        expansion=4,
        order="pre_activation",
        downsample="avg_pool",
        stem={"widths": [4, 8], "kernel": 3},
        stages=[{"width": 8, "blocks": 1, "stride": 2}],
        dropout=0.1,
    )
    inner = "norm1 act1 conv1 norm2 act2 conv2 norm3 act3 conv3 add"
    stem = ("stem", "stem.conv1", "stem.norm1", "stem.act1", "stem.conv2", "stem.pool")
    head = ("norm", "act", "head", "head.global_pool", "head.drop", "head.fc", "head.flatten")
    shortcut = "downsample downsample.pool downsample.conv"
    assert addresses(plan) == {
        "": WHOLE,
        **dict.fromkeys(stem, STEM),
        "stages": WHOLE,
        "stages.0": Address(1, None, "stage"),
        "stages.0.blocks": Address(1, None, "stage"),
        "stages.0.blocks.0": Address(1, 0, "block"),
        **below("stages.0.blocks.0", in_block(1, 0, body=inner, shortcut=shortcut)),
        **dict.fromkeys(head, HEAD),
    }


def test_gates_deep_stems_and_pooling_shortcuts_of_post_activation_bottlenecks() -> None:
    plan = small(
        block="bottleneck",
        expansion=4,
        squeeze=0.25,
        downsample="avg_pool",
        stem={"widths": [4, 8], "kernel": 3, "pool": False},
        stages=[{"width": 8, "blocks": 1, "stride": 2}],
        stochastic_depth=0.0,
    )
    found = addresses(plan)
    assert {name for name, address in found.items() if address == STEM} == {
        *("conv1", "conv1.0", "conv1.1", "conv1.2", "conv1.3", "bn1", "act1")
    }
    gate = "se se.pool se.fc1 se.act se.fc2 se.gate"
    shortcut = "downsample downsample.0 downsample.1 downsample.2"
    body = "conv1 bn1 act1 conv2 bn2 act2 conv3 bn3 add act3"
    wanted = below("layer1.0", in_block(1, 0, body=body, gate=gate, shortcut=shortcut))
    inside = {name: it for name, it in found.items() if name.startswith("layer1.0.")}
    assert inside == wanted


def test_shortcuts_of_zeros_and_blocks_without_shortcuts() -> None:
    stages = [{"width": 8, "blocks": 1, "stride": 1}, {"width": 16, "blocks": 1, "stride": 2}]
    zeros = addresses(
        small(block="basic", shortcut="zero_pad", stem={"widths": [8]}, stages=stages)
    )
    assert zeros["layer2.0.downsample"] == Address(2, 0, "shortcut")
    plain = addresses(small(block="basic", shortcut="none", stages=stages))
    assert plain["layer2.0"] == Address(2, 0, "block")
    assert plain["layer2.0.act2"] == Address(2, 0, "body")


@pytest.mark.parametrize(
    ("name", "stages", "last"),
    [
        ("resnet18", ("layer1", "layer2", "layer3", "layer4"), (4, 1)),
        ("seresnext101_32x8d", ("layer1", "layer2", "layer3", "layer4"), (4, 2)),
        ("resnetv2_50d", ("stages.0", "stages.1", "stages.2", "stages.3"), (4, 2)),
        ("resnet20_cifar", ("layer1", "layer2", "layer3"), (3, 2)),
    ],
)
def test_stages_and_blocks_of_presets(
    name: str, stages: tuple[str, ...], last: tuple[int, int]
) -> None:
    plan = lower(name)
    assert tuple(stage.name for stage in plan.stages) == stages
    blocks = [node for node in walk(plan.root) if node.address.part == "block"]
    assert blocks[0].address == Address(1, 0, "block")
    assert (blocks[-1].address.stage, blocks[-1].address.block) == last
    assert all(isinstance(block, Residual) for block in blocks)
    assert set(plan.sections) == set(plan.observed)
    assert tuple(dict.fromkeys(plan.sections.values())) == ("stem", *stages, "head")


def test_a_node_made_by_hand_has_no_address() -> None:
    node = Flatten("layer1.0.flatten", (4, 1, 1), (4,))
    with pytest.raises(ValueError, match=r"layer1\.0\.flatten: has no address"):
        assert node.address
