"""KerasHub's ResNet: `stack1_block0_2_conv`, with 0 for the shortcut.

Source: keras_hub/src/models/resnet/resnet_backbone.py. It pads by hand before strided layers, so
that every window is torch's.
"""

from __future__ import annotations

from typing import Literal

from resnet_spec.weights.naming.conventions import (
    BIASED_NORM,
    EXPLICIT,
    IMAGENET_STEM,
    STRIDE_ON_3X3,
    together,
)
from resnet_spec.weights.naming.names import Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes, is_pre_activation
from resnet_spec.weights.naming.unsupported import (
    GATES,
    GROUPS,
    INNER_WIDTHS,
    PLAIN,
    ZERO_PADDING,
    Unsupported,
    has_average_pools,
    has_blocks_of,
    projects_in_the_first_stage,
    projects_without_need,
)


def keras_hub(nodes: NumberedNodes) -> Paths:
    """Return the paths; the classifier is a dense layer in pre-activation networks, too."""
    is_pre = is_pre_activation(nodes)
    found = renamed(nodes, lambda node: _path(node, is_pre))
    dense: dict[str, Literal["dense", "conv"]] = {
        node.name: "dense" for node in nodes if node.kind == "fc"
    }
    return Paths(found.modules, found.outputs, dense)


_KINDS = {"conv": "conv", "norm": "bn", "act": "relu"}


def _path(node: NumberedNode, is_pre: bool) -> str | None:
    block = f"stack{node.stage - 1}_block{node.block}"
    match node.part, node.kind:
        case "stem", "conv" | "norm" | "act" as kind:
            return f"conv{node.number}_{_KINDS[kind]}"
        case "stem", "pool":
            return "pool1_pool"
        case "head", "norm" | "act" as kind:
            return f"post_{_KINDS[kind]}"
        case "head", "fc":
            return "predictions"
        case "shortcut", "conv" | "norm" as kind:
            return f"{block}_0_{_KINDS[kind]}"
        case "body", "conv":
            return f"{block}_{node.number}_conv"
        case "body", "norm" | "act" as kind if is_pre:
            before = "pre_activation" if node.number == 1 else str(node.number - 1)
            return f"{block}_{before}_{_KINDS[kind]}"
        case "body", "norm":
            return f"{block}_{node.number}_bn"
        case "body", "act":
            return f"{block}_out" if node.ends_block else f"{block}_{node.number}_relu"
        case _:
            return None


def _pools_before_activation(nodes: NumberedNodes) -> bool:
    return is_pre_activation(nodes) and has_average_pools(nodes)


def _is_basic_and_pools(nodes: NumberedNodes) -> bool:
    return has_blocks_of(2)(nodes) and has_average_pools(nodes)


def _projects_too_little(nodes: NumberedNodes) -> bool:
    return _is_basic_and_pools(nodes) and not projects_in_the_first_stage(nodes)


def _projects_too_much(nodes: NumberedNodes) -> bool:
    if _is_basic_and_pools(nodes):
        return False
    is_basic = has_blocks_of(2)(nodes)
    return projects_without_need(nodes) or (is_basic and projects_in_the_first_stage(nodes))


_LACKS = (
    Unsupported(
        _pools_before_activation,
        "has no pre-activation network whose shortcuts pool: it leaves the pool out",
    ),
    Unsupported(
        _projects_too_little,
        "has a convolution in the first shortcut of its networks of basic blocks that pool",
    ),
    Unsupported(
        _projects_too_much,
        "has no convolution in a shortcut that needs none, nor in the first of basic blocks",
    ),
)

KERAS_HUB = Scheme(
    "keras-hub",
    "KerasHub",
    keras_hub,
    "keras",
    (GATES, GROUPS, INNER_WIDTHS, ZERO_PADDING, PLAIN, *_LACKS),
    conventions=together(BIASED_NORM, EXPLICIT, IMAGENET_STEM, STRIDE_ON_3X3),
)
