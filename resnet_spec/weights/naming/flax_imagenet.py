"""The ResNet of Flax's ImageNet example: `BottleneckResNetBlock_3.Conv_1.kernel`.

Blocks are numbered over the whole network. Source: examples/imagenet/models.py of Flax. It pads
with SAME everywhere but in the stem's convolution.
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import (
    BIASED_NORM,
    IMAGENET,
    IMAGENET_STEM,
    STRIDE_ON_3X3,
    together,
)
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import NARROW, PLAIN_RESNET


def flax_imagenet(nodes: NumberedNodes) -> Paths:
    """Return the paths. Activations are functions there: only a block's last one can be seen."""
    return renamed(nodes, _path)


def _path(node: NumberedNode) -> str | None:
    kind = "ResNetBlock" if node.depth == 2 else "BottleneckResNetBlock"
    block = f"{kind}_{node.block_number}"
    match node.part, node.kind:
        case "stem", "conv":
            return "conv_init"
        case "stem", "norm":
            return "bn_init"
        case "head", "fc":
            return "Dense_0"
        case "shortcut", "conv":
            return f"{block}.conv_proj"
        case "shortcut", "norm":
            return f"{block}.norm_proj"
        case "body", "conv":
            return f"{block}.Conv_{node.number - 1}"
        case "body", "norm":
            return f"{block}.BatchNorm_{node.number - 1}"
        case "body", "act" if node.ends_block:
            return block
        case _:
            return None


FLAX_IMAGENET = Scheme(
    "flax-imagenet",
    "Flax's ImageNet example",
    flax_imagenet,
    "flax",
    (*PLAIN_RESNET, *NARROW),
    conventions=together(
        BIASED_NORM,
        IMAGENET_STEM,
        STRIDE_ON_3X3,
        # nn.Conv's and nn.max_pool's "SAME"; conv_init alone has [(3, 3), (3, 3)].
        {"padding": "same", "stem": {"padding": "explicit", "pool_padding": None}},
        {"input": IMAGENET},  # input_pipeline.py, in units of 0..255.
    ),
)
