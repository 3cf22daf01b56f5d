"""The parts of a run whose training images have sizes of their own, each with its plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from resnet_spec.data.at_size import at_size
from resnet_spec.data.dataset import Split
from resnet_spec.errors import RecipeError, problem
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.rematerialisation import trained_by
from resnet_spec.running.runs import Run


class Stage(NamedTuple):
    """What is trained from `first_step` on, counted from 0, until the next stage begins."""

    first_step: int
    plan: Plan
    split: Split


def stages_of(run: Run) -> tuple[Stage, ...]:
    """Return the stages of a run: equal parts of its epochs, of `augment.progressive`'s sizes.

    The last one has the network's own size. Raises RecipeError for fewer epochs than stages, and
    SpecError for a size that the network cannot take.
    """
    sizes = run.recipe.augment.progressive
    parts = len(sizes) + 1
    if run.epochs < parts:
        rule = f"makes {parts} parts of a run, which must have as many epochs, and has {run.epochs}"
        raise RecipeError(problem("augment.progressive", list(sizes), rule, "train longer"))
    starts = [round(part * run.epochs / parts) * run.epoch_steps for part in range(parts)]
    before = [
        Stage(
            start,
            trained_by(lower(run.spec, input_size=size), run.recipe),
            at_size(run.data.train, size),
        )
        for start, size in zip(starts, sizes, strict=False)
    ]
    return (*before, Stage(starts[-1], run.plan, run.data.train))


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """Return the stage of the step that follows `step` ones."""
    return [stage for stage in stages if stage.first_step <= step][-1]
