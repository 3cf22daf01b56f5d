"""A session by a backend's name: the one place where the core makes one to train."""

from __future__ import annotations

from types import NoneType
from typing import Any

from resnet_spec.contract import Precision, Session
from resnet_spec.errors import BackendError, RecipeError, check_kind, problem
from resnet_spec.group import ALONE, Group
from resnet_spec.loader import load_backend, manifest_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe


def open_session(
    backend: str,
    plan: Plan,
    recipe: Recipe | None = None,
    device: str = "auto",
    *,
    precision: Precision | None = None,
    compile: bool = False,
    group: Group = ALONE,
    shard: bool = False,
) -> Session:
    """Return a session of `backend`, which holds no weights yet.

    precision: None takes the recipe's, or float32 without one. Others as in `contract.Session`.
    Raises BackendError for a backend, device, precision or loss that cannot be had, and
    RecipeError for a loss that does not fit the network.
    """
    check_kind(BackendError, "device", device, [str], "must be a device's name, or auto")
    check_kind(BackendError, "compile", compile, [bool], "must be True or False")
    check_kind(BackendError, "precision", precision, [str, NoneType], "must be a precision's name")
    check_trains(backend, recipe, plan.classes)
    usual = "float32" if recipe is None else recipe.precision
    make = load_backend(backend).Session
    chosen = usual if precision is None else precision
    together: dict[str, Any] = {} if group.size == 1 else {"group": group}
    together |= {"shard": True} if shard else {}
    return make(plan, recipe, device=device, precision=chosen, compile=compile, **together)


def check_trains(backend: str, recipe: Recipe | None, classes: int) -> None:
    """Raise where `backend` cannot train by the loss, the teacher or the average of `recipe`.

    A session that does not know of them would compute others, and not say so. Raises RecipeError
    for a loss of other classes, too.
    """
    if recipe is None:
        return
    check_teaches(backend, recipe)
    if recipe.needs_targets:
        _check_loss(backend, recipe, classes)
    if recipe.ema.varies and not ((found := manifest_of(backend)) and found.keeps):
        name, value = next(iter(recipe.ema.varying.items()))
        rule = f"{backend} keeps the same of an average at every step"
        raise BackendError(problem(f"ema.{name}", value, rule, "remove it, or use another backend"))


def check_teaches(backend: str, recipe: Recipe) -> None:
    """Raise BackendError where `recipe` has a teacher, and `backend` would not learn from it."""
    if recipe.loss.teacher is None:
        return
    found = manifest_of(backend)
    if found is None or not found.teachers:
        rule = f"{backend} learns from no teacher"
        remedy = "remove it, or use another backend"
        raise BackendError(problem("loss.teacher", recipe.loss.teacher, rule, remedy))


def _check_loss(backend: str, recipe: Recipe, classes: int) -> None:
    wrong = recipe.loss.problem_with(classes, recipe.label_smoothing)
    if wrong is not None:
        raise RecipeError(wrong)
    found = manifest_of(backend)
    if found is None or recipe.loss.kind not in found.losses:
        what = "mixed images" if recipe.augment.mixes else "targets for every class"
        rule = f"{backend} does not compare logits with {what} so"
        raise BackendError(problem("loss.kind", recipe.loss.kind, rule, "use another backend"))
