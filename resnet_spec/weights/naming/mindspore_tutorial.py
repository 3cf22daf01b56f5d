"""The ResNet-50 of MindSpore's present tutorial: `layer1.0.norm1.gamma`, `down_sample`, `fc`.

Source: tutorials/source_en/cv/resnet50.md of mindspore-ai/docs; resnet50_224_new.ckpt has these
names. nn.Conv2d and nn.MaxPool2d are left at, or set to, pad_mode="same".
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import (
    IMAGENET_STEM,
    MINDSPORE_NORM,
    STRIDE_ON_3X3,
    together,
)
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import NARROW, PLAIN_RESNET, Unsupported, has_blocks_of


def mindspore_tutorial(nodes: NumberedNodes) -> Paths:
    """Return the paths."""
    return renamed(nodes, _path)


def _path(node: NumberedNode) -> str | None:
    block = f"layer{node.stage}.{node.block}"
    match node.part, node.kind:
        case "stem", "conv":
            return "conv1"
        case "stem", "norm":
            return "norm"
        case "stem", "act":
            return "relu"
        case "stem", "pool":
            return "max_pool"
        case "head", "pool":
            return "avg_pool"
        case "head", "fc":
            return "fc"
        case "shortcut", "conv" | "norm" as kind:
            return f"{block}.down_sample.{['conv', 'norm'].index(kind)}"
        case "body", "conv" | "norm" as kind:
            return f"{block}.{kind}{node.number}"
        case "body", "act" if node.ends_block:
            return block
        case _:
            return None


_BASIC = Unsupported(has_blocks_of(2), "has basic blocks whose two convolutions share one norm")

MINDSPORE_TUTORIAL = Scheme(
    "mindspore-tutorial",
    "MindSpore's ResNet-50 tutorial",
    mindspore_tutorial,
    "mindspore",
    (*PLAIN_RESNET, *NARROW, _BASIC),
    conventions=together(
        MINDSPORE_NORM,
        IMAGENET_STEM,
        STRIDE_ON_3X3,
        {"padding": "same", "stem": {"padding": None, "pool_padding": None}},
    ),
    caveats=("its last pool is of one pixel, so that its own code takes images of 32 pixels only",),
)
