"""Fine-tuning, resolved in the plan: what is frozen, and the learning rate of each part.

What is frozen is a fixed function of the images: its norms run on their running statistics in
training, too, as with Keras' `trainable = False`, and its blocks are never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, assert_never

from resnet_spec.errors import RecipeError, did_you_mean, nearest, problem
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
from resnet_spec.optimizers import row_of
from resnet_spec.plan import Plan
from resnet_spec.planning.classifier import classifier
from resnet_spec.recipe import Recipe

Change = Callable[[Tensor], Tensor]


def fine_tuned(plan: Plan, recipe: Recipe) -> Plan:
    """Return `plan` with the tensors and norms frozen that `recipe.freeze` names.

    Weights get the factors of `recipe.layer_decay`, and the classifier's `recipe.head_rate`, too.
    Raises RecipeError where there are fewer stages than are to be frozen, and where a pattern of
    `optimizer.no_decay` matches no weight, or they spare all that an optimiser could adapt.
    """
    _check_no_decay(plan, recipe)
    if recipe.freeze == "none" and recipe.head_rate == recipe.layer_decay == 1.0:
        return plan
    frozen = _frozen_ops(plan, recipe.freeze)
    head = classifier(plan).name
    depths = {} if recipe.layer_decay == 1.0 else _depths(plan)

    def change(op: Op) -> Op | None:
        if op.name in frozen:
            return None if isinstance(op, DropPath) else _with(op, _freeze)
        factor = recipe.layer_decay ** depths.get(op.name, 0)
        return _at_rate(op, factor * recipe.head_rate if op.name == head else factor)

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


def _check_no_decay(plan: Plan, recipe: Recipe) -> None:
    """Raise where a pattern is that of no weight: it would decay what it was to spare."""
    names = [tensor.name for tensor in plan.tensors if not tensor.is_statistic]
    lines: list[str] = []
    for pattern in recipe.optimizer.no_decay or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            rule = f"matches no weight of {plan.name}"
            near = nearest(pattern, names)
            remedy = f"there is {names[-1]}" if near is None else did_you_mean(pattern, [near])
            lines.append(problem("optimizer.no_decay", pattern, rule, remedy))
    patterns, kind = recipe.optimizer.no_decay, recipe.optimizer.kind
    spares_all = not any(map(recipe.decays, plan.tensors))
    if patterns and spares_all and row_of(recipe.optimizer).adapts:
        rule = f"spare every weight, and {kind} adapts only those that have weight decay"
        lines.append(problem("optimizer.no_decay", ", ".join(patterns), rule, "let some decay"))
    if lines:
        raise RecipeError(*lines)


def _depths(plan: Plan) -> dict[str, int]:
    """Return for each op how many groups behind the head it is.

    The groups are the stem, each block, and the head, with all that comes after the last block:
    those of timm's `param_groups_layer_decay` for its ResNets, in whose pre-activation order the
    last norm is a group of its own.
    """
    blocks = [(block.address.stage, block.address.block) for block in plan.blocks]
    places = {place: len(blocks) - i for i, place in enumerate(blocks)}

    def depth(address: Address) -> int:
        if address.stage is not None:
            return places[address.stage, address.block or 0]
        return len(blocks) + 1 if address.part == "stem" else 0

    return {op.name: depth(op.address) for op in plan.ops}


def _at_rate(op: Op, factor: float) -> Op:
    """Return `op` with its weights at `factor` times the learning rate."""
    if factor == 1.0:
        return op
    return _with(op, lambda it: it if it.is_statistic else replace(it, rate=factor))


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
