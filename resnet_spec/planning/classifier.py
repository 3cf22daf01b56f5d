"""The classifier of a plan: the op that puts out the logits, and the plan without it."""

from __future__ import annotations

from dataclasses import replace

from resnet_spec.errors import CheckpointError
from resnet_spec.ops import Chain, Conv, Linear
from resnet_spec.plan import Plan


def classifier(plan: Plan) -> Conv | Linear:
    """Return the op that puts out the logits; a 1x1 convolution in the pre-activation order."""
    return next(op for op in reversed(plan.ops) if isinstance(op, Conv | Linear))


def without_classifier(plan: Plan) -> Plan:
    """Return `plan` without the op that puts out the logits: what an encoder's file holds."""
    return replace(plan, root=_without(plan.root, classifier(plan).name))


def _without(chain: Chain, name: str) -> Chain:
    children = (node for node in chain.children if node.name != name)
    inner = (_without(node, name) if isinstance(node, Chain) else node for node in children)
    return replace(chain, children=tuple(inner))


def no_classifier(source: str) -> CheckpointError:
    """Return the error for an encoder's weights where logits are asked for."""
    remedy = f"resnet-spec train --pretrained {source} --data D draws one"
    return CheckpointError(f"{source}: has no classifier; {remedy}")
