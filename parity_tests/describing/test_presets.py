"""Every published parameter and multiply-accumulate count that a preset claims to have."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from resnet_spec.describing.presets import PRESETS, about, list_presets
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.ops import Conv, Linear
from resnet_spec.planning.costs import count_macs, count_params
from resnet_spec.planning.lowering import lower


class Published(NamedTuple):
    """`macs` is None where no source counts convolutions and linear layers alone."""

    preset: str
    params: int
    macs: int | None
    source: str
    settings: tuple[str, ...] = ()


TORCHVISION = "torchvision weights meta (params); pycls dev/model_complexity.json convention (macs)"
PYCLS = "pycls dev/model_complexity.json"
TIMM = "timm results csv"
JAX_RESNET = "timm / jax-resnet"
HE = "He et al. 2015, section 4.2, shortcut A"
MMPRETRAIN = "mmpretrain configs/resnet/README.md"
B = ("shortcut=projection",)

PUBLISHED = [
    Published("resnet18", 11_689_512, 1_814_074_344, TORCHVISION),
    Published("resnet34", 21_797_672, 3_663_762_408, TORCHVISION),
    Published("resnet50", 25_557_032, 4_089_185_256, TORCHVISION),
    Published("resnet101", 44_549_160, 7_801_406_440, TORCHVISION),
    Published("resnet152", 60_192_808, 11_513_627_624, TORCHVISION),
    Published("resnet50_v1", 25_557_032, 3_857_974_248, "He et al. 2015, table 1 (3.8 G)"),
    Published("resnext50_32x4d", 25_028_904, 4_230_480_872, TORCHVISION),
    Published("resnext101_32x4d", 44_177_704, 7_969_997_800, PYCLS),
    Published("resnext101_32x8d", 88_791_336, 16_414_016_488, TORCHVISION),
    Published("resnext101_64x4d", 83_455_272, None, "torchvision weights meta"),
    Published("wide_resnet50_2", 68_883_240, 11_398_022_120, TORCHVISION),
    Published("wide_resnet101_2", 126_886_696, None, "torchvision weights meta"),
    Published("resnet18d", 11_708_744, 2_053_714_920, JAX_RESNET),
    Published("resnet50d", 25_576_264, 4_328_825_832, JAX_RESNET),
    Published("resnet50t", 25_573_728, None, TIMM),
    Published("resnet101d", 44_568_392, 8_041_047_016, JAX_RESNET),
    Published("resnet26", 15_995_176, 2_342_257_640, TIMM),
    Published("resnet200", 64_673_832, 15_007_482_856, TIMM),
    Published("seresnet18", 11_779_624, None, TIMM),
    Published("seresnet50", 28_088_024, None, TIMM),
    Published("seresnext50_32x4d", 27_559_896, None, TIMM),
    Published("resnetv2_18", 11_687_720, None, TIMM),
    Published("resnetv2_50", 25_549_352, None, TIMM),
    Published("resnetv2_101", 44_541_480, None, TIMM),
    Published("resnet20_cifar", 269_722, 40_551_050, HE),
    Published("resnet32_cifar", 464_154, 68_862_602, HE),
    Published("resnet44_cifar", 658_586, 97_174_154, HE),
    Published("resnet56_cifar", 853_018, 125_485_706, HE),
    Published("resnet110_cifar", 1_727_962, 252_887_690, HE),
    Published("resnet1202_cifar", 19_421_274, 2_829_238_922, HE),
    Published("resnet20_cifar", 272_474, 40_813_194, "chenyaofo/pytorch-cifar-models", B),
    Published("resnet32_cifar", 466_906, 69_124_746, "chenyaofo/pytorch-cifar-models", B),
    Published("resnet44_cifar", 661_338, 97_436_298, "chenyaofo/pytorch-cifar-models", B),
    Published("resnet56_cifar", 855_770, 125_747_850, PYCLS, B),
    Published("resnet110_cifar", 1_730_714, 253_149_834, PYCLS, B),
    Published("resnet1202_cifar", 19_424_026, 2_829_501_066, "by the rule of the rows above", B),
    Published("resnet18_cifar", 11_173_962, 555_422_730, MMPRETRAIN),
    Published("resnet34_cifar", 21_282_122, 1_159_402_506, MMPRETRAIN),
    Published("resnet50_cifar", 23_520_842, 1_297_829_898, MMPRETRAIN),
    Published("resnet101_cifar", 42_512_970, 2_509_983_754, MMPRETRAIN),
    Published("resnet152_cifar", 58_156_618, 3_722_137_610, MMPRETRAIN),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.preset}{''.join(row.settings)}")
def test_published_counts_are_reproduced_exactly(row: Published) -> None:
    plan = lower(load_spec(row.preset, row.settings))
    assert count_params(plan.tensors) == row.params, row.source
    if row.macs is not None:
        assert count_macs(plan.ops) == row.macs, row.source


@pytest.mark.parametrize(
    ("preset", "millions"),
    [
        # Zagoruyko & Komodakis 2016, tables 4 to 6.
        ("wrn_40_4_cifar", "8.9"),
        ("wrn_16_8_cifar", "11.0"),
        ("wrn_16_4_cifar", "2.7"),
        ("wrn_28_10_cifar", "36.5"),
        # He et al. 2016, table 4, and Zagoruyko & Komodakis 2016, table 5.
        ("preact110_cifar", "1.7"),
        ("preact164_cifar", "1.7"),
        # Xie et al. 2017, table 7.
        ("resnext29_8x64d_cifar", "34.4"),
        # He et al. 2015, table 6.
        ("resnet20_cifar", "0.3"),
        ("resnet110_cifar", "1.7"),
        ("resnet1202_cifar", "19.4"),
    ],
)
def test_counts_that_papers_give_in_millions(preset: str, millions: str) -> None:
    assert f"{count_params(lower(load_spec(preset)).tensors) / 1e6:.1f}" == millions


def test_the_1001_layer_network_has_the_published_number_of_weights() -> None:
    """He et al. 2016 give 10.2 M, which leaves out the norms' scales and shifts (0.15 M)."""
    ops = lower(load_spec("preact1001_cifar")).ops
    weights = (t for op in ops if isinstance(op, Conv | Linear) for t in op.tensors)
    assert f"{count_params(weights) / 1e6:.1f}" == "10.2"


