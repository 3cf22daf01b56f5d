"""Train: chunks of steps in the backend's own loop, and everything around them written once.

Evaluation, checkpoints, metrics, interruption and resume are the same in every framework. A run
stands in a folder: `metrics.jsonl` (a line per epoch), `last.safetensors` (everything, to go on),
`previous.safetensors` (the one before it), `best.safetensors` (the evaluated weights of the best
epoch), `summary.json` (at the end, and where the run fails). Each epoch is evaluated on the
validation images where the run has some, and then on the test images once, at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, NoReturn

import numpy as np

from resnet_spec.contract import Session, StepLog
from resnet_spec.data.batches import prefetch, train_batches
from resnet_spec.data.dataset import Split
from resnet_spec.errors import CheckpointError, OutputError, RecipeError, problem
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.pace import Pace
from resnet_spec.running.evaluate import Evaluation
from resnet_spec.running.interruption import Interrupt
from resnet_spec.running.metrics import Epoch, keys_of
from resnet_spec.running.origin_of_nan import origin_of_nan
from resnet_spec.running.read_only_folder import folder_of
from resnet_spec.running.run_folder import LAST
from resnet_spec.running.runs import Position, Run, Summary
from resnet_spec.running.sessions import Sessions
from resnet_spec.running.speed import Speed
from resnet_spec.running.summarising import finished_summary, write_summary
from resnet_spec.running.teaching import Teach, untaught
from resnet_spec.running.testing import Ended, best_of_test, chosen
from resnet_spec.running.together import Together
from resnet_spec.running.watch import Watch
from resnet_spec.weights.checkpoint import Checkpoint
from resnet_spec.weights.files.weight_file import finite_problems


def fit(
    run: Run,
    session: Session,
    evaluator: Session,
    watch: Watch,
    start: Checkpoint | None = None,
    together: Together | None = None,
    made: Callable[[Plan], Session] | None = None,
    teach: Teach = untaught,
) -> Summary:
    """Train `session` by the run's recipe, from its seed or from `start`.

    session: of the plan of the step that comes next (`stages.stage_at`). evaluator: the session
    that evaluates; `session` itself unless the recipe keeps an average of the weights, or images
    are evaluated in another size. made: makes a session that trains a plan; needed where the recipe
    has stages of several sizes. teach: see `teaching.Teach`. together: the processes that train it,
    of which the first decides and writes, and alone sees the run's folder. Ctrl-C ends the chunk
    under way, writes the last checkpoint and returns a summary that is not `complete`. A run that
    is complete keeps the summary that it has.

    Raises RecipeError when the loss, a weight or, at the end, a logit is no longer a number. That
    or any other error is left in the summary, with the last sound checkpoint.
    """
    together = together or Together()
    finished = finished_summary(run, start) if together.is_first else None
    is_finished = together.any(finished is not None)
    if finished is not None:
        return finished
    going = _Going(run, Sessions(run, session, evaluator, together, made, teach), watch, start)
    if is_finished:
        return going.write_summary()
    try:
        return going.to_the_end()
    except Exception as error:
        with suppress(OutputError):  # The first error is the one to be told.
            going.write_summary(failed=_line(error))
        raise


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Going:
    """A run under way: where it stands, and who trains, evaluates and watches it."""

    def __init__(
        self, run: Run, sessions: Sessions, watch: Watch, start: Checkpoint | None
    ) -> None:
        self.run, self.sessions, self.watch = run, sessions, watch
        self.together = sessions.together
        self.folder = folder_of(run.out, self.together)
        self.speed = Speed()
        self._last: Evaluation | None = None
        self._last_own: Evaluation | None = None
        """Of the last epoch that had one; `own` is of the weights themselves beside an average."""
        self._stops = False
        """Whether a process was asked to stop, as all of them know it."""
        self.position: Position = self._begin(start).trained_by(run.backend)
        self._pace = Pace.of(run.recipe, run.epoch_steps)

    @property
    def session(self) -> Session:
        """The session that trains."""
        return self.sessions.trained

    def _begin(self, start: Checkpoint | None) -> Position:
        run = self.run
        if start is None:
            self.session.load(initial_state(run.plan, run.recipe.seed))
            position = Position()
        else:
            if not start.progress:
                raise CheckpointError(f"resume: the checkpoint holds weights alone; use {LAST}")
            position = Position.from_dict(start.progress)
            self.session.load(start.state)
        self.folder.drop_epochs(after_step=position.step)
        return replace(position, epoch_steps=run.epoch_steps)

    def to_the_end(self) -> Summary:
        """Train until the last step, or until Ctrl-C."""
        run, begun = self.run, time.perf_counter() - self.position.wall_s
        with Interrupt() as interrupt:
            while not run.is_done(self.position) and not self._stops:
                end = run.epoch_end(self.position.step)
                for log in self._chunks(end, interrupt):
                    self._check_loss(log)
                    self.position = self.position.after(log)
                    self.watch.chunk(self.position, self.speed.images_per_second)
                self.position = replace(self.position, wall_s=time.perf_counter() - begun)
                self._end_chunks(is_epoch=self.position.step == end)
            return self.write_summary(self._ended())

    def write_summary(self, ended: Ended | None = None, failed: str | None = None) -> Summary:
        """Write what the run came to, and return it."""
        fixed = self.run, self.session.info, self.position, self.speed
        return write_summary(*fixed, ended or Ended(), failed, self.folder)

    def _chunks(self, end: int, interrupt: Interrupt) -> Iterator[StepLog]:
        """Yield the logs of the steps up to `end`, a chunk each; fewer when interrupted."""
        step = self.position.step
        stage = self.sessions.enter(step)
        fixed = stage.plan.noises, stage.split, self.run.recipe, step, end, self.together.group
        source = train_batches(*fixed, stage.plan.input.mean)
        with prefetch(source, depth=2) as ready:
            batches = self.sessions.taught(ready)
            while step < end and (steps := self._agreed(end - step, interrupt)):
                clock = time.perf_counter()
                numbers = self._pace.between(step, step + steps)
                log = self.session.train(islice(batches, steps), *numbers)
                self.speed.add(int(log.count.sum()), steps, time.perf_counter() - clock)
                step += steps
                yield log

    def _agreed(self, left: int, interrupt: Interrupt) -> int:
        """Return how many of the steps that are left all processes take next; 0 to stop.

        Clocks differ: rank 0's counts, or the processes would wait for each other in vain.
        """
        wanted = 0 if interrupt.requested else self.speed.chunk_steps(left)
        found = self.together.gather(np.array([wanted], np.float64))[:, 0]
        self._stops = not found.all()
        return 0 if self._stops else int(found[0])

    def _end_chunks(self, *, is_epoch: bool) -> None:
        """Evaluate where an epoch is done, and save where that is due."""
        run, step = self.run, self.position.step
        is_last, number = step == run.total_steps, run.epoch_number(step)
        evaluates = is_epoch and (is_last or number % run.recipe.evaluate_every == 0)
        saves = is_last or self._stops or (is_epoch and number % run.recipe.checkpoint_every == 0)
        checkpoint = self._checkpoint() if evaluates or saves else None
        broken = finite_problems(checkpoint.state) if checkpoint is not None else []
        result = own = None
        if checkpoint is not None and evaluates and not broken:
            weights = checkpoint.evaluated()
            result = self._last = self.sessions.evaluate(weights, run.judged)
            own = self._last_own = self.sessions.evaluate_weights(checkpoint, run.judged)
            self._note_best(weights, result)
            is_last = run.is_done(self.position)
        epoch = None
        if is_epoch:
            images = len(run.judged) if evaluates and broken else 0
            epoch = self._end_epoch(result, images if result is None else result.not_finite, own)
        if checkpoint is not None and not broken and (saves or is_last):
            self.folder.save_last(replace(checkpoint, progress=self.position.to_dict()))
        if epoch is not None:  # It may raise: there is a checkpoint to go on from by now.
            self.watch.epoch(epoch)
        if broken:  # It would neither get well nor be read again.
            self._fail(f"{broken[0].partition(':')[0]} is not finite after step {step}")
        if is_last and result is not None and result.problem:
            self._fail(f"after the last step {result.problem}")

    def _ended(self) -> Ended:
        """Return what a run is evaluated once more for at its end."""
        run, weights = self.run, self._last_own
        if not run.is_done(self.position):
            return Ended()
        if run.recipe.ema.decay > 0 and (run.held_out is not None or self._last is None):
            weights = self.sessions.evaluate_weights(self._checkpoint(), run.tested)
        return replace(self._tested(), weights=weights)

    def _tested(self) -> Ended:
        """Evaluate the last epoch once more where its line was lost, and test the run."""
        step, run = self.position.step, self.run
        has_line = self.together.is_first and any(e.step == step for e in self.folder.epochs())
        is_told = self.together.any(has_line)
        if run.held_out is None and self._last is not None:
            return Ended(None if is_told else self._last, self._last)
        last = self._checkpoint()
        # A process that has only now gone on has not evaluated them.
        found = self._last or self._sound(last, run.judged, "")
        lost = None if is_told else found
        if run.held_out is None:
            return Ended(lost, found)
        tested = self._sound(last, run.tested, "on the test images ")
        if self.position.best_epoch == run.epoch_number(step):
            return Ended(lost, tested, tested)
        fixed = self.folder, self.position, self.together
        best, notes = best_of_test(run, self.sessions.judged, *fixed)
        if not self.sessions.is_apart:
            self.session.load(last.state)
        return Ended(lost, tested, best, notes)

    def _sound(self, last: Checkpoint, split: Split, where: str) -> Evaluation:
        """Return what the last weights give on `split`; the run fails where that is no number."""
        result = self.sessions.evaluate(last.evaluated(), split)
        if result.problem:
            self._fail(f"after the last step {where}{result.problem}")
        return result

    def _checkpoint(self) -> Checkpoint:
        run = self.run
        return Checkpoint(
            spec=run.spec,
            state=self.session.state(),
            recipe=run.recipe,
            backend={"name": run.backend, **self.session.info},
            data=run.data_name,
            class_names=run.data.classes,
            progress=self.position.to_dict(),
            dataset=run.dataset,
            held_out=run.held_out,
        )

    def _note_best(self, weights: Checkpoint, result: Evaluation) -> None:
        stopping = self.run.recipe.early_stopping
        if stopping.patience:
            self.position = self.position.judged(result.accuracy, stopping.min_delta)
        if result.accuracy is not None and result.accuracy > self.position.best_accuracy:
            number = self.run.epoch_number(self.position.step)
            self.position = replace(self.position, best_accuracy=result.accuracy, best_epoch=number)
            self.folder.save_best(replace(weights, chosen=chosen(self.run, self.position)))

    def _end_epoch(
        self, result: Evaluation | None, not_finite: int, own: Evaluation | None
    ) -> Epoch:
        """Write the epoch's line, and begin the sums of the next."""
        position, split = self.position, self.run.judged_by
        evaluated: dict[str, Any] = {
            "test_loss": None,
            "test_accuracy": None,
            f"{split}_loss": None if result is None else result.loss,
            f"{split}_accuracy": None if result is None else result.accuracy,
            f"{split}_not_finite": not_finite,
        }
        epoch = Epoch(
            epoch=self.run.epoch_number(position.step),
            step=position.step,
            rate=float(self._pace.rates[position.step - 1]),
            train_loss=position.loss_sum / position.count,
            train_accuracy=position.correct / position.count,
            images_per_second=self.speed.images_per_second,
            wall_s=position.wall_s,
            weights_loss=None if own is None else own.loss,
            weights_accuracy=None if own is None else own.accuracy,
            **evaluated,
        )
        self.folder.add_epoch(epoch, keys_of(split, averages=self.run.recipe.ema.decay > 0))
        self.position = replace(position, loss_sum=0.0, correct=0, count=0)
        return epoch

    def _check_loss(self, log: StepLog) -> None:
        for i, loss in enumerate(log.loss.tolist(), start=1):
            if not math.isfinite(loss):
                step = self.position.step + i
                rule = f"the loss became {loss} at step {step}"
                if origins := origin_of_nan(self.run, self.session, self.together, step - 1):
                    remedy = "look at its memory and its device, and go on with --resume"
                    raise RecipeError(*(f"{it}, and {rule}; {remedy}" for it in origins))
                self._fail(rule)

    def _fail(self, rule: str) -> NoReturn:
        remedy = "lower it or add schedule.warmup"
        raise RecipeError(problem("schedule.rate", self.run.recipe.schedule.rate, rule, remedy))
