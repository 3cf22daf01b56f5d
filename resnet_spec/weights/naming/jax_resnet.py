"""jax-resnet (n2cholas): `layers_2.ConvBlock_0.Conv_0.kernel`, layers counted through the network.

Source: jax_resnet/resnet.py and common.py, whose `Sequential` names modules by their index among
all layers: 0 is the stem, 1 the pool, then the blocks, the mean and the classifier.
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import (
    BIASED_NORM,
    EXPLICIT,
    IMAGENET_STEM,
    STRIDE_ON_3X3,
    together,
)
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import PLAIN_RESNET, has_average_pools

_LAYERS = {"conv": "Conv_0", "norm": "BatchNorm_0"}


def jax_resnet(nodes: NumberedNodes) -> Paths:
    """Return the paths; shortcuts that pool are of another class, and the class is in the name."""
    blocks = max(node.block_number for node in nodes) + 1
    skip = "ResNetDSkipConnection_0" if has_average_pools(nodes) else "ResNetSkipConnection_0"

    def path(node: NumberedNode) -> str | None:
        block = f"layers_{node.block_number + 2}"
        match node.part, node.kind:
            case "stem", "conv" | "norm" as kind:
                return f"layers_0.ConvBlock_{node.number - 1}.{_LAYERS[kind]}"
            case "head", "fc":
                return f"layers_{blocks + 3}"
            case "shortcut", "conv" | "norm" as kind:
                return f"{block}.{skip}.ConvBlock_0.{_LAYERS[kind]}"
            case "body", "conv" | "norm" as kind:
                return f"{block}.ConvBlock_{node.number - 1}.{_LAYERS[kind]}"
            case "body", "act" if node.ends_block:
                return block
            case _:
                return None

    return renamed(nodes, path)


JAX_RESNET = Scheme(
    "jax-resnet",
    "jax-resnet, on Flax",
    jax_resnet,
    "flax",
    PLAIN_RESNET,
    conventions=together(BIASED_NORM, EXPLICIT, IMAGENET_STEM, STRIDE_ON_3X3),
)
