"""The table of published weights against the packages it was taken from.

Skipped, saying so, where they are absent.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from test_packages import package

from resnet_spec.describing.presets import PRESETS
from resnet_spec.weights.published import PUBLISHED, Published


def of(*schemes: str) -> dict[str, Published]:
    return {it.name: it for it in PUBLISHED.values() if it.names in schemes}


TAGS = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}


def test_torchvision() -> None:
    models = package("torchvision.models")
    theirs: dict[str, Any] = {
        f"{kind.removesuffix('_Weights').lower()}.{TAGS[weights.name]}": weights
        for kind in dir(models)
        if kind.endswith("_Weights") and kind.startswith(("ResNet", "ResNeXt", "Wide_ResNet"))
        for weights in getattr(models, kind)
    }
    ours = of("torchvision")
    assert ours.keys() == theirs.keys()
    for name, weights in theirs.items():
        entry, images = ours[name], weights.transforms()
        metrics = weights.meta["_metrics"]["ImageNet-1K"]
        assert entry.address == weights.url
        assert (entry.top1, entry.top5) == (metrics["acc@1"], metrics["acc@5"])
        assert [entry.view.crop] == images.crop_size and [entry.view.side] == images.resize_size
        assert entry.view.interpolation == images.interpolation.value
        assert entry.statistics == (tuple(images.mean), tuple(images.std))


def _release(url: str) -> str:
    return url.replace("/rwightman/pytorch-image-models/", "/huggingface/pytorch-image-models/")


@pytest.mark.parametrize(("names", "module"), [("timm", "resnet"), ("timm-v2", "resnetv2")])
def test_timm(names: str, module: str) -> None:
    models = package(f"timm.models.{module}")
    theirs = {
        f"{network}.{tag}": cfg
        for network, found in models.default_cfgs.items()
        if network in PRESETS
        for tag, cfg in found.cfgs.items()
        if (cfg.url or cfg.hf_hub_id) and cfg.num_classes == 1000 and not tag.startswith("tv")
    }
    ours = of(names)
    assert ours.keys() == theirs.keys()
    for name, cfg in theirs.items():
        entry = ours[name]
        size = (cfg.test_input_size or cfg.input_size)[-1]
        assert entry.address == (_release(cfg.url) or f"hf:timm/{name}/model.safetensors")
        assert entry.view.crop == size
        assert entry.view.side == math.floor(size / (cfg.test_crop_pct or cfg.crop_pct))
        assert entry.view.interpolation == cfg.interpolation
        assert entry.statistics == (cfg.mean, cfg.std)
        assert (entry.license, cfg.crop_mode) == (cfg.license, "center")


def test_mindcv() -> None:
    theirs = {
        f"{network}.mindcv_in1k": cfg["url"]
        for module in ("resnet", "senet")
        for network, cfg in package(f"mindcv.models.{module}").default_cfgs.items()
        if cfg["url"]
    }
    assert {name: it.address for name, it in of("mindcv").items()} == theirs
