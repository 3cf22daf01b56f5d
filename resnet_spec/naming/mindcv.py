"""MindCV's ResNet on MindSpore: torchvision's tree with `down_sample` and `classifier`.

Source: mindcv/models/resnet.py of MindCV 0.3. Its max-pool pads with "same", torchvision's by one
pixel on each side: with equal weights the logits differ on even inputs, unless the spec says
`padding = "same"` of the pool.
"""

from __future__ import annotations

from resnet_spec.naming.names import Output, Paths, renamed
from resnet_spec.naming.timm import timm
from resnet_spec.plan import Plan

_RENAMED = {"downsample": "down_sample", "fc": "classifier"}


def mindcv(plan: Plan) -> Paths:
    """Return torchvision's paths with MindCV's words in them."""
    torchvision = timm(plan)
    outputs = {
        node: tuple(place._replace(module=_path(place.module.split("."))) for place in places)
        for node, places in torchvision.outputs.items()
    }
    more = {"maxpool": Output("max_pool"), "global_pool": Output("pool")}
    for node, place in more.items():
        if node in outputs:
            outputs[node] = (place,)
    return Paths(renamed(plan, _path).modules if _is_torchvision_s(plan) else {}, outputs)


def _path(parts: list[str]) -> str:
    return ".".join(_RENAMED.get(part, part) for part in parts)


def _is_torchvision_s(plan: Plan) -> bool:
    """Whether the network is post-activation; MindCV's pre-activation one is of another kind."""
    return "conv1" in plan.observed and "bn1" in plan.observed
