"""timm's weights of the networks that have a preset here, under timm's own names.

Addresses, views and licenses are those of timm 1.0.31 (timm/models/resnet.py and resnetv2.py,
`default_cfgs`; the release's present owner for its former one), at the size of its tests where it
has one. Accuracies are those of its
results/results-imagenet.csv, measured with the very same view; weights that are younger than that
table have none here. torchvision's weights, which timm has as well, are in `torchvision_weights`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from resnet_spec.data.views import View
from resnet_spec.weights.published.entry import HALF, IMAGENET, Published

_RELEASES = "https://github.com/huggingface/pytorch-image-models/releases/download"
_GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1"
_SEMI = "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files"
_WSL = "https://download.pytorch.org/models"

_V224 = View(256, 224, "bicubic")
_V224_95 = View(235, 224, "bicubic")
_V224_100 = View(224, 224, "bicubic")
_V288 = View(288, 288, "bicubic")
_V288_95 = View(303, 288, "bicubic")
_V320 = View(320, 320, "bicubic")
_V448 = View(448, 448, "bicubic")
_BILINEAR = View(256, 224, "bilinear")


class _Row(NamedTuple):
    """A name, the file's, its view, and top-1 and top-5 accuracy in percent."""

    name: str
    file: str
    view: View
    top1: float | None = None
    top5: float | None = None


