"""MindCV's ResNet on MindSpore: torchvision's tree with `down_sample` and `classifier`.

With squeeze-and-excitation it is MindCV's SENet: the stem is `layer0`, and the gate's two 1x1
convolutions are dense layers. Sources: mindcv/models/resnet.py and senet.py of MindCV 0.3. The
max-pool of both pads with "same", torchvision's by one pixel on each side.
"""

from __future__ import annotations

from typing import Literal

from resnet_spec.weights.naming.conventions import (
    EXPLICIT,
    IMAGENET_STEM,
    MINDSPORE_NORM,
    STRIDE_ON_3X3,
    together,
)
from resnet_spec.weights.naming.names import Output, Paths, Scheme, renamed
from resnet_spec.weights.naming.numbered_nodes import NumberedNode, NumberedNodes
from resnet_spec.weights.naming.timm import canonical
from resnet_spec.weights.naming.unsupported import (
    AVERAGE_POOLS,
    PLAIN,
    PROJECTION_ALL,
    ZERO_PADDING,
    Unsupported,
    has_gates,
    has_several_first_convolutions,
    is_pre_activation,
)

_RENAMED = {"downsample": "down_sample", "fc": "classifier"}
_SEVERAL = {"maxpool": Output("max_pool"), "global_pool": Output("pool")}


def mindcv(nodes: NumberedNodes) -> Paths:
    """Return torchvision's paths with MindCV's words in them, or those of its SENet."""
    if has_gates(nodes):
        return _senet(nodes)
    torchvision = canonical(nodes)
    outputs = {
        name: tuple(output._replace(module=_path(output.module)) for output in shown)
        for name, shown in torchvision.outputs.items()
    }
    outputs |= {name: (output,) for name, output in _SEVERAL.items() if name in outputs}
    return Paths({op: _path(name) for op, name in torchvision.modules.items()}, outputs)


def _path(name: str) -> str:
    return ".".join(_RENAMED.get(part, part) for part in name.split("."))


def _senet(nodes: NumberedNodes) -> Paths:
    found = renamed(nodes, _senet_path)
    gates = [node.name for node in nodes if node.part == "gate" and node.kind == "conv"]
    dense: dict[str, Literal["dense", "conv"]] = dict.fromkeys(gates, "dense")
    return Paths(found.modules, found.outputs, dense)


def _senet_path(node: NumberedNode) -> str | None:
    block = f"layer{node.stage}.{node.block}"
    match node.part, node.kind:
        case "stem", "conv" | "norm" | "act" as kind:
            return f"layer0.{3 * (node.number - 1) + ['conv', 'norm', 'act'].index(kind)}"
        case "stem", "pool":
            return "pool0"
        case "head", "pool":
            return "pool"
        case "head", "fc":
            return "classifier"
        case "shortcut", "conv" | "norm" as kind:
            return f"{block}.downsample.{['conv', 'norm'].index(kind)}"
        case "gate", "conv":
            return f"{block}.se_module.{['conv_reduce', 'conv_expand'][node.number - 1]}"
        case "gate", "gate":
            return f"{block}.se_module"
        case "body", "conv" | "norm" as kind:
            return f"{block}.{'conv' if kind == 'conv' else 'bn'}{node.number}"
        case "body", "act" if node.ends_block:
            return block
        case _:
            return None


def _has_deep_stem_and_no_gates(nodes: NumberedNodes) -> bool:
    return has_several_first_convolutions(nodes) and not has_gates(nodes)


_DEEP_STEM = Unsupported(_has_deep_stem_and_no_gates, "has one convolution first, but in its SENet")
_PRE_ACTIVATION = Unsupported(
    is_pre_activation,
    "has no such pre-activation network: the shortcuts of its ResNetV2 have norms, its end has "
    "none, and its BiT has group norms",
)

MINDCV = Scheme(
    "mindcv",
    "MindCV, on MindSpore",
    mindcv,
    "mindspore",
    (_PRE_ACTIVATION, _DEEP_STEM, AVERAGE_POOLS, ZERO_PADDING, PLAIN, PROJECTION_ALL),
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
