"""Train: chunks of steps in the backend's own loop, and everything around them written once.

Evaluation, checkpoints, metrics, interruption and resume are the same in every framework. A run
stands in a folder: `metrics.jsonl` (a line per epoch), `last.safetensors` (everything, to go on),
`best.safetensors` (the evaluated weights of the best epoch), `summary.json` (at the end).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from typing import Protocol

from resnet_spec.batches import prefetch, train_batches
from resnet_spec.checkpoint import Checkpoint, save_checkpoint
from resnet_spec.contract import Session, StepLog
from resnet_spec.errors import CheckpointError, DataError, RecipeError, problem
from resnet_spec.evaluate import Evaluation, evaluate
from resnet_spec.files import write_json
from resnet_spec.initial import initial_state
from resnet_spec.interrupt import Interrupt
from resnet_spec.memory import peak_memory_mb
from resnet_spec.metrics import Epoch, append_metrics, keep_metrics, read_metrics
from resnet_spec.recipe import Recipe
from resnet_spec.run_folder import BEST, LAST, SUMMARY, keep
from resnet_spec.runs import Position, Run, Summary
from resnet_spec.schedules import Rates, rates
from resnet_spec.speed import Speed


class Watch(Protocol):
    """Hears of a run as it goes; the command line's shows a progress bar."""

    def chunk(self, position: Position, speed: float) -> None:
        """Some steps are done; `speed` is in images per second."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done and evaluated, or not due for evaluation."""
        ...


def fit(
    run: Run, session: Session, evaluator: Session, watch: Watch, start: Checkpoint | None = None
) -> Summary:
    """Train `session` by the run's recipe, from its seed or from `start`.

    evaluator: the session that evaluates; `session` itself unless the recipe keeps an average of
    the weights. Ctrl-C ends the chunk under way, writes the last checkpoint and returns a summary
    that is not `complete`. A run that is complete keeps the summary that it has. Raises RecipeError
    when the loss is no longer a number.
    """
    finished = _finished(run, start)
    if finished is not None:
        return finished
    position = _begin(run, session, start)
    schedule = rates(run.recipe, run.epoch_steps)
    speed, begun = Speed(), time.perf_counter() - position.wall_s
    with Interrupt() as interrupt:
        while position.step < run.total_steps and not interrupt.requested:
            end = _epoch_end(run, position.step)
            for log in _chunks(run, session, schedule, position.step, end, speed, interrupt):
                position = position.after(log)
                _check_finite(log, position.step, run.recipe)
                watch.chunk(position, speed.images_per_second)
            position = replace(position, wall_s=time.perf_counter() - begun)
            if position.step == end:
                position = _end_epoch(run, session, evaluator, position, schedule, speed, watch)
            if interrupt.requested or _checkpoint_due(run, position.step):
                _save(run, session, position)
        return _summarise(run, session, position, speed)


def _finished(run: Run, start: Checkpoint | None) -> Summary | None:
    """Return the summary of the run in the folder when `start` is its end."""
    path = run.out / SUMMARY
    if start is None or start.progress.get("step") != run.total_steps or not path.is_file():
        return None
    with suppress(DataError, ValueError):  # Made anew where it is damaged.
        summary = Summary.from_dict(json.loads(path.read_text(encoding="utf-8")))
        if summary.complete and summary.steps == run.total_steps:
            return summary
    return None


def _begin(run: Run, session: Session, start: Checkpoint | None) -> Position:
    if start is None:
        session.load(initial_state(run.plan, run.recipe.seed))
        keep_metrics(run.out, up_to_step=0)
        return Position(epoch_steps=run.epoch_steps).trained_by(run.backend)
    if not start.progress:
        raise CheckpointError("resume: the checkpoint holds weights alone; use last.safetensors")
    session.load(start.state)
    position = Position.from_dict(start.progress)
    keep_metrics(run.out, up_to_step=position.step)
    return replace(position, epoch_steps=run.epoch_steps).trained_by(run.backend)


