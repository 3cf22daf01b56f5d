"""What a person sets of the learning rate over a run; `planning.schedules` makes numbers of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from resnet_spec.describing.descriptions import NotNegative, Positive, Table
from resnet_spec.errors import problem


class Schedule(Table):
    """The learning rate over the run, one value for each step."""

    kind: Literal[
        "constant",
        "cosine",
        "cosine_restarts",
        "linear",
        "polynomial",
        "step",
        "multi_step",
        "one_cycle",
    ] = "constant"
    """Its form.

    `constant`; `cosine`, `linear` and `polynomial` from `rate` down to `floor`; `cosine_restarts`:
    a cosine in each `period`, back up at its end; `step`: times `gamma` every `period`;
    `multi_step`: times `gamma` at each of `milestones`; `one_cycle`: linear from `floor`
    up to `rate` at the fraction `peak` of the run, then linear down to `floor`.
    """
    rate: Positive = 0.1
    """The highest rate."""
    floor: NotNegative = 0.0
    """The lowest rate; at most `rate`."""
    warmup: NotNegative = 0.0
    """Goes before any kind: linear from `warmup_start` up to `rate`."""
    warmup_start: NotNegative | None = None
    """The rate of the first step of the warm-up, which then reaches `rate` with the first step
    after it; without one the first has rate / (warm-up steps), and the last one `rate`."""
    cooldown: NotNegative = 0.0
    """What remains at `floor` at the end of the run; the rest is done when it begins."""
    unit: Literal["epochs", "steps"] = "epochs"
    """Of `warmup`, `cooldown`, `milestones` and `period`."""
    every: Literal["step", "epoch"] = "step"
    """How often the rate changes: with each `step`, or with each `epoch`, whose steps then all have
    the rate that its number gives, as if an epoch were one step."""
    counts_from: Literal["start", "warmup"] | None = None
    """Where the time of a kind begins: at the `start` of the run, so that the warm-up takes the
    place of its beginning, or at the end of the `warmup`. Without it, `step` and `multi_step` count
    from the start, the others from the warm-up."""
    milestones: Annotated[tuple[Positive, ...], Field(strict=False)] = ()
    """Where `multi_step` falls; rising."""
    period: Positive = 30.0
    """How often `step` falls; the length of the first cosine of `cosine_restarts`."""
    period_factor: Annotated[float, Field(ge=1.0)] = 1.0
    """How many times as long as the one before it each cosine of `cosine_restarts` is."""
    restart_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The factor by which the peak of `cosine_restarts` falls with each restart."""
    power: Positive = 1.0
    """Of `polynomial`: floor + (rate - floor) (1 - done)^power, done from 0 to 1."""
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """The factor by which `step` and `multi_step` fall."""
    peak: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    """Where in the run `one_cycle` is highest."""

    @property
    def counts_from_start(self) -> bool:
        """Whether the kind's time begins with the run, and not with the end of the warm-up."""
        if self.counts_from is None:
            return self.kind in ("step", "multi_step")
        return self.counts_from == "start"

    def broken_rules(self) -> Iterator[str]:
        """Yield a line for each rule between fields that is broken."""
        if self.floor > self.rate:
            yield problem("schedule.floor", self.floor, f"must be <= schedule.rate = {self.rate}")
        if self.kind == "multi_step" and not self.milestones:
            rule = "must be given when schedule.kind is multi_step"
            yield problem("schedule.milestones", "[]", rule)
        if list(self.milestones) != sorted(set(self.milestones)):
            yield problem("schedule.milestones", list(self.milestones), "must rise")
        yield from self._unread()
        if self.warmup_start is not None:
            yield from self._rules_of_start(self.warmup_start)
        if self.every == "epoch":
            yield from self._rules_of_epochs()

    def _unread(self) -> Iterator[str]:
        """Yield a line for each setting that is given, and that the kind does not read."""
        for name, kinds in _READ_BY.items():
            value = getattr(self, name)
            if self.kind not in kinds and value != type(self).model_fields[name].default:
                rule = f"{self.kind} has no {name}"
                remedy = f"remove it, or take a kind that has it: {', '.join(kinds)}"
                yield problem(f"schedule.{name}", json.dumps(value), rule, remedy)

    def _rules_of_start(self, start: float) -> Iterator[str]:
        if start > self.rate:
            rule = f"must be <= schedule.rate = {self.rate}"
            yield problem("schedule.warmup_start", start, rule)
        if self.warmup == 0:
            rule = "there is no warm-up to start"
            yield problem("schedule.warmup_start", start, rule, "give schedule.warmup, too")

    def _rules_of_epochs(self) -> Iterator[str]:
        if self.unit != "epochs":
            rule = "goes only with schedule.unit = epochs"
            yield problem("schedule.every", self.every, rule, "give all durations in epochs")
            return
        durations = {"warmup": [self.warmup], "cooldown": [self.cooldown]}
        if self.kind in ("step", "cosine_restarts"):
            durations["period"] = [self.period]
        if self.kind == "multi_step":
            durations["milestones"] = list(self.milestones)
        for name, values in durations.items():
            for value in values:
                if not value.is_integer():
                    rule = "must be whole epochs where schedule.every is epoch"
                    yield problem(f"schedule.{name}", value, rule)


_FALLING = ("cosine", "cosine_restarts", "linear", "polynomial")
_READ_BY = {
    "cooldown": (*_FALLING, "one_cycle"),
    "counts_from": (*_FALLING, "step", "multi_step"),
    "period_factor": ("cosine_restarts",),
    "restart_factor": ("cosine_restarts",),
    "power": ("polynomial",),
}
"""Which kinds read a setting; `milestones`, `period`, `gamma` and `peak` may lie unread, as in a
recipe that another is based on."""
