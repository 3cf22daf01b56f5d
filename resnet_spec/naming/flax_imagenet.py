"""The ResNet of Flax's ImageNet example: `BottleneckResNetBlock_3.Conv_1.kernel`.

Blocks are numbered over the whole network. Source: examples/imagenet/models.py of Flax. It pads
with SAME everywhere but in the stem's convolution.
"""

from __future__ import annotations

from resnet_spec.naming.names import Paths, block_of, depth_of, renamed
from resnet_spec.plan import Plan

_ENDS = {"conv1": "conv_init", "bn1": "bn_init", "fc": "Dense_0"}
_SHORTCUT = {"0": "conv_proj", "1": "norm_proj"}


def flax_imagenet(plan: Plan) -> Paths:
    """Return the paths. Activations are functions there: only a block's last one can be seen."""
    blocks = dict.fromkeys(filter(None, (block_of(plan, node) for node in plan.observed)))
    numbers = {block: number for number, block in enumerate(blocks)}

    def rename(parts: list[str]) -> str | None:
        match parts:
            case [end] if end in _ENDS:
                return _ENDS[end]
            case [stage, index, *rest] if f"{stage}.{index}" in numbers:
                return _in_block(plan, numbers, f"{stage}.{index}", rest)
            case _:
                return None

    return renamed(plan, rename)


def _in_block(plan: Plan, numbers: dict[str, int], block: str, parts: list[str]) -> str | None:
    depth = depth_of(plan, block)
    kind = "ResNetBlock" if depth == 2 else "BottleneckResNetBlock"
    path = f"{kind}_{numbers[block]}"
    match parts:
        case ["downsample", place] if place in _SHORTCUT:
            return f"{path}.{_SHORTCUT[place]}"
        case [key] if key.startswith("conv"):
            return f"{path}.Conv_{int(key[-1]) - 1}"
        case [key] if key.startswith("bn"):
            return f"{path}.BatchNorm_{int(key[-1]) - 1}"
        case [key] if key == f"act{depth}":
            return path
        case _:
            return None