def _chunks(
    run: Run,
    session: Session,
    schedule: Rates,
    first: int,
    end: int,
    speed: Speed,
    interrupt: Interrupt,
) -> Iterator[StepLog]:
    """Yield the logs of the steps first..end, a chunk each; fewer when interrupted."""
    source = train_batches(run.plan.noises, run.data.train, run.recipe, first, end)
    with prefetch(source, depth=2) as batches:
        step = first
        while step < end and not interrupt.requested:
            steps = speed.chunk_steps(end - step)
            clock = time.perf_counter()
            log = session.train(islice(batches, steps), schedule[step : step + steps])
            speed.add(int(log.count.sum()), steps, time.perf_counter() - clock)
            step += steps
            yield log


def _epoch_end(run: Run, step: int) -> int:
    return min((step // run.epoch_steps + 1) * run.epoch_steps, run.total_steps)


def _epoch_number(run: Run, step: int) -> int:
    return math.ceil(step / run.epoch_steps)


def _checkpoint_due(run: Run, step: int) -> bool:
    is_last = step == run.total_steps
    return is_last or _epoch_number(run, step) % run.recipe.checkpoint_every == 0


def _end_epoch(
    run: Run,
    session: Session,
    evaluator: Session,
    position: Position,
    schedule: Rates,
    speed: Speed,
    watch: Watch,
) -> Position:
    """Evaluate where due, keep the best, write the epoch's line; return the new position."""
    number = _epoch_number(run, position.step)
    is_last = position.step == run.total_steps
    result: Evaluation | None = None
    if is_last or number % run.recipe.evaluate_every == 0:
        weights = _checkpoint(run, session, position).evaluated()
        if evaluator is not session:
            evaluator.load(weights.state)
        result = evaluate(evaluator, run.data.test)
        if result.accuracy > position.best_accuracy:
            position = replace(position, best_accuracy=result.accuracy, best_epoch=number)
            save_checkpoint(run.out / BEST, weights)
    epoch = Epoch(
        epoch=number,
        step=position.step,
        rate=float(schedule[position.step - 1]),
        train_loss=position.loss_sum / position.count,
        train_accuracy=position.correct / position.count,
        test_loss=None if result is None else result.loss,
        test_accuracy=None if result is None else result.accuracy,
        images_per_second=speed.images_per_second,
        wall_s=position.wall_s,
    )
    append_metrics(run.out, epoch)
    watch.epoch(epoch)
    return replace(position, loss_sum=0.0, correct=0, count=0)


def _check_finite(log: StepLog, step: int, recipe: Recipe) -> None:
    for i, loss in enumerate(log.loss.tolist()):
        if not math.isfinite(loss):
            rule = f"the loss became {loss} at step {step - len(log.loss) + i + 1}"
            remedy = "lower it or add schedule.warmup"
            raise RecipeError(problem("schedule.rate", recipe.schedule.rate, rule, remedy))


def _checkpoint(run: Run, session: Session, position: Position) -> Checkpoint:
    return Checkpoint(
        spec=run.spec,
        state=session.state(),
        recipe=run.recipe,
        backend={"name": run.backend, **session.info},
        data=run.data_name,
        class_names=run.data.classes,
        progress=position.to_dict(),
        dataset=run.dataset,
    )


def _save(run: Run, session: Session, position: Position) -> None:
    save_checkpoint(run.out / LAST, _checkpoint(run, session, position))
    keep(run.out)


def _summarise(run: Run, session: Session, position: Position, speed: Speed) -> Summary:
    epochs = read_metrics(run.out)
    evaluated = [epoch for epoch in epochs if epoch.test_accuracy is not None]
    final = evaluated[-1] if evaluated else None
    summary = Summary(
        backend=run.backend,
        spec=run.spec.name,
        data=run.data_name,
        recipe=run.recipe.name,
        epochs=len(epochs),
        steps=position.step,
        best_accuracy=position.best_accuracy if final else None,
        best_epoch=position.best_epoch if final else None,
        final_accuracy=final.test_accuracy if final else None,
        final_loss=epochs[-1].train_loss if epochs else None,
        final_test_loss=final.test_loss if final else None,
        images_per_second=speed.images_per_second,
        first_step_s=speed.first_step_s,
        wall_s=position.wall_s,
        complete=position.step == run.total_steps,
        environment=dict(session.info),
        legs=[leg._asdict() for leg in position.legs],
        compile_s=speed.compile_s,
        peak_memory_mb=peak_memory_mb(),
        dataset=run.dataset.to_dict(),
        notes=[*run.data.notes, *position.data_changes],
    )
    write_json(run.out / SUMMARY, asdict(summary))
    return summary
