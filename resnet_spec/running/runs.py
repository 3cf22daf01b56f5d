"""A run: what is trained and where it is kept, and where it stands; see `summary` for its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from resnet_spec.contract import StepLog
from resnet_spec.data.at_size import at_size, view_of
from resnet_spec.data.batches import steps_per_epoch
from resnet_spec.data.dataset import Dataset, Split
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.held_out import HeldOut
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.schedules import total_steps
from resnet_spec.recipe import Recipe
from resnet_spec.running.metrics import TEST, VALIDATION
from resnet_spec.running.summary import Summary as Summary
from resnet_spec.running.summary import is_finite


@dataclass(frozen=True)
class Run:
    """What is trained, on what, and where it is kept.

    data_name: the place of the data. read: its identity where its labels were mapped since; None:
    that of `data`. began_with: the steps of an epoch of a run that goes on; 0: as the data has it.
    held_out: which images are `data.validation`; they are not in `data.train`, and `read` is the
    data with them in it. None: none are.
    """

    spec: Spec
    plan: Plan
    recipe: Recipe
    backend: str
    data: Dataset
    data_name: str
    out: Path
    read: Fingerprint | None = None
    began_with: int = 0
    held_out: HeldOut | None = None

    @cached_property
    def dataset(self) -> Fingerprint:
        """The identity of the data, as it was read."""
        return self.read or Fingerprint.of(self.data)

    @property
    def judged_by(self) -> str:
        """Which images each epoch is evaluated on, and the best one chosen by."""
        return TEST if self.held_out is None else VALIDATION

    @cached_property
    def judged(self) -> Split:
        """Those images, as they are evaluated."""
        return self.tested if self.data.validation is None else self._seen(self.data.validation)

    @cached_property
    def tested(self) -> Split:
        """The test images, as they are evaluated."""
        return self._seen(self.data.test)

    def _seen(self, split: Split) -> Split:
        """Return `split` in the size and the view in which the recipe has it evaluated."""
        size = self.recipe.evaluation.size or self.plan.input.height
        view = view_of(size, self.recipe.evaluation.crop)
        is_as_trained = size == self.plan.input.height and view is None
        return split if is_as_trained else at_size(split, size, view)

    @cached_property
    def evaluated_plan(self) -> Plan | None:
        """The plan of the images that are evaluated; None where that is the one that is trained.

        Raises SpecError for a size that the network cannot take.
        """
        size = self.recipe.evaluation.size
        if size is None or size == self.plan.input.height:
            return None
        return lower(self.spec, input_size=size)

    @property
    def epoch_steps(self) -> int:
        """Optimiser steps in an epoch (an incomplete last batch is dropped).

        Those that the run began with, where it goes on with other data.
        """
        return self.began_with or steps_per_epoch(len(self.data.train), self.recipe.batch)

    def epoch_end(self, step: int) -> int:
        """Return the step with which the epoch ends that follows `step` ones."""
        return min((step // self.epoch_steps + 1) * self.epoch_steps, self.total_steps)

    def epoch_number(self, step: int) -> int:
        """Return the number, from 1, of the epoch that the last of `step` steps was in."""
        return -(-step // self.epoch_steps)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return total_steps(self.recipe, self.epoch_steps)

    def is_done(self, position: Position) -> bool:
        """Whether the run ends at `position`, at its last step or early."""
        patience = self.recipe.early_stopping.patience
        return position.step == self.total_steps or 0 < patience <= position.waited

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, the last of which may be cut short."""
        return -(-self.total_steps // self.epoch_steps)


class Leg(NamedTuple):
    """The part of a run that one backend trained: from `first_step`, counted from 1."""

    backend: str
    first_step: int


@dataclass(frozen=True)
class Position:
    """Where a run stands: what `last.safetensors` keeps beside the arrays.

    The sums belong to the epoch under way, so that a run stopped in its middle reports the same.
    legs: who has trained the run so far. epoch_steps: the steps of an epoch; 0 before the first.
    data_changes: how the data changed, by consent, since the run began; a line each. waited: the
    evaluations since the last one that was better, by the recipe's `early_stopping`. better_than:
    the accuracy of that one; -1 before the first.
    """

    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    count: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    wall_s: float = 0.0
    legs: tuple[Leg, ...] = ()
    epoch_steps: int = 0
    data_changes: tuple[str, ...] = ()
    waited: int = 0
    better_than: float = -1.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Position:
        """Return the position that `to_dict` wrote. Raises CheckpointError for what is none."""
        unknown = sorted(data.keys() - {field.name for field in fields(cls)})
        if unknown:
            rule = "the position of its run has what this version does not know"
            raise CheckpointError(f"{rule} ({', '.join(unknown)}); update")
        names = [field.name for field in fields(cls) if field.name not in _OF_STOPPING]
        missing = [name for name in names if name not in data]
        if missing:
            raise CheckpointError(f"the position of its run lacks {', '.join(missing)}")
        legs, changes = _legs(data["legs"]), _lines(data["data_changes"])
        lists = ("legs", "data_changes")
        numbers = {name: value for name, value in data.items() if name not in lists}
        for name, value in numbers.items():
            kinds = (int, float) if isinstance(getattr(cls, name), float) else (int,)
            if not isinstance(value, kinds) or isinstance(value, bool) or not is_finite(value):
                raise CheckpointError(f"the position of its run is damaged ({name} = {value})")
        position = cls(**numbers, legs=legs, data_changes=changes)
        if wrong := _out_of_range(position):
            raise CheckpointError(f"the position of its run is damaged ({wrong})")
        return position

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        lists = {
            "legs": [list(leg) for leg in self.legs],
            "data_changes": list(self.data_changes),
        }
        left_out = () if self.better_than >= 0 or self.waited else _OF_STOPPING
        plain = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {**plain, **lists}

    def trained_by(self, backend: str) -> Position:
        """Return the position with `backend` as the one that goes on from here."""
        if self.legs and self.legs[-1].backend == backend:
            return self
        return replace(self, legs=(*self.legs, Leg(backend, self.step + 1)))

    def judged(self, accuracy: float | None, min_delta: float) -> Position:
        """Return the position after an evaluation; None: the network has no accuracy."""
        least = self.better_than + (min_delta if self.better_than >= 0 else 0.0)
        if accuracy is not None and accuracy > least:
            return replace(self, waited=0, better_than=accuracy)
        return replace(self, waited=self.waited + 1)

    def after(self, log: StepLog) -> Position:
        """Return the position after the steps of `log`."""
        return replace(
            self,
            step=self.step + len(log.loss),
            # Summed one by one, so that the sum does not depend on how the epoch was cut into
            # chunks.
            loss_sum=_running_sum(self.loss_sum, log),
            correct=self.correct + int(log.correct.sum()),
            count=self.count + int(log.count.sum()),
        )


_OF_STOPPING = ("waited", "better_than")
"""Fields that a run has which may stop early."""


def _legs(value: object) -> tuple[Leg, ...]:
    parts = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [None]
    legs = list[Leg]()
    for part in parts:
        match part:
            case [str(backend), int(first)] if not isinstance(first, bool):
                legs.append(Leg(backend, first))
            case _:
                raise CheckpointError("the position of its run is damaged (legs)")
    return tuple(legs)


def _lines(value: object) -> tuple[str, ...]:
    parts = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [None]
    lines = tuple(part for part in parts if isinstance(part, str))
    if len(lines) < len(parts):
        raise CheckpointError("the position of its run is damaged (data_changes)")
    return lines


def _out_of_range(position: Position) -> str:
    """Return the first field that no run can have, with its rule; "" where all can be."""
    for name in ("step", "correct", "count", "best_epoch", "wall_s", "epoch_steps", "waited"):
        if getattr(position, name) < 0:
            return f"{name} = {getattr(position, name)}: must be >= 0"
    if position.correct > position.count:
        return f"correct = {position.correct}: must be <= count = {position.count}"
    for name in ("best_accuracy", "better_than"):
        best = getattr(position, name)
        if best != -1 and not 0 <= best <= 1:
            return f"{name} = {best}: must be >= 0 and <= 1, or -1 for none"
    if position.epoch_steps and position.best_epoch > -(-position.step // position.epoch_steps):
        return f"best_epoch = {position.best_epoch}: comes after step {position.step}"
    firsts = [leg.first_step for leg in position.legs]
    if firsts != sorted(firsts) or any(not 1 <= one <= position.step + 1 for one in firsts):
        return f"legs = {[list(leg) for leg in position.legs]}: end at step {position.step}"
    return ""


def _running_sum(start: float, log: StepLog) -> float:
    for loss, count in zip(log.loss.tolist(), log.count.tolist(), strict=True):
        start += loss * count
    return start
