"""timm and torchvision: the canonical names.

Outputs show where the one or the other has a module: torchvision calls one `relu` per block
several times, timm's pre-activation networks have the activation inside the norm.
"""

from __future__ import annotations

from resnet_spec.naming.names import Output, Paths, block_of, depth_of, holders
from resnet_spec.plan import Plan


def timm(plan: Plan) -> Paths:
    """Return every name as it is."""
    modules = {op.name: op.name for op in holders(plan)}
    return Paths(modules, {name: tuple(_places(plan, name)) for name in plan.observed})


def _places(plan: Plan, node: str) -> list[Output]:
    path, _, key = node.rpartition(".")
    prefix = f"{path}." if path else ""
    if key.startswith("norm"):  # timm's BatchNormAct2d: norm, drop (identity), act.
        return [Output(f"{node}.drop"), Output(node)]
    if key.startswith("act"):
        norm = f"{prefix}norm{key.removeprefix('act')}"
        return [Output(node), Output(f"{norm}.act"), *_shared_relu(plan, node)]
    if node == "global_pool":
        return [Output(node), Output("avgpool")]
    return [Output(node)]


def _shared_relu(plan: Plan, node: str) -> list[Output]:
    """Return torchvision's places: `relu`, and for a block's last activation its own output."""
    if node == "act1":
        return [Output("relu")]
    block = block_of(plan, node)
    if block is None or f"{block}.bn1" not in plan.observed:
        return []
    number, count = int(node.removeprefix(f"{block}.act")), depth_of(plan, block)
    places = [Output(f"{block}.relu", number - 1, count)]
    return [*places, Output(block)] if number == count else places
