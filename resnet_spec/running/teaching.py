"""A run that learns from a teacher: who that is, and its logits of every batch.

The teacher is a second session of the run's backend, in evaluation mode and with its own scale and
shift of the images. It sees the very images that the student does, whatever was done to them, and
batch by batch: there is no file of its logits, and a run that goes on meets the same ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from resnet_spec.contract import Batch, Session, State
from resnet_spec.data.class_matching import Matched, differing, match_classes
from resnet_spec.describing.spec import Spec
from resnet_spec.digests import digest
from resnet_spec.errors import CheckpointError, DataError, RecipeError, ResnetSpecError, problem
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.running.opening import check_teaches
from resnet_spec.running.run_folder import Say
from resnet_spec.running.runs import Run
from resnet_spec.weights.checkpoint import Checkpoint
from resnet_spec.weights.known_statistics import with_known_statistics
from resnet_spec.weights.loading import Pretrained, load_pretrained
from resnet_spec.weights.published.finding import place_of

Teach = Callable[[Iterator[Batch], Plan], Iterator[Batch]]
"""Adds a teacher's logits to batches of a plan's size, one by one as they are taken."""


@dataclass(frozen=True)
class Teacher:
    """Weights that a run learns from.

    place: where they are, as the run's recipe has it. spec: their network, with its own statistics
    of images. order: which of its classes each of the run's is.
    """

    place: str
    spec: Spec
    state: State = field(repr=False)
    order: tuple[int, ...]


def teacher_of(run: Run, say: Say, began: Path | None = None) -> tuple[Recipe, Teacher | None]:
    """Return the run's recipe with where its teacher is and what, and that; None without one.

    say: hears of what was assumed, a line each. began: the folder of a run that goes on, which has
    the teacher that it began with.

    Raises BackendError for a backend that learns from none, CheckpointError for a teacher that
    cannot be had, is another one, or has other classes or channels than the data, and RecipeError
    for one that would count for nothing.
    """
    recipe, loss = run.recipe, run.recipe.loss
    if loss.teacher is None:
        return recipe, None
    if loss.teacher_weight == 0:
        rule = "the teacher would cost a forward pass at each step, and count for nothing"
        remedy = "raise it, or train without one, by loss.teacher=none"
        raise RecipeError(problem("loss.teacher_weight", loss.teacher_weight, rule, remedy))
    check_teaches(run.backend, recipe)
    place = place_of(loss.teacher)
    weights = _read(place, began)
    found = digest(weights.state)
    if loss.teacher_digest not in (None, found):
        whose = "of loss.teacher_digest" if began is None else f"that the run in {began} began with"
        rule = f"its weights are not those {whose} ({loss.teacher_digest}, and they have {found})"
        remedy = "give those" if began is None else f"put them there again, {_OR}"
        raise _refused(place, rule, remedy)
    matched = _matched(weights, run, place)
    spec, note = with_known_statistics(weights, run.data)
    try:
        for size in (*recipe.augment.progressive, run.spec.input.size):
            lower(spec, size)
    except ResnetSpecError as error:
        raise CheckpointError(*(f"loss.teacher = {place}: {it}" for it in error.problems)) from None
    for line in (*weights.notes, *note, *matched.notes):
        say(f"note: loss.teacher: {line}")
    update = {"teacher": place, "teacher_digest": found}
    settled = recipe.model_copy(update={"loss": loss.model_copy(update=update)})
    return settled, Teacher(place, spec, weights.state, matched.order)


def where_it_is(start: Checkpoint, wanted: Recipe) -> Checkpoint:
    """Return where a run stands, with its teacher where `wanted` has it, if it is the same one."""
    recipe, loss = start.recipe, wanted.loss
    if recipe is None or loss.teacher is None or loss.teacher_digest != recipe.loss.teacher_digest:
        return start
    return _with_teacher_at(loss.teacher, start, recipe)


def moved(start: Checkpoint, recipe: Recipe, place: str | None) -> Checkpoint:
    """Return where a run of `recipe` stands, with its teacher at `place`; None: where it was.

    Which one that is, `teacher_of` looks at. Raises RecipeError for a run without a teacher.
    """
    if place is None:
        return start
    if recipe.loss.teacher is None:
        rule = "the run has no teacher"
        raise RecipeError(problem("--set loss.teacher", place, rule, "leave it out"))
    return _with_teacher_at(place, start, recipe)


def _with_teacher_at(place: str, start: Checkpoint, recipe: Recipe) -> Checkpoint:
    loss = recipe.loss.model_copy(update={"teacher": place})
    return replace(start, recipe=recipe.model_copy(update={"loss": loss}))


def check_teacher_stays(run: Run, *, overwrite: bool) -> None:
    """Raise DataError where `run` would replace the run that it is to learn from."""
    teacher = run.recipe.loss.teacher
    if teacher is None or not overwrite:
        return
    if Path(teacher).exists() and Path(teacher).resolve().is_relative_to(run.out.resolve()):
        rule = f"lies in {run.out}, which --overwrite would replace"
        raise DataError(problem("loss.teacher", teacher, rule, "give another --out"))


_OR = "or say where it is now with --set loss.teacher=PATH"


def _read(place: str, began: Path | None) -> Pretrained:
    """Return the weights of a teacher, who has a classifier."""
    try:
        weights = load_pretrained(place)
    except ResnetSpecError as error:
        gone = Path(place).is_absolute() and not Path(place).exists()
        remedy = "; give the path of one that is there" if gone else ""
        if gone and began is not None:
            remedy = f", and the run in {began} learns from it; put it there again, {_OR}"
        raise CheckpointError(*(_told(place, line) + remedy for line in error.problems)) from None
    if not weights.has_classifier:
        rule, remedy = "has no classifier, and so no logits to learn from", "give weights with one"
        raise _refused(place, rule, remedy)
    return weights


def _told(place: str, line: str) -> str:
    """Return a line about weights as one about the teacher."""
    for known in (f"pretrained = {place}: ", f"weights = {place}: ", f"{place}: "):
        line = line.removeprefix(known)
    return f"loss.teacher = {place}: {line}"


def _refused(place: str, rule: str, remedy: str = "") -> CheckpointError:
    return CheckpointError(problem("loss.teacher", place, rule, remedy))


def _matched(weights: Pretrained, run: Run, place: str) -> Matched:
    """Return which classes of a teacher those of the run are, by name."""
    theirs, data, spec = weights.class_names, run.data, weights.spec
    if spec.input.channels != data.channels:
        rule = f"was made for {spec.input.channels} channels, and {data.name} has {data.channels}"
        raise _refused(place, rule)
    try:
        return match_classes(
            data.classes, theirs, count=spec.classes, datasets=(data.name, weights.data_name)
        )
    except DataError:
        rule = f"its classes are not those of {data.name}: {differing(theirs, data.classes)}"
        if spec.classes < len(data.classes) or not theirs:
            rule = f"was made for {spec.classes} classes, and {data.name} has {len(data.classes)}"
        raise _refused(place, rule, "give a teacher of the data's classes") from None


def teaching(teacher: Teacher | None, first: Plan, made: Callable[[Plan], Session]) -> Teach:
    """Return what adds the logits of `teacher` to batches; None: nothing is added.

    first: the plan that is trained first. made: makes a session that evaluates a plan, at once and
    for every size of images that comes later. Raises BackendError as that does.
    """
    if teacher is None:
        return untaught

    @lru_cache(maxsize=1)
    def session_at(size: int) -> Session:
        session = made(lower(teacher.spec, size))
        session.load(teacher.state)
        return session

    session_at(first.input.height)
    return lambda batches, plan: taught(batches, session_at(plan.input.height), teacher)


def untaught(batches: Iterator[Batch], plan: Plan) -> Iterator[Batch]:
    """Return batches as they are."""
    return batches


def taught(batches: Iterator[Batch], session: Session, teacher: Teacher) -> Iterator[Batch]:
    """Yield batches with the logits of `teacher`, whom `session` holds, in the run's classes.

    Raises CheckpointError for logits that are not finite.
    """
    waiting = deque[Batch]()
    order = np.array(teacher.order)

    def shown() -> Iterator[Batch]:
        for batch in batches:
            waiting.append(batch)
            yield Batch(batch.images, batch.labels, batch.indices)

    for logits in session.predict(shown()):
        own = np.ascontiguousarray(logits[:, order], np.float32)
        if not np.isfinite(own).all():
            raise _refused(teacher.place, "has logits that are not finite, of images of this run")
        yield replace(waiting.popleft(), teacher=own)
