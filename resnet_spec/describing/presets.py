"""The networks that have names: each is a few parts, and a part is a few fields of a spec.

Names are timm's and torchvision's where they exist. `spec_files.load_spec` merges the parts of a
name from left to right (tables merge, lists replace) into a `Spec`. Imports nothing of the project,
so that listing names costs nothing.

Sources, by the short names used below:
    He 2015       Deep Residual Learning for Image Recognition, arXiv 1512.03385
    He 2016       Identity Mappings in Deep Residual Networks, arXiv 1603.05027
    Zagoruyko     Wide Residual Networks, arXiv 1605.07146
    Xie           Aggregated Residual Transformations (ResNeXt), arXiv 1611.05431
    Hu            Squeeze-and-Excitation Networks, arXiv 1709.01507
    T. He         Bag of Tricks for Image Classification, arXiv 1812.01187
    timm          timm/models/resnet.py and resnetv2.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

Fields = dict[str, Any]


class Part(NamedTuple):
    """Fields that one idea sets, and the idea in a few words with its source."""

    about: str
    fields: Fields


def _stages(first_width: int, blocks: tuple[int, ...]) -> list[Fields]:
    """Return stages whose width doubles and whose resolution halves after the first one."""
    return [
        {"width": first_width * 2**i, "blocks": count, "stride": 1 if i == 0 else 2}
        for i, count in enumerate(blocks)
    ]


# He 2015, table 1; 10, 14 and 26 are timm's, 200 is He 2016, table 5.
_IMAGENET_BLOCKS = {
    10: ("basic", (1, 1, 1, 1)),
    14: ("bottleneck", (1, 1, 1, 1)),
    18: ("basic", (2, 2, 2, 2)),
    26: ("bottleneck", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}


def _net(depth: int) -> Part:
    """Return the ImageNet network of `depth` layers."""
    block, blocks = _IMAGENET_BLOCKS[depth]
    about = f"{block} blocks {'-'.join(map(str, blocks))}"
    return Part(about, {"block": block, "stages": _stages(64, blocks)})


def _deep_stem(*widths: int) -> Fields:
    return {"stem": {"widths": list(widths), "kernel": 3}}


_C = Part("deep stem (T. He: C)", _deep_stem(32, 32, 64))
_D = Part(
    "deep stem, average-pool shortcut (T. He: D)",
    {**_C.fields, "downsample": "avg_pool"},
)
_T = Part(
    "tiered deep stem, average-pool shortcut (timm: t)",
    {**_deep_stem(24, 32, 64), "downsample": "avg_pool"},
)
_S = Part("wide deep stem (timm: s)", _deep_stem(64, 64, 128))
_V1 = Part("stride on the first 1x1 (He 2015)", {"stride_position": "1x1"})
_V2 = Part("pre-activation (He 2016)", {"order": "pre_activation"})
_SE = Part("squeeze-and-excitation 1/16 (Hu)", {"squeeze": 0.0625})
_WIDE = Part("inner widths doubled (Zagoruyko)", {"width_per_group": 128})


def _groups(groups: int, width: int) -> Part:
    about = f"{groups} groups of width {width} (Xie)"
    return Part(about, {"groups": groups, "width_per_group": width})


def _cifar_images(stem_width: int) -> Fields:
    """Return input, classes and stem of the networks for 32 px (He 2015, section 4.2)."""
    return {
        "classes": 10,
        "input": {"size": 32},
        "stem": {"widths": [stem_width], "kernel": 3, "stride": 1, "pool": False},
    }


_CIFAR_STEM = Part("3x3 stem for 32 px, 10 classes", _cifar_images(64))
_ZERO_PAD = Part("shortcut A (He 2015)", {"shortcut": "zero_pad"})
_PLAIN = Part("no shortcuts (He 2015)", {"shortcut": "none"})


def _cifar(depth: int, block: str = "basic", widen: int = 1, other_layers: int = 2) -> Part:
    """Return a three-stage CIFAR network; `other_layers` are those of `depth` outside the body."""
    layers_per_block = 2 if block == "basic" else 3
    count, rest = divmod(depth - other_layers, 3 * layers_per_block)
    assert rest == 0, f"no CIFAR network of {block} blocks has {depth} layers"
    about = f"CIFAR, {block} blocks {count}-{count}-{count}, widths {16 * widen}-{64 * widen}"
    stages = _stages(16 * widen, (count,) * 3)
    return Part(about, {**_cifar_images(16), "block": block, "stages": stages})


def _wide(depth: int, widen: int) -> Part:
    """Return a wide network (Zagoruyko, table 1); its depth counts the projections as one more."""
    return _cifar(depth, widen=widen, other_layers=4)


_NEXT_29 = Part(
    "CIFAR, bottleneck blocks 3-3-3 (Xie, section 5.3)",
    {**_cifar_images(64), "block": "bottleneck", "stages": _stages(64, (3, 3, 3))},
)

PRESETS: dict[str, tuple[Part, ...]] = {
    "resnet10": (_net(10),),
    "resnet14": (_net(14),),
    "resnet18": (_net(18),),
    "resnet26": (_net(26),),
    "resnet34": (_net(34),),
    "resnet50": (_net(50),),
    "resnet101": (_net(101),),
    "resnet152": (_net(152),),
    "resnet200": (_net(200),),
    "resnet50c": (_net(50), _C),
    "resnet101c": (_net(101), _C),
    "resnet152c": (_net(152), _C),
    "resnet18d": (_net(18), _D),
    "resnet26d": (_net(26), _D),
    "resnet34d": (_net(34), _D),
    "resnet50d": (_net(50), _D),
    "resnet101d": (_net(101), _D),
    "resnet152d": (_net(152), _D),
    "resnet200d": (_net(200), _D),
    "resnet10t": (_net(10), _T),
    "resnet14t": (_net(14), _T),
    "resnet26t": (_net(26), _T),
    "resnet50t": (_net(50), _T),
    "resnet50s": (_net(50), _S),
    "resnet101s": (_net(101), _S),
    "resnet152s": (_net(152), _S),
    "resnet50_v1": (_net(50), _V1),
    "resnet101_v1": (_net(101), _V1),
    "resnet152_v1": (_net(152), _V1),
    "resnext50_32x4d": (_net(50), _groups(32, 4)),
    "resnext50d_32x4d": (_net(50), _groups(32, 4), _D),
    "resnext101_32x4d": (_net(101), _groups(32, 4)),
    "resnext101_32x8d": (_net(101), _groups(32, 8)),
    "resnext101_32x16d": (_net(101), _groups(32, 16)),
    "resnext101_64x4d": (_net(101), _groups(64, 4)),
    "wide_resnet50_2": (_net(50), _WIDE),
    "wide_resnet101_2": (_net(101), _WIDE),
    "seresnet18": (_net(18), _SE),
    "seresnet34": (_net(34), _SE),
    "seresnet50": (_net(50), _SE),
    "seresnet101": (_net(101), _SE),
    "seresnet152": (_net(152), _SE),
    "seresnet152d": (_net(152), _SE, _D),
    "seresnext50_32x4d": (_net(50), _SE, _groups(32, 4)),
    "seresnext101_32x4d": (_net(101), _SE, _groups(32, 4)),
    "seresnext101_32x8d": (_net(101), _SE, _groups(32, 8)),
    "seresnext101_64x4d": (_net(101), _SE, _groups(64, 4)),
    "resnetv2_18": (_net(18), _V2),
    "resnetv2_34": (_net(34), _V2),
    "resnetv2_50": (_net(50), _V2),
    "resnetv2_101": (_net(101), _V2),
    "resnetv2_152": (_net(152), _V2),
    "resnetv2_18d": (_net(18), _V2, _D),
    "resnetv2_34d": (_net(34), _V2, _D),
    "resnetv2_50d": (_net(50), _V2, _D),
    "resnetv2_101d": (_net(101), _V2, _D),
    "resnetv2_152d": (_net(152), _V2, _D),
    "resnetv2_50t": (_net(50), _V2, _T),
    "resnet20_cifar": (_cifar(20), _ZERO_PAD),
    "resnet32_cifar": (_cifar(32), _ZERO_PAD),
    "resnet44_cifar": (_cifar(44), _ZERO_PAD),
    "resnet56_cifar": (_cifar(56), _ZERO_PAD),
    "resnet110_cifar": (_cifar(110), _ZERO_PAD),
    "resnet1202_cifar": (_cifar(1202), _ZERO_PAD),
    "plain20_cifar": (_cifar(20), _PLAIN),
    "plain32_cifar": (_cifar(32), _PLAIN),
    "plain44_cifar": (_cifar(44), _PLAIN),
    "plain56_cifar": (_cifar(56), _PLAIN),
    "preact110_cifar": (_cifar(110), _V2),
    "preact164_cifar": (_cifar(164, "bottleneck"), _V2),
    "preact1001_cifar": (_cifar(1001, "bottleneck"), _V2),
    "wrn_16_4_cifar": (_wide(16, 4), _V2),
    "wrn_16_8_cifar": (_wide(16, 8), _V2),
    "wrn_28_10_cifar": (_wide(28, 10), _V2),
    "wrn_40_4_cifar": (_wide(40, 4), _V2),
    "resnext29_8x64d_cifar": (_NEXT_29, _groups(8, 64)),
    "resnet18_cifar": (_net(18), _CIFAR_STEM),
    "resnet34_cifar": (_net(34), _CIFAR_STEM),
    "resnet50_cifar": (_net(50), _CIFAR_STEM),
    "resnet101_cifar": (_net(101), _CIFAR_STEM),
    "resnet152_cifar": (_net(152), _CIFAR_STEM),
}


def list_presets() -> list[str]:
    """Return the names of all presets: ImageNet networks first, then those for CIFAR."""
    return list(PRESETS)


def about(name: str) -> str:
    """Return what a preset consists of, in one line."""
    return "; ".join(part.about for part in PRESETS[name])
