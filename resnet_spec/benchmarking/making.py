"""A contestant in its own process: our session's turn, or what a peer's factory gives.

Imported by the worker alone; it imports the framework.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any, cast

import numpy as np

from resnet_spec.bench import RATE, Case, Contestant, Product, Profile, Turn
from resnet_spec.benchmarking.asked import Asked
from resnet_spec.benchmarking.entries import Entry
from resnet_spec.benchmarking.profiles import answer_of
from resnet_spec.contract import Batch, Session
from resnet_spec.data.batches import noise
from resnet_spec.errors import BackendError, problem
from resnet_spec.loader import load_backend, manifest_of
from resnet_spec.manifest_bench import Bench
from resnet_spec.parity.wrapping import load_function
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.rematerialisation import trained_by
from resnet_spec.running.opening import open_session

Answer = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A contestant that is ready, and what else its process can tell.

    product: None where nobody offers one. device_bytes: what the device held at the most, None
    where that is unknown. profile: takes a number of steps under the framework's profiler; None
    where nobody can.
    """

    contestant: Contestant
    product: Product | None
    device_bytes: Callable[[], int | None]
    profile: Callable[[int], Answer] | None = None


def make(asked: Asked, entry: Entry, file: Any = None) -> Made:
    """Return the contestant of `entry`. file: the exported model, for a peer that runs one.

    Raises BackendError where it is another network than the plan, and whatever a framework raises.
    """
    case = asked.case(state=initial_state(asked.plan, seed=0), file=file)
    session = None
    if entry.is_ours:
        session, contestant = ours(case, entry.backend)
    else:
        contestant = _peers(case, entry)
    if contestant.params is not None and contestant.params != asked.params:
        rule = f"has {contestant.params:,} trainable values, and {asked.spec.name} {asked.params:,}"
        raise BackendError(f"{rule}: it is another network")
    bench = _bench(entry.backend)
    product = None
    if entry.is_ours and bench.product:
        product = cast(Product, _called(bench.product, case))
    memory = bench.memory
    profile = None
    if session is not None and bench.profile:
        bare = replace(case, state={})  # The weights would count as this contestant's memory.
        profile = partial(_profile, bench.profile, bare, session, contestant.turn)
    told = (lambda: None) if not memory else lambda: _called(memory)
    return Made(contestant, product, told, profile)


def _profile(target: str, case: Case, session: Session, turn: Turn, steps: int) -> Answer:
    """Return what the function `target` tells of `steps` steps, and what those took meanwhile."""
    took: list[float] = []

    def timed(count: int) -> None:
        began = time.perf_counter()
        turn(count)
        took.append(time.perf_counter() - began)

    found = cast(Profile, _called(target, case, session, timed, steps))
    if not took:
        raise ValueError("its profile was made without a step")
    return {**answer_of(found, case.plan, steps), "seconds": took[-1]}


def ours(case: Case, backend: str) -> tuple[Session, Contestant]:
    """Return a session of `backend` that has the state of the case, and it as a contestant."""
    recipe = case.recipe
    plan = case.plan if recipe is None else trained_by(case.plan, recipe)
    made = open_session(backend, plan, recipe, case.device, precision=case.precision)
    made.load(case.state)
    factors = {op.name: noise(op, case.batch, 0, 0) for op in plan.noises}
    batch = Batch(case.images(), case.labels(), np.arange(case.batch), noise=factors)

    def train(steps: int) -> None:
        log = made.train(repeat(batch, steps), np.full(steps, RATE))
        _check_finite("the loss", log.loss)

    def predict(steps: int) -> None:
        last = list(made.predict(repeat(batch, steps)))[-1]
        _check_finite("a logit", last)

    return made, Contestant(train if case.trains else predict, info=made.info)


def _check_finite(what: str, values: Any) -> None:
    """Raise BackendError: what is not finite may be quicker, or slower, to compute."""
    if not np.isfinite(values).all():
        raise BackendError(f"{what} is not finite; a turn of it says nothing")


def _peers(case: Case, entry: Entry) -> Contestant:
    if entry.backend:
        load_backend(entry.backend)
        found = _called(entry.make, case)
    else:
        found = load_function(entry.make)(case)
    if isinstance(found, Contestant):
        return found
    if not callable(found):
        rule = f"gives a {type(found).__name__}, and must give a function of the number of steps"
        raise BackendError(problem("--against", entry.name, rule, "see resnet_spec.bench"))
    return Contestant(cast(Turn, found))


def _bench(backend: str) -> Bench:
    """Return what the manifest of a backend says of it; nothing for a peer of no backend."""
    found = manifest_of(backend) if backend else None
    return Bench() if found is None else found.bench


def _called(target: str, *given: Any) -> Any:
    """Return what the function `module:function` of a backend's package gives."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*given)
