"""Independent implementations that come as packages; each is skipped, saying so, where absent.

`pip install 'resnet-spec[against]'` brings them. What they are found to do is in docs/parity.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from functools import cache
from typing import Any

import pytest

from resnet_spec.describing.spec import Spec
from resnet_spec.parity.own import compare
from resnet_spec.reporting.report import Report

BASIC = Spec(
    name="small",
    classes=10,
    block="basic",  # pyright: ignore[reportArgumentType]
    stem={"widths": [64]},  # pyright: ignore[reportArgumentType]
    stages=[  # pyright: ignore[reportArgumentType]
        {"width": 64, "blocks": 1},
        {"width": 128, "blocks": 1, "stride": 2},
        {"width": 256, "blocks": 1, "stride": 2},
        {"width": 512, "blocks": 1, "stride": 2},
    ],
)
SIZE = 40
LAYERS = [1, 1, 1, 1]


def changed(**changes: Any) -> Spec:
    """Return BASIC with other fields; its expansion is resolved, and does not follow the block."""
    return Spec(**{**BASIC.model_dump(), **changes})


BOTTLENECK = changed(name="small50", block="bottleneck", expansion=4)


@cache
def package(name: str) -> Any:
    """Return a package, or skip the test. What it warns of on import is not ours."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed; run: pip install 'resnet-spec[against]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _declare_torchvision_s_operators()
        try:
            return importlib.import_module(name)
        except (ImportError, RuntimeError, OSError) as error:
            pytest.skip(f"{name} cannot be imported here: {error}")


@cache
def _declare_torchvision_s_operators() -> Any:
    """Let torchvision's models be imported beside a CPU build of torch.

    Its wheel's compiled operators ask for CUDA's libraries; without them the import stops at the
    first operator of theirs that was never declared. The models use none.
    """
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name) is None:
            return None
    torch: Any = importlib.import_module("torch")
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def assert_agrees(report: Report) -> None:
    levels = {row.level: row.verdict for row in report.rows}
    assert levels.keys() >= {"logits", "activations", "train_logits", "gradients", "statistics"}
    assert set(levels.values()) <= {"equal", "rounding"}, levels


@pytest.mark.parametrize("spec", [BASIC, BOTTLENECK], ids=lambda spec: spec.block)
def test_torchvision(spec: Spec) -> None:
    module = package("torchvision.models.resnet")
    block = module.BasicBlock if spec.block == "basic" else module.Bottleneck
    model = module.ResNet(block, LAYERS, num_classes=10)
    assert_agrees(compare(model, spec, "torchvision", input_size=SIZE))


@pytest.mark.parametrize("squeeze", [False, True], ids=["plain", "squeeze"])
def test_timm(squeeze: bool) -> None:
    module = package("timm.models.resnet")
    more = {"block_args": {"attn_layer": "se"}} if squeeze else {}
    model = module.ResNet(module.BasicBlock, LAYERS, num_classes=10, **more)
    spec = changed(squeeze=1 / 16) if squeeze else BASIC
    assert_agrees(compare(model, spec, "timm", input_size=SIZE))


def test_timm_with_average_pools_and_three_convolutions_first() -> None:
    module = package("timm.models.resnet")
    more = {"stem_width": 32, "stem_type": "deep", "avg_down": True}
    model = module.ResNet(module.BasicBlock, LAYERS, num_classes=10, **more)
    changes: dict[str, Any] = {
        "stem": {"widths": [32, 32, 64], "kernel": 3, "stride": 2, "pool": True},
        "downsample": "avg_pool",
    }
    spec = changed(**changes)
    assert_agrees(compare(model, spec, "timm", input_size=SIZE))


def test_timm_pre_activation() -> None:
    module = package("timm.models.resnetv2")
    layers: Any = package("timm.layers")
    model = module.ResNetV2(
        LAYERS,
        channels=(64, 128, 256, 512),
        num_classes=10,
        bottle_ratio=1.0,
        conv_layer=layers.create_conv2d,
        norm_layer=layers.BatchNormAct2d,
        basic=True,
    )
    spec = changed(order="pre_activation")
    assert_agrees(compare(model, spec, "timm-v2", input_size=SIZE))


@pytest.mark.parametrize("spec", [BASIC, BOTTLENECK], ids=lambda spec: spec.block)
def test_transformers(spec: Spec) -> None:
    module = package("transformers.models.resnet.modeling_resnet")
    expansion = 1 if spec.block == "basic" else 4
    config = package("transformers").ResNetConfig(
        embedding_size=64,
        hidden_sizes=[width * expansion for width in (64, 128, 256, 512)],
        depths=LAYERS,
        layer_type=str(spec.block),
        num_labels=10,
    )
    model = module.ResNetForImageClassification(config)
    assert_agrees(compare(model, spec, "hf", input_size=SIZE))


def test_mindcv_pools_with_same() -> None:
    model = _mindcv()
    report = compare(model, BASIC, "mindcv", input_size=SIZE)
    assert {row.level for row in report.rows if row.is_wrong} >= {"logits", "activations"}
    (finding,) = report.findings
    assert (finding.node, finding.cause) == ("maxpool", "SAME against explicit")


def test_mindcv_agrees_once_its_pool_is_padded_as_elsewhere() -> None:
    model = _mindcv()
    nn: Any = importlib.import_module("mindspore").nn
    model.max_pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1, pad_mode="pad")
    assert_agrees(compare(model, BASIC, "mindcv", input_size=SIZE))


def _mindcv() -> Any:
    module = package("mindcv.models.resnet")
    return module.ResNet(module.BasicBlock, LAYERS, num_classes=10)
