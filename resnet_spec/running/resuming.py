"""A run that goes on meets its data again: the same, refused by name, or accepted by consent.

The schedule never changes in silence: an epoch has the steps that it had as the run began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from resnet_spec.data.as_before import as_before
from resnet_spec.data.batches import steps_per_epoch
from resnet_spec.data.class_matching import Matched, match_classes
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.held_out import HeldOut, hold_out
from resnet_spec.data.relabelled import relabelled
from resnet_spec.describing.descriptions import NONE
from resnet_spec.errors import CheckpointError, DataError, RecipeError, problem
from resnet_spec.planning.schedules import total_steps
from resnet_spec.recipe import Recipe
from resnet_spec.running.metrics import FILE_NAME, read_metrics, torn
from resnet_spec.running.runs import Position, Run
from resnet_spec.weights.checkpoint import Checkpoint

ACCEPT = "--accept-data"
"""The option that goes on with other data than the run began with."""


_MOST_FIELDS = 4
"""How many fields that differ are told."""


@dataclass(frozen=True)
class GoesOn:
    """What a run goes on with.

    data: its classes are the network's. dataset: what it is as it was read. held_out: which images
    are for validation. notes: one line each.
    """

    data: Dataset
    dataset: Fingerprint
    position: Position
    notes: tuple[str, ...]
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class Consent:
    """What a person takes on: other data than before, and labels by position."""

    data: bool = False
    classes: bool = False


def going_on(
    start: Checkpoint, recipe: Recipe, data: Dataset, where: str, folder: Path, consent: Consent
) -> GoesOn:
    """Return how the run in `folder` goes on from `start` with `data`.

    where: how the data was named, for errors. With other data, by consent, classes are matched by
    name unless that is consented to as well; schedule, epochs and evaluation keep the steps per
    epoch that the run began with; the best epoch counts anew where the images that it is chosen by
    are others. What the run held out for validation it holds out again; a validation part of the
    data's own that it did not begin with is not used (`as_before`).

    Raises DataError, with what differs, for data that is not what the run began with, and for data
    that cannot be gone on with; CheckpointError for a start that is no run's.
    """
    position = Position.from_dict(start.progress)
    before = start.dataset
    if before is None or not position.epoch_steps:
        rule = "does not say what data its run began with"
        raise CheckpointError(problem("--resume", folder, rule, "train it anew"))
    data = as_before(data, before)
    now = Fingerprint.of(data)
    _check_epoch(position, start, before, folder)
    # First: what no consent mends is not offered one.
    _check_usable(start, recipe, now, where)
    _check_holds_out(start, data, recipe, now, where)
    changes = before.changes(now)
    if changes and not consent.data:
        rule = f"is not what the run in {folder} began with: {'; '.join(changes)}"
        raise DataError(f"{where}: {rule}; give that data, or go on with this by {ACCEPT}")
    matched = _matched(start, data, where, consent, is_same=not changes)
    _check_end(position, recipe, folder)
    notes = [*matched.notes, *_lost_epochs(position, folder)]
    data, held_out = _held_out_again(start, relabelled(data, matched), recipe, now)
    if changes:
        notes.append(_told(changes, position, len(data.train) // recipe.batch))
        judged_by = "test" if held_out is None else "train"
        judged_by = "validation" if held_out and held_out.fraction is None else judged_by
        position = _changed(position, (*changes, *matched.notes), before, now, judged_by)
    elif held_out != start.held_out:
        rule = "the validation images are not those that its run held out"
        raise CheckpointError(problem("--resume", folder, rule, "train it anew"))
    return GoesOn(data, now, position, tuple(notes), held_out)


def _held_out_again(
    start: Checkpoint, data: Dataset, recipe: Recipe, read: Fingerprint
) -> tuple[Dataset, HeldOut | None]:
    """Return the data with the part for validation that the run began with, and which that is."""
    if start.held_out is None or start.held_out.fraction is None:
        return data, HeldOut.own(read)
    return hold_out(data, start.held_out.fraction, recipe.batch)


def check_same_run(found: Run, wanted: Run) -> None:
    """Raise RecipeError, with what differs, where the run `found` was begun as another one."""
    asked = _asked(found), _asked(wanted)
    kinds = (
        (run.spec.to_dict(), run.recipe.to_dict(), {"validation": held})
        for run, held in zip((found, wanted), asked, strict=True)
    )
    lines = [
        f"{key} = {_shown(was)}, not {_shown(now)}"
        for a, b in zip(*kinds, strict=True)
        for key, was, now in _changed_fields(a, b)
    ]
    if lines:
        rule = f"the run in {found.out} was begun with another network or recipe"
        told = "; ".join(lines[:_MOST_FIELDS])
        raise RecipeError(f"--auto-resume: {rule} ({told}); give its own, or another --out")


def _shown(value: object) -> object:
    return NONE if value is None else value


def _asked(run: Run) -> float | str:
    """Return what is held out, as it was asked for; the data says whether it has its own part."""
    held = run.held_out
    return "none" if held is None or held.fraction is None else held.fraction


def _changed_fields(
    was: Mapping[str, Any], now: Mapping[str, Any], at: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, as `stages[2].width`, and both values of what differs."""
    for key in [*was, *(key for key in now if key not in was)]:
        yield from _changed_value(was.get(key), now.get(key), f"{at}.{key}" if at else key)


