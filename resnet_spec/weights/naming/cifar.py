"""Two CIFAR-10 ResNets on torch: torchvision's tree with `linear` and `shortcut`.

akamaster: pytorch_resnet_cifar10, resnet.py and trainer.py: He et al. 2015's networks with
shortcut A, which has no tensors. kuangliu: pytorch-cifar, models/resnet.py and main.py: the
ImageNet networks with a 3x3 stem, shortcut B.
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import (
    EXPLICIT,
    IMAGENET,
    STRIDE_ON_3X3,
    TORCH_NORM,
    together,
)
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import (
    AVERAGE_POOLS,
    DEEP_STEM,
    GATES,
    PLAIN,
    PROJECTION_ALL,
    Unsupported,
    has_blocks_of,
    has_projections,
    has_zero_padding,
    is_pre_activation,
)


def cifar(nodes: NumberedNodes) -> Paths:
    """Return the paths: both repositories name alike what both have."""
    return renamed(nodes, _path)


def _path(node: NumberedNode) -> str | None:
    block = f"layer{node.stage}.{node.block}"
    match node.part, node.kind:
        case "head", "fc":
            return "linear"
        case "stem", "conv":
            return "conv1"
        case "stem", "norm":
            return "bn1"
        case "shortcut", "conv" | "norm" as kind:
            return f"{block}.shortcut.{['conv', 'norm'].index(kind)}"
        case "shortcut", "pad":
            return f"{block}.shortcut"
        case "body", "conv":
            return f"{block}.conv{node.number}"
        case "body", "norm":
            return f"{block}.bn{node.number}"
        case "body", "act" if node.ends_block:
            return block
        case _:
            return None


_STEM = {"stem": {"stride": 1, "pool": False}}

AKAMASTER = Scheme(
    "akamaster",
    "pytorch_resnet_cifar10, with shortcut A",
    cifar,
    "torch",
    (
        Unsupported(is_pre_activation, "has post-activation networks only"),
        GATES,
        DEEP_STEM,
        Unsupported(has_blocks_of(3), "has basic blocks only"),
        Unsupported(has_projections, "has zero channels in its shortcuts; use kuangliu"),
        PLAIN,
    ),
    conventions=together(
        TORCH_NORM,
        EXPLICIT,
        _STEM,
        # F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4)): half on each side.
        {"shortcut": "zero_pad", "zero_pad_at": "both"},
        {"input": {"size": 32, **IMAGENET}},  # trainer.py, of ImageNet though it is CIFAR-10.
    ),
)
KUANGLIU = Scheme(
    "kuangliu",
    "pytorch-cifar, with projections",
    cifar,
    "torch",
    (
        Unsupported(is_pre_activation, "ends its pre-activation networks without a norm"),
        GATES,
        DEEP_STEM,
        AVERAGE_POOLS,
        Unsupported(has_zero_padding, "has convolutions in its shortcuts; use akamaster"),
        PLAIN,
        PROJECTION_ALL,
    ),
    conventions=together(
        TORCH_NORM,
        EXPLICIT,
        STRIDE_ON_3X3,
        _STEM,
        {
            "input": {  # main.py; the deviations are not those of CIFAR-10's pixels.
                "size": 32,
                "mean": [0.4914, 0.4822, 0.4465],
                "std": [0.2023, 0.1994, 0.2010],
            }
        },
    ),
)