@pytest.mark.parametrize(
    ("preset", "depth"),
    [
        *((name, int(name.removeprefix("resnet"))) for name in PRESETS if name[6:].isdecimal()),
        *((f"resnet{n}_cifar", n) for n in (20, 32, 44, 56, 110, 1202, 18, 50, 152)),
        *((f"plain{n}_cifar", n) for n in (20, 32, 44, 56)),
        *((f"preact{n}_cifar", n) for n in (110, 164, 1001)),
        ("resnext29_8x64d_cifar", 29),
        ("wrn_28_10_cifar", 26),  # 28 with the two projections among its layers
        ("resnetv2_101", 101),
    ],
)
def test_the_number_in_a_name_counts_the_layers_outside_shortcuts(preset: str, depth: int) -> None:
    ops = lower(load_spec(preset)).ops
    layers = [op for op in ops if isinstance(op, Conv | Linear) and "downsample" not in op.name]
    assert len(layers) == depth


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_lowers_to_its_classes(name: str) -> None:
    spec = load_spec(name)
    plan = lower(spec)
    is_cifar = name.endswith("_cifar")
    assert plan.name == name
    assert plan.ops[-1].out_shape == ((10,) if is_cifar else (1000,))
    assert plan.input.height == plan.input.width == (32 if is_cifar else 224)
    assert about(name)


def test_no_two_presets_are_the_same_network() -> None:
    networks = {name: load_spec(name, ["name=same"]) for name in list_presets()}
    assert len(set(networks.values())) == len(networks)


@pytest.mark.parametrize(
    ("name", "widths", "downsample"),
    [
        ("resnet50c", (32, 32, 64), "conv"),
        ("resnet50d", (32, 32, 64), "avg_pool"),
        ("resnet50t", (24, 32, 64), "avg_pool"),
        ("resnet50s", (64, 64, 128), "conv"),
    ],
)
def test_the_lettered_stems_are_timm_s(name: str, widths: tuple[int, ...], downsample: str) -> None:
    spec = load_spec(name)
    assert (spec.stem.widths, spec.stem.kernel) == (widths, 3)
    assert spec.downsample == downsample
