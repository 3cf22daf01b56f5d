"""Compare sides with the reference at several levels: the story behind `resnet-spec parity`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from resnet_spec.contract import Batch, Precision, State
from resnet_spec.describing.text_lists import Texts, listed, once_each
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.loader import precisions_of
from resnet_spec.parity.background_floors import Tick, look_at_all
from resnet_spec.parity.calibrate import within_range
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.levels import LEVELS, OF_GROUPS
from resnet_spec.parity.localise import localise
from resnet_spec.parity.setup import OWN_RECIPE, Setup, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import REFERENCE, reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.reporting.report import Finding, Report, Row


def compare_backends(
    plan: Plan,
    recipe: Recipe,
    backends: Texts,
    levels: Texts = tuple(LEVELS),
    precision: Precision = "float32",
    tick: Tick = lambda what: None,
    state: State | None = None,
    dataset: Sequence[Batch] = (),
) -> Report:
    """Return a report of every backend at every level against the float64 reference.

    All are given the same weights, images, noise and rates. `tick` is called with a few words
    before each piece of work.

    state: the weights; drawn, with norms as if trained for a while, where None.
    dataset: what predictions are compared on at the level `accuracy`.

    Raises BackendError when a backend cannot be had in `precision`.
    """
    names = listed(backends, "backends", BackendError)
    wanted = listed(levels, "levels", BackendError)
    check_levels(wanted)
    once_each(names, "backends", BackendError)
    for name in names:
        check_precision(name, precision)
    expected = reference_of(make_setup(plan, recipe, state=state, dataset=dataset))
    if state is None:
        expected = within_range(expected)
    sides = [Side(name, expected.setup, precision) for name in names]
    return compare_sides(expected, sides, wanted, precision, tick)


def compare_sides(
    expected: Side,
    sides: Sequence[Side],
    levels: Iterable[str],
    precision: Precision,
    tick: Tick = lambda what: None,
) -> Report:
    """Return a report of every side at every level against `expected`, the float64 reference.

    Where a level differs, the first wrong node is looked for.
    """
    setup = expected.setup
    levels = [level for level in levels if level != "accuracy" or setup.dataset]
    tick("reference")
    floors = Floors(expected, precision)
    looks = look_at_all(sides, floors, levels, tick)
    rows: list[Row] = []
    findings: list[Finding] = []
    environment = {REFERENCE: dict(floors.expected.info)}
    for side in sides:
        for level in levels:
            if side.offers(level):
                rows.append(judge(level, side, floors, looks[side, level]))
            else:
                note = "the model does not show it"
                rows.append(Row(side.backend, level, "undecided", note=note))
        wrong = [row for row in rows if row.backend == side.backend and row.is_wrong]
        if wrong:
            tick(f"{side.backend}: looking for the first wrong node")
            findings += localise(side, floors, [row.level for row in wrong])
        environment[side.backend] = dict(side.info)
    return Report(
        _title(setup, precision),
        tuple(rows),
        setting_of(setup, precision),
        environment,
        tuple(findings),
    )


def _title(setup: Setup, precision: Precision) -> str:
    plan, recipe = setup.plan, setup.recipe
    shape = f"{plan.input.height} x {plan.input.width} x {plan.input.channels}"
    return (
        f"{plan.name}, input {shape}, {by_recipe(recipe)}batch {recipe.batch}, {recipe.steps} "
        f"steps, {precision} against {REFERENCE} float64"
    )


def by_recipe(recipe: Recipe) -> str:
    """Return in a clause whose recipe it is; nothing for that of comparisons."""
    return "" if recipe.name == OWN_RECIPE else f"as {recipe.name} trains, "


def setting_of(setup: Setup, precision: str) -> dict[str, Any]:
    """Return what was compared, for a report."""
    image = setup.plan.input
    setting = {
        "network": setup.plan.name,
        "input": f"{image.height} x {image.width} x {image.channels}",
        "batch": setup.recipe.batch,
        "steps": setup.recipe.steps,
        "recipe": setup.recipe.name,
        "precision": precision,
        "reference": f"{REFERENCE} float64",
        "seed": setup.seed,
    }
    setting |= {"dataset": sum(map(len, setup.dataset))} if setup.dataset else {}
    return setting | ({"notes": list(setup.notes)} if setup.notes else {})


def check_precision(backend: str, precision: Precision) -> None:
    """Raise BackendError when `backend` cannot be loaded, or `precision` cannot be judged in it."""
    offered = [p for p in precisions_of(backend) if p in UNIT]
    if precision not in offered:
        rule = f"is not computed by {backend}, or cannot be judged"
        raise BackendError(problem("precision", precision, rule, f"use {' or '.join(offered)}"))


def check_levels(levels: Sequence[str]) -> None:
    """Raise BackendError for a level that does not exist, or is there twice."""
    once_each(levels, "level", BackendError)
    for level in levels:
        if level in OF_GROUPS:
            rule = "is of runs in several processes"
            raise BackendError(problem("level", level, rule, "give --processes 1,2 instead"))
        if level not in LEVELS:
            hint = did_you_mean(level, LEVELS)
            raise BackendError(problem("level", level, "does not exist", hint))
