"""Compare backends with the reference at several levels: the story behind `resnet-spec parity`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from resnet_spec.contract import Precision
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.loader import load_backend
from resnet_spec.parity.levels import LEVELS
from resnet_spec.parity.settle import REFERENCE, settle
from resnet_spec.parity.side import Side
from resnet_spec.parity.verdicts import judge
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.report import Report, Row

Tick = Callable[[str], None]
_TRIES = 8


def compare(
    plan: Plan,
    recipe: Recipe,
    backends: Sequence[str],
    levels: Iterable[str] = tuple(LEVELS),
    precision: Precision = "float32",
    tick: Tick = lambda what: None,
) -> Report:
    """Return a report of every backend at every level against the float64 reference.

    All are given the same drawn weights, images, noise and rates. `tick` is called with a few words
    before each piece of work. Raises BackendError when a backend cannot be had in `precision`.
    """
    levels = tuple(levels)
    for name in backends:
        check_precision(name, precision)
    tick("reference")
    expected, margin = settle(plan, recipe, _TRIES)
    rows: list[Row] = []
    environment = {REFERENCE: dict(expected.info)}
    for name in backends:
        got = Side(name, expected.setup, precision)
        for level in levels:
            tick(f"{name}: {level}")
            rows.append(judge(level, got, expected))
        environment[name] = dict(got.info)
    shape = f"{plan.input.height} x {plan.input.width} x {plan.input.channels}"
    setting = {
        "network": plan.name,
        "input": shape,
        "batch": recipe.batch,
        "steps": recipe.steps,
        "precision": precision,
        "reference": f"{REFERENCE} float64",
        "seed": expected.setup.seed,
        "margin": margin.value,
    }
    title = (
        f"{plan.name}, input {shape}, batch {recipe.batch}, {recipe.steps} steps, {precision} "
        f"against {REFERENCE} float64"
    )
    return Report(title, tuple(rows), setting, environment)


def check_precision(backend: str, precision: Precision) -> None:
    """Raise BackendError when `backend` cannot be loaded or does not compute in `precision`."""
    offered = load_backend(backend).PRECISIONS
    if precision not in offered:
        rule = f"is not computed by {backend}"
        raise BackendError(problem("precision", precision, rule, f"use {' or '.join(offered)}"))


def check_levels(levels: Iterable[str]) -> None:
    """Raise BackendError for a level that does not exist."""
    for level in levels:
        if level not in LEVELS:
            hint = did_you_mean(level, LEVELS)
            raise BackendError(problem("level", level, "does not exist", hint))
