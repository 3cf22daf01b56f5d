"""keras.applications' ResNet-50, 101 and 152: `conv2_block1_0_conv`, with 0 for the shortcut.

Source: keras/src/applications/resnet.py. Every convolution has a bias before its norm, and the
stride sits on the first 1x1. Its V2 networks have their strides in a stage's last block, with a
max-pool for its shortcut; its ResNeXt keeps groups as a depthwise kernel. Neither is here.
"""

from __future__ import annotations

from dataclasses import replace

from resnet_spec.weights.naming.conventions import EXPLICIT, IMAGENET_STEM, together
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import (
    AVERAGE_POOLS,
    DEEP_STEM,
    GATES,
    INNER_WIDTHS,
    PLAIN,
    PROJECTION_ALL,
    ZERO_PADDING,
    Unsupported,
    has_blocks_of,
    has_groups,
    is_pre_activation,
)

_KINDS = {"conv": "conv", "norm": "bn", "act": "relu"}


def keras_applications(nodes: NumberedNodes) -> Paths:
    """Return the paths; stages are counted from conv2, blocks from 1."""
    return renamed(nodes, _path)


def _path(node: NumberedNode) -> str | None:
    block = f"conv{node.stage + 1}_block{node.block + 1}"
    match node.part, node.kind:
        case "stem", "conv" | "norm" | "act" as kind:
            return f"conv1_{_KINDS[kind]}"
        case "stem", "pool":
            return "pool1_pool"
        case "head", "pool":
            return "avg_pool"
        case "head", "fc":
            return "predictions"
        case "shortcut", "conv" | "norm" as kind:
            return f"{block}_0_{_KINDS[kind]}"
        case "body", "act" if node.ends_block:
            return f"{block}_out"
        case "body", "conv" | "norm" | "act" as kind:
            return f"{block}_{node.number}_{_KINDS[kind]}"
        case _:
            return None


_PRE_ACTIVATION = Unsupported(
    is_pre_activation,
    "has its V2 networks' strides in the last block of a stage, beside a max-pool for a shortcut",
)
_BASIC = Unsupported(has_blocks_of(2), "has bottlenecks only")
_GROUPS = Unsupported(
    has_groups, "keeps the groups of its ResNeXt as a depthwise convolution and a sum"
)

KERAS_APPLICATIONS_RGB = Scheme(
    "keras-applications-rgb",
    "keras.applications, RGB images",
    keras_applications,
    "keras",
    (
        _PRE_ACTIVATION,
        _BASIC,
        _GROUPS,
        GATES,
        INNER_WIDTHS,
        DEEP_STEM,
        AVERAGE_POOLS,
        ZERO_PADDING,
        PLAIN,
        PROJECTION_ALL,
    ),
    conventions=together(
        # epsilon=1.001e-5 is written out; momentum is the layer's default.
        {"norm": {"eps": 1.001e-5, "decay": 0.99, "variance": "biased"}},
        {"stride_position": "1x1"},
        EXPLICIT,  # ZeroPadding2D before conv1 and the pool; SAME only at stride 1.
        IMAGENET_STEM,
    ),
    folds_biases=True,
)
"""For weights that were trained on RGB images, as people's own are."""

# resnet.preprocess_input: mode "caffe", BGR of 0..255 less (103.939, 116.779, 123.68).
_MEAN = [123.68 / 255, 116.779 / 255, 103.939 / 255]

KERAS_APPLICATIONS = replace(
    KERAS_APPLICATIONS_RGB,
    name="keras-applications",
    about="keras.applications, BGR images",
    conventions=together(
        dict(KERAS_APPLICATIONS_RGB.conventions), {"input": {"mean": _MEAN, "std": [1 / 255] * 3}}
    ),
    channels="bgr",
    caveats=(
        "its code takes BGR images: the first convolution is turned to take RGB; "
        "weights that were trained on RGB are of keras-applications-rgb",
    ),
)