# ResNet strikes back (Wightman et al. 2021).
_RSB = [
    _Row("resnet10t.c3_in1k", "resnet10t_176_c3-f3215ab1.pth", _V224_95, 68.358, 88.04),
    _Row("resnet14t.c3_in1k", "resnet14t_176_c3-c4ed2c37.pth", _V224_95, 72.254, 90.302),
    _Row("resnet18.a1_in1k", "resnet18_a1_0-d63eafa0.pth", _V288, 73.158, 91.026),
    _Row("resnet18.a2_in1k", "resnet18_a2_0-b61bd467.pth", _V288, 72.372, 90.596),
    _Row("resnet18.a3_in1k", "resnet18_a3_0-40c531c8.pth", _V224_95, 68.254, 88.176),
    _Row("resnet34.a1_in1k", "resnet34_a1_0-46f8f793.pth", _V288, 77.918, 93.766),
    _Row("resnet34.a2_in1k", "resnet34_a2_0-82d47d71.pth", _V288, 77.158, 93.274),
    _Row("resnet34.a3_in1k", "resnet34_a3_0-a20cabb6.pth", _V224_95, 72.97, 91.108),
    _Row("resnet50.a1_in1k", "resnet50_a1_0-14fe96d1.pth", _V288, 81.214, 95.102),
    _Row("resnet50.a1h_in1k", "resnet50_a1h2_176-001a1197.pth", _V224_100, 80.676, 95.306),
    _Row("resnet50.a2_in1k", "resnet50_a2_0-a2746f79.pth", _V288, 80.772, 94.988),
    _Row("resnet50.a3_in1k", "resnet50_a3_0-59cae1ef.pth", _V224_95, 78.048, 93.78),
    _Row("resnet50.b1k_in1k", "resnet50_b1k-532a802a.pth", _V288, 80.706, 95.432),
    _Row("resnet50.b2k_in1k", "resnet50_b2k-1ba180c1.pth", _V288, 80.454, 95.318),
    _Row("resnet50.c1_in1k", "resnet50_c1-5ba5e060.pth", _V288, 80.912, 95.552),
    _Row("resnet50.c2_in1k", "resnet50_c2-d01e05b2.pth", _V288, 80.87, 95.534),
    _Row("resnet50.d_in1k", "resnet50_d-f39db8af.pth", _V288, 80.972, 95.43),
    _Row("resnet50d.a1_in1k", "resnet50d_a1_0-e20cff14.pth", _V288, 81.45, 95.218),
    _Row("resnet50d.a2_in1k", "resnet50d_a2_0-a3adc64d.pth", _V288, 81.164, 95.084),
    _Row("resnet50d.a3_in1k", "resnet50d_a3_0-403fdfad.pth", _V224_95, 78.722, 94.236),
    _Row("resnet101.a1h_in1k", "resnet101_a1h-36d3f2aa.pth", _V288, 82.778, 96.31),
    _Row("resnet101.a1_in1k", "resnet101_a1_0-cdcb52a9.pth", _V288, 82.322, 95.632),
    _Row("resnet101.a2_in1k", "resnet101_a2_0-6edb36c7.pth", _V288, 82.236, 95.73),
    _Row("resnet101.a3_in1k", "resnet101_a3_0-1db14157.pth", _V224_95, 79.814, 94.606),
    _Row("resnet152.a1h_in1k", "resnet152_a1h-dc400468.pth", _V288, 83.45, 96.538),
    _Row("resnet152.a1_in1k", "resnet152_a1_0-2eee8a7a.pth", _V288, 82.732, 95.72),
    _Row("resnet152.a2_in1k", "resnet152_a2_0-b4c6978f.pth", _V288, 82.608, 95.752),
    _Row("resnet152.a3_in1k", "resnet152_a3_0-134d4688.pth", _V224_95, 80.546, 95.0),
    _Row("resnext50_32x4d.a1h_in1k", "resnext50_32x4d_a1h-0146ab0a.pth", _V288, 82.014, 95.934),
    _Row("resnext50_32x4d.a1_in1k", "resnext50_32x4d_a1_0-b5a91a1d.pth", _V288, 81.466, 95.174),
    _Row("resnext50_32x4d.a2_in1k", "resnext50_32x4d_a2_0-efc76add.pth", _V288, 81.304, 95.096),
    _Row("resnext50_32x4d.a3_in1k", "resnext50_32x4d_a3_0-3e450271.pth", _V224_95, 79.268, 94.306),
    _Row("seresnet50.a1_in1k", "seresnet50_a1_0-ffa00869.pth", _V288, 81.102, 95.12),
    _Row("seresnet50.a2_in1k", "seresnet50_a2_0-850de0d9.pth", _V288, 81.106, 95.222),
    _Row("seresnet50.a3_in1k", "seresnet50_a3_0-317ecd56.pth", _V224_95, 77.028, 93.074),
]
# Other recipes of timm.
_OTHERS = [
    _Row("resnet18d.ra2_in1k", "resnet18d_ra2-48a79e06.pth", _V288_95, 73.794, 91.838),
    _Row("resnet34.bt_in1k", "resnet34-43635321.pth", _V288_95, 76.48, 93.354),
    _Row("resnet34d.ra2_in1k", "resnet34d_ra2-f8dcfcaf.pth", _V288_95, 78.436, 94.344),
    _Row("resnet26.bt_in1k", "resnet26-9aa10e23.pth", _V288_95, 76.366, 93.18),
    _Row("resnet26d.bt_in1k", "resnet26d-69e92c46.pth", _V288_95, 77.408, 93.638),
    _Row("resnet50.ram_in1k", "resnet50_ram-a26f946b.pth", _V288_95, 79.976, 95.052),
    _Row("resnet50.am_in1k", "resnet50_am-6c502b37.pth", _V224, 78.998, 94.396),
    _Row("resnet50.ra_in1k", "resnet50_ra-85ebb6e5.pth", _V288_95, 79.836, 94.966),
    _Row("resnet50.bt_in1k", "rw_resnet50-86acaeed.pth", _V288_95, 79.64, 94.892),
    _Row("resnet50d.ra2_in1k", "resnet50d_ra2-464e36ba.pth", _V288_95, 81.356, 95.738),
    _Row("resnet101d.ra2_in1k", "resnet101d_ra2-2803ffab.pth", _V320, 83.016, 96.452),
    _Row("resnet152d.ra2_in1k", "resnet152d_ra2-5cac0439.pth", _V320, 83.684, 96.74),
    _Row("resnet200d.ra2_in1k", "resnet200d_ra2-bdba9bf9.pth", _V320, 83.964, 96.824),
    _Row("wide_resnet50_2.racm_in1k", "wide_resnet50_racm-8234f177.pth", _V288_95, 82.28, 96.064),
    _Row("resnext50_32x4d.ra_in1k", "resnext50_32x4d_ra-d733960d.pth", _V288_95, 80.698, 95.39),
    _Row("resnext50d_32x4d.bt_in1k", "resnext50d_32x4d-103e99f8.pth", _V288_95, 80.664, 95.42),
    _Row("seresnet50.ra2_in1k", "seresnet50_ra_224-8efdb4bb.pth", _V288_95, 81.284, 95.652),
    _Row("seresnet152d.ra2_in1k", "seresnet152d_ra2-04464dd2.pth", _V320, 84.36, 97.04),
    _Row(
        "seresnext50_32x4d.racm_in1k",
        "seresnext50_32x4d_racm-a304a460.pth",
        _V288_95,
        82.196,
        96.148,
    ),
]
_ATTENTION = [
    _Row("resnet26t.ra2_in1k", "resnet26t_256_ra2-6f6fa748.pth", _V320, 78.332, 94.124),
]
_TPU = [
    _Row("resnext101_64x4d.c1_in1k", "resnext101_64x4d_c-0d0e0cc0.pth", _V288, 83.156, 96.374),
    _Row("seresnext101_32x8d.ah_in1k", "seresnext101_32x8d_ah-e6bc4c0a.pth", _V288, 84.186, 96.874),
]
# GluonCV, the bag of tricks (T. He et al. 2018).
_GLUON_ROWS = [
    _Row("resnet18.gluon_in1k", "gluon_resnet18_v1b-0757602b.pth", _V224, 70.838, 89.754),
    _Row("resnet34.gluon_in1k", "gluon_resnet34_v1b-c6d82d59.pth", _V224, 74.578, 91.984),
    _Row("resnet50.gluon_in1k", "gluon_resnet50_v1b-0ebe02e2.pth", _V224, 77.58, 93.718),
    _Row("resnet50d.gluon_in1k", "gluon_resnet50_v1d-818a1b1b.pth", _V224, 79.078, 94.468),
    _Row("resnet101.gluon_in1k", "gluon_resnet101_v1b-3b017079.pth", _V224, 79.31, 94.522),
    _Row("resnet101d.gluon_in1k", "gluon_resnet101_v1d-0f9c8644.pth", _V224, 80.426, 95.024),
    _Row("resnet152.gluon_in1k", "gluon_resnet152_v1b-c1edb0dd.pth", _V224, 79.694, 94.736),
    _Row("resnet152d.gluon_in1k", "gluon_resnet152_v1d-bd354e12.pth", _V224, 80.476, 95.202),
    _Row("resnext50_32x4d.gluon_in1k", "gluon_resnext50_32x4d-e6a097c1.pth", _V224, 79.36, 94.43),
    _Row("resnext101_32x4d.gluon_in1k", "gluon_resnext101_32x4d-b253c8c4.pth", _V224, 80.34, 94.93),
    _Row("resnext101_64x4d.gluon_in1k", "gluon_resnext101_64x4d-f9a8e184.pth", _V224, 80.6, 94.992),
    _Row(
        "seresnext50_32x4d.gluon_in1k", "gluon_seresnext50_32x4d-90cf2d6e.pth", _V224, 79.91, 94.824
    ),
    _Row(
        "seresnext101_32x4d.gluon_in1k",
        "gluon_seresnext101_32x4d-cf52900d.pth",
        _V224,
        80.892,
        95.296,
    ),
    _Row("resnet50c.gluon_in1k", "gluon_resnet50_v1c-48092f55.pth", _V224, 78.012, 93.988),
    _Row("resnet101c.gluon_in1k", "gluon_resnet101_v1c-1f26822a.pth", _V224, 79.542, 94.586),
    _Row("resnet152c.gluon_in1k", "gluon_resnet152_v1c-a3bb0b98.pth", _V224, 79.91, 94.844),
    _Row("resnet50s.gluon_in1k", "gluon_resnet50_v1s-1762acc0.pth", _V224, 78.718, 94.242),
    _Row("resnet101s.gluon_in1k", "gluon_resnet101_v1s-60fe0cc1.pth", _V224, 80.302, 95.15),
    _Row("resnet152s.gluon_in1k", "gluon_resnet152_v1s-dcc41b81.pth", _V224, 81.002, 95.41),
    _Row(
        "seresnext101_64x4d.gluon_in1k",
        "gluon_seresnext101_64x4d-f9926f93.pth",
        _V224,
        80.896,
        95.296,
    ),
]
# Semi-supervised and semi-weakly supervised (Yalniz et al. 2019).
_SEMI_ROWS = [
    _Row(
        "resnet18.fb_ssl_yfcc100m_ft_in1k",
        "semi_supervised_resnet18-d92f0530.pth",
        _BILINEAR,
        72.594,
        91.418,
    ),
    _Row(
        "resnet18.fb_swsl_ig1b_ft_in1k",
        "semi_weakly_supervised_resnet18-118f1556.pth",
        _BILINEAR,
        73.282,
        91.732,
    ),
    _Row(
        "resnet50.fb_ssl_yfcc100m_ft_in1k",
        "semi_supervised_resnet50-08389792.pth",
        _BILINEAR,
        79.234,
        94.826,
    ),
    _Row(
        "resnet50.fb_swsl_ig1b_ft_in1k",
        "semi_weakly_supervised_resnet50-16a12f1b.pth",
        _BILINEAR,
        81.182,
        95.992,
    ),
    _Row(
        "resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k",
        "semi_supervised_resnext50_32x4-ddb3e555.pth",
        _BILINEAR,
        80.338,
        95.398,
    ),
    _Row(
        "resnext50_32x4d.fb_swsl_ig1b_ft_in1k",
        "semi_weakly_supervised_resnext50_32x4-72679e44.pth",
        _BILINEAR,
        82.174,
        96.222,
    ),
    _Row(
        "resnext101_32x4d.fb_ssl_yfcc100m_ft_in1k",
        "semi_supervised_resnext101_32x4-dc43570a.pth",
        _BILINEAR,
        80.924,
        95.734,
    ),
    _Row(
        "resnext101_32x4d.fb_swsl_ig1b_ft_in1k",
        "semi_weakly_supervised_resnext101_32x4-3f87e46b.pth",
        _BILINEAR,
        83.232,
        96.758,
    ),
    _Row(
        "resnext101_32x8d.fb_ssl_yfcc100m_ft_in1k",
        "semi_supervised_resnext101_32x8-2cfe2f8b.pth",
        _BILINEAR,
        81.606,
        96.04,
    ),
    _Row(
        "resnext101_32x8d.fb_swsl_ig1b_ft_in1k",
        "semi_weakly_supervised_resnext101_32x8-b4712904.pth",
        _BILINEAR,
        84.302,
        97.176,
    ),
    _Row(
        "resnext101_32x16d.fb_ssl_yfcc100m_ft_in1k",
        "semi_supervised_resnext101_32x16-15fffa57.pth",
        _BILINEAR,
        81.842,
        96.092,
    ),
    _Row(
        "resnext101_32x16d.fb_swsl_ig1b_ft_in1k",
        "semi_weakly_supervised_resnext101_32x16-f3559a9c.pth",
        _BILINEAR,
        83.336,
        96.846,
    ),
]
# Weakly supervised (Mahajan et al. 2018).
_WSL_ROWS = [
    _Row(
        "resnext101_32x8d.fb_wsl_ig1b_ft_in1k",
        "ig_resnext101_32x8-c38310e5.pth",
        _BILINEAR,
        82.698,
        96.632,
    ),
    _Row(
        "resnext101_32x16d.fb_wsl_ig1b_ft_in1k",
        "ig_resnext101_32x16-c6f796b0.pth",
        _BILINEAR,
        84.166,
        97.198,
    ),
]
# On the Hugging Face hub alone, each in a repository of its own name; no digest is published.
_HUB_ROWS = [
    _Row("resnet18d.ra4_e3600_r224_in1k", "model.safetensors", _V288),
    _Row("resnet34.ra4_e3600_r224_in1k", "model.safetensors", _V288),
    _Row("resnet50d.ra4_e3600_r224_in1k", "model.safetensors", _V288),
    _Row("resnetv2_18.ra4_e3600_r224_in1k", "model.safetensors", _V288),
    _Row("resnetv2_18d.ra4_e3600_r224_in1k", "model.safetensors", _V288),
    _Row("resnetv2_34.ra4_e3600_r224_in1k", "model.safetensors", _V288),
    _Row("resnetv2_34d.ra4_e3600_r224_in1k", "model.safetensors", _V288),
    _Row("resnetv2_34d.ra4_e3600_r384_in1k", "model.safetensors", _V448),
    _Row("resnetv2_50.a1h_in1k", "model.safetensors", _V288, 81.398, 95.726),
    _Row("resnetv2_101.a1h_in1k", "model.safetensors", _V288, 83.002, 96.454),
]

