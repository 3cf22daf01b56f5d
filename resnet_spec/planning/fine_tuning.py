"""Fine-tuning, resolved in the plan: what is frozen, and the classifier's own learning rate.

What is frozen is a fixed function of the images: its norms run on their running statistics in
training, too, as with Keras' `trainable = False`, and its blocks are never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, assert_never

from resnet_spec.errors import RecipeError, problem
from resnet_spec.ops import (
    Address,
    BaseOp,
    Chain,
    DropPath,
    Gate,
    Node,
    Op,
    Residual,
    Tensor,
    tensor_fields,
)
from resnet_spec.plan import Plan
from resnet_spec.planning.classifier import classifier
from resnet_spec.recipe import Recipe

Change = Callable[[Tensor], Tensor]


def fine_tuned(plan: Plan, recipe: Recipe) -> Plan:
    """Return `plan` with the tensors and norms frozen that `recipe.freeze` names.

    The classifier's tensors get `recipe.head_rate`. Raises RecipeError where there are fewer stages
    than are to be frozen.
    """
    if recipe.freeze == "none" and recipe.head_rate == 1.0:
        return plan
    frozen = _frozen_ops(plan, recipe.freeze)
    head = classifier(plan).name

    def change(op: Op) -> Op | None:
        if op.name in frozen:
            return None if isinstance(op, DropPath) else _with(op, _freeze)
        return (
            _with(op, lambda tensor: replace(tensor, rate=recipe.head_rate))
            if op.name == head
            else op
        )

    return replace(plan, root=replace(plan.root, children=_changed(plan.root.children, change)))


def _frozen_ops(plan: Plan, freeze: str) -> frozenset[str]:
    """Return the names of the ops that come before what is trained."""
    match freeze:
        case "none":
            return frozenset()
        case "backbone":
            names = [op.name for op in plan.ops]
            return frozenset(names[: names.index(classifier(plan).name)])
        case "stem":
            count = 0
        case _:
            count = int(freeze.removeprefix("stages="))
    if count > len(plan.stages):
        rule = f"the network has {len(plan.stages)} stages"
        raise RecipeError(problem("freeze", freeze, rule, "freeze fewer, or the backbone"))
    return frozenset(op.name for op in plan.ops if _is_within(op.address, count))


def _is_within(address: Address, stages: int) -> bool:
    """Whether it is in the stem or one of the first `stages` stages."""
    return address.part == "stem" if address.stage is None else address.stage <= stages


def _freeze(tensor: Tensor) -> Tensor:
    return replace(tensor, frozen=True)


def _with(op: Op, change: Change) -> Op:
    """Return `op` with its tensors changed."""
    held = {name: getattr(op, name) for name in tensor_fields(type(op))}
    changed: dict[str, Any] = {name: change(it) for name, it in held.items() if it is not None}
    return replace(op, **changed)


def _changed(nodes: tuple[Node, ...], change: Callable[[Op], Op | None]) -> tuple[Node, ...]:
    """Return `nodes` with every op in them changed; those that become None are left out."""
    return tuple(new for node in nodes if (new := _changed_node(node, change)) is not None)


def _changed_node(node: Node, change: Callable[[Op], Op | None]) -> Node | None:
    match node:
        case Chain() | Gate():
            return replace(node, children=_changed(node.children, change))
        case Residual():
            return replace(
                node,
                entry=_changed(node.entry, change),
                body=_changed(node.body, change),
                shortcut=None if node.shortcut is None else _changed_node(node.shortcut, change),
                tail=_changed(node.tail, change),
            )
        case BaseOp():
            return change(node)
        case _:
            assert_never(node)
