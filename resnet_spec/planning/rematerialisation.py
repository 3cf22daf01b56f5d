"""Rematerialisation, resolved in the plan: which blocks keep no activations for the backward pass.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

from __future__ import annotations

from dataclasses import replace

from resnet_spec.errors import RecipeError, problem
from resnet_spec.plan import Plan
from resnet_spec.planning.fine_tuning import fine_tuned
from resnet_spec.recipe import Recipe


def trained_by(plan: Plan, recipe: Recipe) -> Plan:
    """Return `plan` with all that `recipe` decides in it: what is frozen, what is computed again.

    Raises RecipeError where the network has fewer stages than the recipe names.
    """
    return rematerialised(fine_tuned(plan, recipe), recipe)


def rematerialised(plan: Plan, recipe: Recipe) -> Plan:
    """Return `plan` with the blocks that `recipe.remat` names in `Plan.remat`.

    Raises RecipeError where there are fewer stages than are named.
    """
    match recipe.remat:
        case "none":
            return plan
        case "all":
            count = len(plan.stages)
        case _:
            count = int(recipe.remat.removeprefix("stages="))
    if count > len(plan.stages):
        rule = f"the network has {len(plan.stages)} stages"
        raise RecipeError(problem("remat", recipe.remat, rule, "name fewer, or all"))
    named = [block.name for block in plan.blocks if (block.address.stage or 0) <= count]
    return replace(plan, remat=tuple(named))
