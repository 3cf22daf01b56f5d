"""The test images of a run that chooses its best epoch by others: looked at once, at its end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from resnet_spec.contract import Session
from resnet_spec.errors import CheckpointError
from resnet_spec.running.evaluate import Evaluation, evaluate
from resnet_spec.running.opened import Opened, told_by_first
from resnet_spec.running.run_folder import RunFolder
from resnet_spec.running.runs import Position, Run
from resnet_spec.running.together import Together
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class Ended:
    """What is looked at once more at a run's end.

    epoch: the last epoch's evaluation where its line was lost. last: what the last weights gave on
    the test images. best: what those of the best epoch gave, of a run with validation. notes: why
    that is not known. weights: what the last weights gave where `last` is of their average.
    """

    epoch: Evaluation | None = None
    last: Evaluation | None = None
    best: Evaluation | None = None
    notes: tuple[str, ...] = ()
    weights: Evaluation | None = None


def chosen(run: Run, position: Position) -> dict[str, Any]:
    """Return what the best weights' file says of how they were chosen; see `Checkpoint.chosen`."""
    accuracy, epoch = position.best_accuracy, position.best_epoch
    return {"by": run.judged_by, "accuracy": accuracy, "epoch": epoch}


def best_of_test(
    run: Run, evaluator: Session, folder: RunFolder, position: Position, together: Together
) -> tuple[Evaluation | None, tuple[str, ...]]:
    """Return what the weights of the best epoch give on the test images, or why that is not known.

    All processes of the run ask at once. `evaluator` is left with those weights.
    """
    if not position.best_epoch:
        return None, ("no epoch has an accuracy: there is no best one to test",)
    wanted = chosen(run, position)
    found = told_by_first(together, _sound(folder, wanted) if together.is_first else None)
    if found is None:
        rule = f"{folder.best} does not hold the weights of epoch {position.best_epoch}"
        return None, (f"{rule}: their test accuracy is not known",)
    evaluator.load(found.start.state)
    result = evaluate(evaluator, run.tested, together=together)
    return result, () if result.problem is None else (f"best epoch, test images: {result.problem}",)


def _sound(folder: RunFolder, wanted: Mapping[str, Any]) -> Opened | None:
    """Return the best weights where they are those that the position tells of."""
    weights: Checkpoint | None = None
    with suppress(CheckpointError):
        weights = load_checkpoint(folder.best)
    if weights is None or dict(weights.chosen) != dict(wanted):
        return None
    return Opened(folder.best, weights)
