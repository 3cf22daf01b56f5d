"""What a run came to, put together from where it stands and from its metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from resnet_spec.errors import DataError
from resnet_spec.running.memory import peak_memory_mb
from resnet_spec.running.metrics import Epoch
from resnet_spec.running.run_folder import RunFolder
from resnet_spec.running.runs import Position, Run, Summary
from resnet_spec.running.speed import Speed
from resnet_spec.running.testing import Ended
from resnet_spec.weights.checkpoint import Checkpoint


def write_summary(
    run: Run,
    info: Mapping[str, str],
    position: Position,
    speed: Speed,
    ended: Ended,
    failed: str | None,
    folder: RunFolder,
) -> Summary:
    """Write the summary of a run that has ended, was stopped or has failed, and return it.

    ended: what was looked at once more at the end. failed: why the run ended early.
    Raises OutputError.
    """
    epochs = list[Epoch]()
    with suppress(DataError):  # Of a failed run's metrics, what can be read.
        epochs = folder.epochs()
    evaluated = [epoch for epoch in epochs if epoch.is_evaluated]
    last = ended.epoch or (evaluated[-1] if evaluated else None)
    has_validation = run.held_out is not None
    test = ended.last
    tested = test if has_validation else last
    has_best = position.best_epoch > 0
    summary = Summary(
        backend=run.backend,
        spec=run.spec.name,
        data=run.data_name,
        recipe=run.recipe.name,
        epochs=epochs[-1].epoch if epochs else 0,
        steps=position.step,
        best_accuracy=position.best_accuracy if has_best else None,
        best_epoch=position.best_epoch if has_best else None,
        final_accuracy=None if tested is None else tested.accuracy,
        final_loss=None if ended.epoch or not epochs else epochs[-1].train_loss,
        final_test_loss=None if tested is None else tested.loss,
        images_per_second=speed.images_per_second,
        first_step_s=speed.first_step_s,
        wall_s=position.wall_s,
        complete=run.is_done(position) and failed is None,
        environment=dict(info),
        legs=[leg._asdict() for leg in position.legs],
        compile_s=speed.compile_s,
        peak_memory_mb=peak_memory_mb(),
        dataset=run.dataset.to_dict(),
        notes=[*run.data.notes, *position.data_changes, *ended.notes],
        failed=failed,
        asked=None if folder.last.is_file() else _asked(run),
        best_of=run.judged_by,
        stopped_early=run.is_done(position) and position.step < run.total_steps,
        best_test_accuracy=None if ended.best is None else ended.best.accuracy,
        final_validation_accuracy=last.accuracy if last and has_validation else None,
        final_weights_accuracy=None if ended.weights is None else ended.weights.accuracy,
        final_top5_accuracy=None if test is None else test.top5,
        final_calibration_error=None if test is None else test.calibration_error,
        class_accuracies=None if test is None else _or_none(test.class_accuracies),
        held_out=None if run.held_out is None else run.held_out.to_dict(),
    )
    folder.write_summary(summary)
    return summary


def finished_summary(run: Run, start: Checkpoint | None) -> Summary | None:
    """Return the summary of the run in the folder when `start` is its end."""
    path = RunFolder(run.out).summary
    if start is None or not start.progress or not path.is_file():
        return None
    position = Position.from_dict(start.progress)
    if not run.is_done(position):
        return None
    with suppress(
        DataError, ValueError, TypeError, RecursionError
    ):  # Made anew where it is damaged.
        summary = Summary.from_dict(json.loads(path.read_text(encoding="utf-8")))
        if summary.complete and summary.steps == position.step:
            return summary
    return None


def _or_none(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]


def _asked(run: Run) -> dict[str, object]:
    return {"spec": run.spec.to_dict(), "recipe": run.recipe.to_dict()}
