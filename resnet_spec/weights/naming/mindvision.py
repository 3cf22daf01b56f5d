"""mindvision, of MindSpore's older tutorials: `backbone.layer1.0.conv1.features.0.weight`.

Source: mindvision/classification/models/backbones/resnet.py and blocks/conv_norm_activation.py;
resnet50_224.ckpt of download.mindspore.cn/vision/classification has these names.
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import (
    EXPLICIT,
    IMAGENET_STEM,
    MINDSPORE_NORM,
    STRIDE_ON_3X3,
    together,
)
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import NARROW, PLAIN_RESNET

_FEATURES = {"conv": 0, "norm": 1, "act": 2}


def mindvision(nodes: NumberedNodes) -> Paths:
    """Return the paths: a convolution, its norm and its activation are one cell's `features`."""
    return renamed(nodes, _path)


def _path(node: NumberedNode) -> str | None:
    block = f"backbone.layer{node.stage}.{node.block}"
    match node.part, node.kind:
        case "stem", "conv" | "norm" | "act" as kind:
            return f"backbone.conv1.features.{_FEATURES[kind]}"
        case "stem", "pool":
            return "backbone.max_pool"
        case "head", "fc":
            return "head.dense"
        case "shortcut", "conv" | "norm" as kind:
            return f"{block}.down_sample.features.{_FEATURES[kind]}"
        case "body", "act" if node.ends_block:
            return f"{block}.relu"
        case "body", "conv" | "norm" | "act" as kind:
            return f"{block}.conv{node.number}.features.{_FEATURES[kind]}"
        case _:
            return None


MINDVISION = Scheme(
    "mindvision",
    "mindvision, on MindSpore",
    mindvision,
    "mindspore",
    # Its bottlenecks with groups widen their output, too, and do not fit their shortcuts.
    (*PLAIN_RESNET, *NARROW),
    conventions=together(
        MINDSPORE_NORM,
        EXPLICIT,
        IMAGENET_STEM,
        STRIDE_ON_3X3,
        {
            "stem": {"pool_padding": "same"}
        },  # nn.MaxPool2d(kernel_size=3, stride=2, pad_mode="same")
    ),
)