_PERMISSIVE, _NOT_COMMERCIAL = "apache-2.0", "cc-by-nc-4.0"
_GROUPS = (
    (f"{_RELEASES}/v0.1-rsb-weights", _PERMISSIVE, _RSB),
    (f"{_RELEASES}/v0.1-weights", _PERMISSIVE, _OTHERS),
    (f"{_RELEASES}/v0.1-attn-weights", _PERMISSIVE, _ATTENTION),
    (f"{_RELEASES}/v0.1-tpu-weights", _PERMISSIVE, _TPU),
    (_GLUON, _PERMISSIVE, _GLUON_ROWS),
    (_SEMI, _NOT_COMMERCIAL, _SEMI_ROWS),
    (_WSL, _NOT_COMMERCIAL, _WSL_ROWS),
    ("", _PERMISSIVE, _HUB_ROWS),
)


def _published() -> Iterator[Published]:
    for base, license_name, rows in _GROUPS:
        for row in rows:
            is_v2 = row.name.startswith("resnetv2")
            yield Published(
                row.name,
                f"{base}/{row.file}" if base else f"hf:timm/{row.name}/{row.file}",
                "timm-v2" if is_v2 else "timm",
                row.view,
                "timm results-imagenet.csv",
                row.top1,
                row.top5,
                HALF if is_v2 or "ra4_" in row.name else IMAGENET,
                license_name,
            )


TIMM_WEIGHTS = tuple(_published())
