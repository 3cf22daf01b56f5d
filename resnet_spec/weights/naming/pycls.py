"""pycls: `s2.b1.f.a_bn`, stages and blocks counted from 1, convolutions a, b and c.

Source: pycls/models/resnet.py and anynet.py. RESNET.STRIDE_1X1 says where strides sit; the
published networks have them on the 3x3.
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import EXPLICIT, IMAGENET, TORCH_NORM, together
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import AVERAGE_POOLS, DEEP_STEM, PLAIN_RESNET


def pycls(nodes: NumberedNodes) -> Paths:
    """Return the paths; a block's transform is `f`, its shortcut `proj` and `bn`."""
    return renamed(nodes, _path)


def _path(node: NumberedNode) -> str | None:
    block = f"s{node.stage}.b{node.block + 1}"
    letter = "abc"[node.number - 1] if node.part == "body" else ""
    match node.part, node.kind:
        case "stem", "conv":
            return "stem.conv"
        case "stem", "norm":
            return "stem.bn"
        case "stem", "pool":
            return "stem.pool"
        case "head", "pool":
            return "head.avg_pool"
        case "head", "fc":
            return "head.fc"
        case "shortcut", "conv":
            return f"{block}.proj"
        case "shortcut", "norm":
            return f"{block}.bn"
        case "body", "conv":
            return f"{block}.f.{letter}"
        case "body", "norm":
            return f"{block}.f.{letter}_bn"
        case "body", "act" if node.ends_block:
            return block
        case _:
            return None


PYCLS = Scheme(
    "pycls",
    "pycls",
    pycls,
    "torch",
    (*PLAIN_RESNET, DEEP_STEM, AVERAGE_POOLS),
    # Its loaders read images with OpenCV, and its statistics of them are ImageNet's, reversed.
    conventions=together(TORCH_NORM, EXPLICIT, {"input": IMAGENET}),
    channels="bgr",
    caveats=("its code takes BGR images: the first convolution is turned to take RGB",),
)
