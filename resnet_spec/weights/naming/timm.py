"""timm and torchvision, whose names are the canonical ones; and this project's own.

Sources: torchvision/models/resnet.py, timm/models/resnet.py and resnetv2.py. Outputs show where the
one or the other has a module: torchvision calls one `relu` per block several times, timm's
pre-activation networks have the activation inside the norm.
"""

from __future__ import annotations

from resnet_spec.weights.naming.conventions import EXPLICIT, STRIDE_ON_3X3, TORCH_NORM, together
from resnet_spec.weights.naming.names import Output, Paths, Scheme
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.unsupported import (
    AVERAGE_POOLS,
    DEEP_STEM,
    GATES,
    PLAIN,
    PROJECTION_ALL,
    ZERO_PADDING,
    Unsupported,
    is_post_activation,
    is_pre_activation,
)


def canonical(nodes: NumberedNodes) -> Paths:
    """Return every name as it is."""
    modules, is_pre = {node.name: node.name for node in nodes}, is_pre_activation(nodes)
    return Paths(modules, {node.name: tuple(_outputs(node, is_pre)) for node in nodes})


def _outputs(node: NumberedNode, is_pre: bool) -> list[Output]:
    path, _, key = node.name.rpartition(".")
    prefix = f"{path}." if path else ""
    if key.startswith("norm"):  # timm's BatchNormAct2d: norm, drop (identity), act.
        return [Output(f"{node.name}.drop"), Output(node.name)]
    if node.kind == "act" and key.startswith("act"):
        norm = f"{prefix}norm{key.removeprefix('act')}"
        shared = [] if is_pre else _shared_relu(node, path)
        return [Output(node.name), Output(f"{norm}.act"), *shared]
    if node.name == "global_pool":
        return [Output(node.name), Output("avgpool")]
    return [Output(node.name)]


def _shared_relu(node: NumberedNode, block: str) -> list[Output]:
    """Return torchvision's modules: `relu`, and for a block's last activation the block."""
    if node.name == "act1":
        return [Output("relu")]
    if node.part != "body":
        return []
    found = [Output(f"{block}.relu", node.number - 1, node.depth)]
    return [*found, Output(block)] if node.ends_block else found


_PRE_ACTIVATION = Unsupported(is_pre_activation, "has post-activation networks only; use timm-v2")
_POST_ACTIVATION = Unsupported(is_post_activation, "has pre-activation networks only; use timm")

# timm's eps and padding are options of its models, and those of the networks here the defaults.
_CONVENTIONS = together(TORCH_NORM, EXPLICIT, STRIDE_ON_3X3)

TIMM = Scheme(
    "timm",
    "timm's ResNets",
    canonical,
    "torch",
    (_PRE_ACTIVATION,),
    conventions=_CONVENTIONS,
    is_common=True,
)
TIMM_V2 = Scheme(
    "timm-v2",
    "timm's pre-activation ResNets (resnetv2)",
    canonical,
    "torch",
    (_POST_ACTIVATION, GATES, ZERO_PADDING, PLAIN, PROJECTION_ALL),
    conventions=_CONVENTIONS,
    is_common=True,
)
TORCHVISION = Scheme(
    "torchvision",
    "torchvision's ResNets",
    canonical,
    "torch",
    (_PRE_ACTIVATION, GATES, DEEP_STEM, AVERAGE_POOLS, ZERO_PADDING, PLAIN, PROJECTION_ALL),
    conventions=_CONVENTIONS,
    is_common=True,
)
CANONICAL = Scheme("canonical", "this project's own names, of any network", canonical, "torch")
