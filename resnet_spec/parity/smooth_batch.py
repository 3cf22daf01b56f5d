"""Choose a batch on which gradients can be compared: no ReLU within rounding of its corner."""

from __future__ import annotations

from resnet_spec.parity.kink_margin import SAFE, SAFE_RUN, Margin, margin
from resnet_spec.parity.setup import Setup, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

REFERENCE = "numpy"
"""The backend whose float64 results everything is compared with."""


def reference_of(setup: Setup) -> Side:
    """Return the reference's side of `setup`."""
    return Side(REFERENCE, setup, precision="float64")


def smooth_side(
    plan: Plan, recipe: Recipe, tries: int = 100, whole_run: bool = False
) -> tuple[Side, Margin]:
    """Return the reference on the first seed whose first batch has a safe margin, and that margin.

    With `whole_run`, all steps of the run must keep clear of corners, too, by `SAFE_RUN`. Where
    none of `tries` seeds is safe, the seed with the widest margin is taken; the caller decides what
    that means.
    """
    best: tuple[Side, Margin] | None = None
    for seed in range(tries):
        side = reference_of(make_setup(plan, recipe, seed))
        found = margin(plan, side.activations)
        if best is None or found.value > best[1].value:
            best = side, found
        if found.value >= SAFE and not (whole_run and margin_of_run(side).value < SAFE_RUN):
            return side, found
    assert best is not None
    return best


def margin_of_run(side: Side) -> Margin:
    """Return the smallest margin of all steps of the run, or the first that is not safe."""
    session, setup = side.session, side.setup
    margins: list[Margin] = []
    for i, batch in enumerate(setup.batches):
        margins.append(margin(setup.plan, dict(session.activations(batch, train=True))))
        if margins[-1].value < SAFE_RUN:
            break
        session.train([batch], *setup.pace(i, i + 1))
    return min(margins)