def _changed_value(was: Any, now: Any, at: str) -> Iterator[tuple[str, Any, Any]]:
    first, second = _tables([was]), _tables([now])
    if first and second:
        yield from _changed_fields(first[0], second[0], at)
        return
    first, second = _tables(was), _tables(now)
    if not (first and second):
        if was != now:
            yield at, was, now
        return
    if len(first) != len(second):
        yield f"the number of {at}", len(first), len(second)
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        yield from _changed_fields(a, b, f"{at}[{i}]")


def _tables(value: object) -> Sequence[Mapping[str, Any]]:
    """Return a list of tables; nothing for another value."""
    items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()
    is_tables = all(isinstance(item, Mapping) for item in items)
    return cast("Sequence[Mapping[str, Any]]", items) if is_tables else ()


def _check_epoch(position: Position, start: Checkpoint, before: Fingerprint, folder: Path) -> None:
    """Refuse an epoch that is not a pass over the data that the run began with, where it is known.

    After a change of the data by consent it is not: `before` is then what it was changed to.
    """
    split = before.splits.get("train")
    if split is None or position.data_changes:
        return
    assert start.recipe is not None
    held = 0 if start.held_out is None else start.held_out.of_training
    steps = steps_per_epoch(split.count - held, start.recipe.batch)
    if position.epoch_steps != steps:
        found = f"epoch_steps = {position.epoch_steps}: must be {steps}, by its data and batch"
        rule = f"the position of its run is damaged ({found})"
        raise CheckpointError(f"--resume = {folder}: {rule}")


def _lost_epochs(position: Position, folder: Path) -> list[str]:
    """Return a note where the lines of epochs are lost that the checkpoint has behind it."""
    done, lines = position.step // position.epoch_steps, 0
    with suppress(DataError):  # There is no file; a damaged one is told of as it is read.
        lines = sum(epoch.step <= position.step for epoch in read_metrics(folder))
        lines += torn(folder) is not None  # Which is said where the run is taken over.
    if lines >= done:
        return []
    return [f"{folder / FILE_NAME}: has {lines} of {done} epochs; curves lack the others"]


def _check_usable(start: Checkpoint, recipe: Recipe, now: Fingerprint, where: str) -> None:
    """Refuse data that no consent makes fit."""
    is_own = start.held_out is not None and start.held_out.fraction is None
    if is_own and "validation" not in now.splits:
        rule = "has no validation part, and the run chooses its best epoch by one"
        raise DataError(f"{where}: {rule}; give data that has one")
    if now.channels != start.spec.input.channels:
        rule = f"has {now.channels} channels, and the network was made for"
        raise DataError(f"{where}: {rule} {start.spec.input.channels}")
    count = now.splits["train"].count
    if count < recipe.batch:
        rule = f"has {count} training images, fewer than the run's batch of {recipe.batch}"
        raise DataError(f"{where}: {rule}")


def _check_holds_out(
    start: Checkpoint, data: Dataset, recipe: Recipe, now: Fingerprint, where: str
) -> None:
    """Refuse data of which the run's part for validation cannot be held out."""
    try:
        _held_out_again(start, data, recipe, now)
    except DataError as error:
        rule, _, _ = str(error).partition(";")  # What it says to do is of a fresh run.
        raise DataError(f"{where}: the run's {rule}; give data that has more") from None


def _matched(
    start: Checkpoint, data: Dataset, where: str, consent: Consent, *, is_same: bool
) -> Matched:
    """Return the classes of the data among the network's.

    Data that has been gone on with before, by position and by consent, needs no consent again.
    """

    def match(ignore: bool) -> Matched:
        count = start.spec.classes
        names = start.class_names
        sets = (data.name, data.name if is_same else start.data_name)
        return match_classes(
            data.classes, names, count=count, where=where, ignore=ignore, datasets=sets
        )

    try:
        return match(consent.classes)
    except DataError:
        if not is_same:
            raise
        return match(ignore=True)


def _check_end(position: Position, recipe: Recipe, folder: Path) -> None:
    total = total_steps(recipe, position.epoch_steps)
    if position.step > total:
        rule = f"is at step {position.step}, and its recipe ends at {total} with this data"
        raise CheckpointError(problem("--resume", folder, rule, "give the data that it began with"))


def _told(changes: Sequence[str], position: Position, passes: int) -> str:
    steps = position.epoch_steps
    kept = f"the schedule and its epochs of {steps} steps stay as they were"
    told = f"the data is not what the run began with: {'; '.join(changes)}; {kept}"
    return told if passes == steps else f"{told}, and a pass over the data takes {passes}"


def _changed(
    position: Position,
    changes: Sequence[str],
    before: Fingerprint,
    now: Fingerprint,
    judged_by: str,
) -> Position:
    """Return the position with the change kept; what was best on other images is not.

    judged_by: the split that the best epoch is chosen by, or out of.
    """
    kept = f"the data changed after step {position.step}: {'; '.join(changes)}"
    position = replace(position, data_changes=(*position.data_changes, kept))
    if not before.image_changes(now, (judged_by,)):
        return position
    return replace(position, best_accuracy=-1.0, best_epoch=0, waited=0, better_than=-1.0)
