"""A range test of the learning rate: a short training at ever higher rates (Smith 2017).

Nothing of it is a run: it keeps no checkpoint, and begins as a run of the same job would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.batches import prefetch, train_batches
from resnet_spec.errors import RecipeError, problem
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.running.job import Job
from resnet_spec.running.opening import open_session
from resnet_spec.running.stages import stage_at, stages_of
from resnet_spec.running.teaching import teaching

Values = NDArray[np.float64]

_KEPT = 0.9
"""Of the mean of losses that is watched, at each step."""
_DIVERGED = 4.0
"""How many times its lowest value that mean reaches where the loss diverges (as in fastai)."""
_SURE = 6.0
"""Standard errors of the smoothed loss by which it has to fall."""
_CHUNKS = 20
_FEWEST, _MOST = 10, 10_000


@dataclass(frozen=True)
class Range:
    """The rates to try: `steps` of them from `low` to `high`, each the same times the one before.

    Raises RecipeError, a line for each number that makes none.
    """

    low: float
    high: float
    steps: int

    def __post_init__(self) -> None:
        lines = [
            problem(f"--{name}", f"{value:g}", "must be a positive, finite number")
            for name, value in (("low", self.low), ("high", self.high))
            if not 0.0 < value < math.inf
        ]
        if not lines and self.low >= self.high:
            lines.append(problem("--low", f"{self.low:g}", f"must be below --high = {self.high:g}"))
        if not _FEWEST <= self.steps <= _MOST:
            lines.append(problem("--steps", self.steps, f"must be from {_FEWEST} to {_MOST:,}"))
        if lines:
            raise RecipeError(*lines)

    @property
    def rates(self) -> Values:
        """The rate of each step, float64 [steps]."""
        return np.geomspace(self.low, self.high, self.steps)


@dataclass(frozen=True, eq=False)
class RateCurve:
    """The training loss by rate, as far as it went.

    rates, losses: float64 [n], the rate of each step and the loss of its batch before it; all are
        finite. n is less than `asked`, the number of rates to try, where the loss diverged.
    diverged: the rate at which it did; None where it did not.
    """

    rates: Values
    losses: Values
    asked: int
    diverged: float | None = None

    @property
    def smoothed(self) -> Values:
        """The loss under a Gaussian window of a twenty-fifth of all steps, float64 [n].

        It looks as far ahead as back, so that nothing is shifted towards higher rates; what goes on
        to diverge counts no more than the bound of divergence, or than all that came before.
        """
        if not len(self.losses):
            return self.losses
        kernel, means = self._kernel(), _means(self.losses)
        before = self.losses[: means.index(min(means)) + 1]
        radius, bound = len(kernel) // 2, max(float(before.max()), _DIVERGED * min(means))
        summed = np.convolve(np.minimum(self.losses, bound), kernel)
        whole = np.convolve(np.ones(len(self.losses)), kernel)
        return (summed / whole)[radius : radius + len(self.losses)]

    @property
    def lowest(self) -> int | None:
        """The step at which the smoothed loss is lowest; None where it does not fall.

        It falls where it does by more than six standard errors, which the differences between
        neighbouring losses give: they know nothing of a trend (von Neumann 1941).
        """
        if len(self.losses) < _FEWEST // 2:
            return None
        smoothed = self.smoothed
        at = int(smoothed.argmin())
        before = self.losses[: max(at + 2, len(self.losses) // 2)]
        spread = math.sqrt(float(np.mean(np.diff(before) ** 2)) / 2.0)
        error = spread * math.sqrt(float(np.sum(self._kernel() ** 2)))
        return at if smoothed[0] - smoothed[at] > _SURE * error else None

    @property
    def steepest(self) -> int | None:
        """The step up to the lowest at which the smoothed loss falls fastest by log(rate)."""
        if self.lowest is None:
            return None
        slopes = np.gradient(self.smoothed, np.log(self.rates))
        return int(slopes[: self.lowest + 1].argmin())

    @property
    def suggested(self) -> float | None:
        """The rate at which the smoothed loss falls fastest; None where it does not fall."""
        return None if self.steepest is None else float(self.rates[self.steepest])

    @property
    def tenth(self) -> float | None:
        """A tenth of the rate at which the smoothed loss is lowest; None where it does not fall."""
        return None if self.lowest is None else float(self.rates[self.lowest]) / 10.0

    @property
    def still_falls(self) -> bool:
        """Whether the loss is lowest at the last of all rates: higher ones may be better."""
        return self.diverged is None and self.lowest == len(self.rates) - 1

    def _kernel(self) -> Values:
        width = max(self.asked / 25.0, 1.0)
        radius = math.ceil(4.0 * width)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
        return weights / weights.sum()


def curve_of(rates: Values, losses: Values) -> RateCurve | None:
    """Return the curve of the losses so far, cut where it diverges; None before the end of `rates`.

    rates: all that are to be tried. losses: those of the first of them.
    """
    lowest = math.inf
    for step, mean in enumerate(_means(losses)):
        lowest = min(lowest, mean)
        if not math.isfinite(mean) or mean > _DIVERGED * lowest:
            kept = step + 1 if math.isfinite(losses[step]) else step
            return RateCurve(rates[:kept], losses[:kept], len(rates), float(rates[step]))
    return RateCurve(rates, losses, len(rates)) if len(losses) == len(rates) else None


def _means(losses: Values) -> list[float]:
    """Return the moving mean of the losses up to each, corrected for its beginning at 0."""
    total, means = 0.0, list[float]()
    for step, loss in enumerate(losses.tolist(), start=1):
        total = _KEPT * total + (1.0 - _KEPT) * loss
        means.append(total / (1.0 - _KEPT**step))
    return means


def try_rates(
    job: Job,
    asked: Range,
    tick: Callable[[int], None] = lambda steps: None,
    begins: Callable[[Mapping[str, str]], None] = lambda info: None,
) -> RateCurve:
    """Train at each rate of `asked` for a step, until the loss diverges.

    The weights, batches and all else are those of a run of `job`, and the backend's own loop takes
    the steps. tick: hears of steps done. begins: is told of the session's `info` first. Nothing is
    written. Raises BackendError for a device that cannot be had, DataError for data that cannot be
    read.
    """
    run = job.run
    opened = partial(open_session, run.backend, device=job.device, compile=job.compile)
    stage = stage_at(stages_of(run), 0)
    made = opened(stage.plan, recipe=run.recipe)
    teach = teaching(job.teacher, run.plan, partial(opened, precision=run.recipe.precision))
    begins(made.info)
    start = initial_state(run.plan, run.recipe.seed) if job.start is None else job.start.state
    made.load(start)
    rates, losses = asked.rates, np.empty(0)
    fixed = stage.plan.noises, stage.split, run.recipe
    source = train_batches(*fixed, 0, asked.steps, mean=stage.plan.input.mean)
    with prefetch(source, depth=2) as ready:
        batches = teach(ready, stage.plan)
        while (found := curve_of(rates, losses)) is None:
            # Of a fixed length, whatever the machine's speed: the same steps are taken each time.
            chunk = rates[len(losses) :][: max(asked.steps // _CHUNKS, 1)]
            log = made.train(islice(batches, len(chunk)), chunk)
            losses = np.concatenate([losses, np.asarray(log.loss, np.float64)])
            tick(len(chunk))
    if not len(found.losses):  # No rate has had to do with it.
        rule = f"the loss of the first batch is {losses[0]}"
        raise RecipeError(f"find-rate: {rule}; look at the network, its weights and the data")
    return found
