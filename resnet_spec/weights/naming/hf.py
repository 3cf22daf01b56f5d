"""The ResNet of the transformers library: `resnet.encoder.stages.0.layers.0.layer.0.convolution`.

Sources: transformers/models/resnet/modeling_resnet.py, and modeling_flax_resnet.py of 4.x.
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import (
    BIASED_NORM,
    EXPLICIT,
    IMAGENET_STEM,
    STRIDE_ON_3X3,
    TORCH_NORM,
    together,
)
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import NARROW, PLAIN_RESNET

_KINDS = {"conv": "convolution", "norm": "normalization", "act": "activation"}


def hf(nodes: NumberedNodes) -> Paths:
    """Return the paths; a block's convolutions are counted from 0, as its stages are."""
    return renamed(nodes, lambda node: _path(node, ""))


def hf_flax(nodes: NumberedNodes) -> Paths:
    """Return the paths of the Flax port: basic blocks call their layers `layer_0`, `layer_1`.

    Its bottlenecks name theirs "0" to "2"; its basic blocks leave it to Flax.
    """
    return renamed(nodes, lambda node: _path(node, "layer_" if node.depth == 2 else ""))


def _path(node: NumberedNode, prefix: str) -> str | None:
    match node.part, node.kind:
        case "stem", "conv" | "norm" | "act" as kind:
            return f"resnet.embedder.embedder.{_KINDS[kind]}"
        case "stem", "pool":
            return "resnet.embedder.pooler"
        case "head", "pool":
            return "resnet.pooler"
        case "head", "fc":
            return "classifier.1"  # 0 flattens.
        case "shortcut", "conv" | "norm" as kind:
            return f"{_block(node)}.shortcut.{_KINDS[kind]}"
        case "body", "conv" | "norm" | "act" as kind:
            if node.ends_block:
                return f"{_block(node)}.activation"
            return f"{_block(node)}.layer.{prefix}{node.number - 1}.{_KINDS[kind]}"
        case _:
            return None


def _block(node: NumberedNode) -> str:
    return f"resnet.encoder.stages.{node.stage - 1}.layers.{node.block}"


HF = Scheme(
    "hf",
    "the transformers library",
    hf,
    "torch",
    (*PLAIN_RESNET, *NARROW),
    # `downsample_in_bottleneck` says where a file's strides sit.
    conventions=together(TORCH_NORM, EXPLICIT, IMAGENET_STEM),
)
HF_FLAX = Scheme(
    "hf-flax",
    "the transformers library, on Flax",
    hf_flax,
    "flax",
    (*PLAIN_RESNET, *NARROW),
    conventions=together(BIASED_NORM, EXPLICIT, IMAGENET_STEM, STRIDE_ON_3X3),
)
