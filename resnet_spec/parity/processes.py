"""Prove that a run in several processes is that of one: the story behind `parity --processes`.

Each backend trains the same run in one process and in more, in float64 where it computes that, and
each is judged by the float64 reference, which knows of no processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from resnet_spec.contract import Precision
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.text_lists import Texts, listed, once_each
from resnet_spec.errors import BackendError, SpecError, problem
from resnet_spec.loader import load_backend, precisions_of
from resnet_spec.parity.background_floors import Tick, look_at_all
from resnet_spec.parity.calibrate import within_range
from resnet_spec.parity.compare import by_recipe, check_precision, setting_of
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.group_causes import explained
from resnet_spec.parity.group_side import MEMBER, GroupSide
from resnet_spec.parity.levels import PROCESSES
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import REFERENCE, reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe
from resnet_spec.reporting.report import Finding, Report, Row
from resnet_spec.running.together import check_can_shard

PARTS = 2
"""Into which a batch is split: a share is of each part, and not of the batch."""
_LEAST = 2
"""Images that each process has of a part, at least: of one alone some norms have no statistics."""
_JUDGED: tuple[Precision, ...] = ("float32", "float64")
"""Precisions that have a noise floor."""
_DECAY = 0.9
"""Of the moving average."""


def recipe_of(counts: Sequence[int], steps: int = 20, batch: int = 4, rate: float = 3e-4) -> Recipe:
    """Return a recipe with all that processes share: parts, slots and an average.

    counts: of processes. batch: what is wanted; rounded up to what all of them can share out.
    """
    unit = PARTS * math.lcm(*counts)
    least = PARTS * _LEAST * max(counts)
    size = -(-max(batch, least) // unit) * unit
    return make_recipe(steps, size, rate, accumulate=PARTS, ema={"decay": _DECAY})


def check_counts(counts: Sequence[int]) -> None:
    """Raise BackendError where these are no numbers of processes to compare."""
    if not counts or any(count < 1 for count in counts) or len(set(counts)) < len(counts):
        given = ",".join(map(str, counts)) or '""'
        raise BackendError(problem("--processes", given, "must be different numbers from 1 on"))


def compare_processes(
    spec: Spec,
    backends: Texts,
    counts: Sequence[int],
    *,
    setup: Setup | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    shard: bool = False,
    tick: Tick = lambda what: None,
    member: str = MEMBER,
) -> Report:
    """Return a report of every backend's run in each number of processes against the reference.

    counts: of processes, as (1, 2). setup: weights, batches and a recipe of `recipe_of`; None draws
    them. precision: None takes float64 where a backend computes it, and float32 elsewhere. device:
    and shard: as in `contract.Session`; a run in one process holds all parameters. member: the
    module that every process runs.

    Raises BackendError for a backend that cannot be one of several or does not shard, and SpecError
    for a network whose runs differ by definition.
    """
    names = listed(backends, "backends", BackendError)
    once_each(names, "backends", BackendError)
    _check(spec, names, counts, shard)
    if precision not in (None, *_JUDGED):
        rule = "is not one that runs in several processes are compared in"
        raise BackendError(problem("precision", precision, rule, f"use {' or '.join(_JUDGED)}"))
    chosen: dict[str, Precision] = {name: precision or _best(name) for name in names}
    expected = within_range(reference_of(setup or make_setup(lower(spec), recipe_of(counts))))
    setup = expected.setup
    rows: list[Row] = []
    findings: list[Finding] = []
    environment: dict[str, Mapping[str, str]] = {REFERENCE: dict(expected.info)}
    tick("reference")
    for used in dict.fromkeys(chosen.values()):
        floors = Floors(expected, used)
        sides = [
            _side(name, spec, setup, used, count, device=device, shard=shard, member=member)
            for name in names
            if chosen[name] == used
            for count in counts
        ]
        looks = look_at_all(sides, floors, [PROCESSES], tick)
        for side in sides:
            rows.append(judge(PROCESSES, side, floors, looks[side, PROCESSES]))
            environment[side.backend] = dict(side.info)
            if rows[-1].is_wrong and isinstance(side, GroupSide):
                tick(f"{side.backend}: looking for the cause")
                findings += [found] if (found := explained(side, expected)) else []
    setting = _setting(setup, chosen, counts)
    return Report(_title(setup, counts), tuple(rows), setting, environment, tuple(findings))


def _side(
    name: str, spec: Spec, setup: Setup, precision: Precision, count: int, **options: Any
) -> Side:
    if count > 1:
        return GroupSide(name, spec, setup, precision, count, **options)
    return _OneProcess(name, setup, precision, device=options["device"])


class _OneProcess(Side):
    """A run in this process."""

    def offers(self, level: str) -> bool:
        """Return whether the side can be compared at `level`: at that of groups, too."""
        return True


def _best(backend: str) -> Precision:
    """Return the most exact precision that the backend computes in, and that can be judged."""
    return "float64" if "float64" in precisions_of(backend) else "float32"


def _check(spec: Spec, backends: Sequence[str], counts: Sequence[int], shard: bool) -> None:
    check_counts(counts)
    for name in backends:
        check_precision(name, _best(name))
        if max(counts) > 1 and not hasattr(load_backend(name), "join"):
            rule = f"cannot be one of {max(counts)} processes: it offers no join"
            raise BackendError(problem("backend", name, rule, "leave it out"))
        if shard:
            check_can_shard(name)
    if shard and max(counts) == 1:
        raise BackendError("--shard: one process has nothing to share; give more with --processes")
    if spec.norm.sync == "replica" and max(counts) > 1:
        rule = "means statistics of each process's own, so that the runs differ"
        remedy = "compare with --set norm.sync=global"
        raise SpecError(problem("norm.sync", spec.norm.sync, rule, remedy))


def _title(setup: Setup, counts: Sequence[int]) -> str:
    image, recipe = setup.plan.input, setup.recipe
    shape = f"{image.height} x {image.width} x {image.channels}"
    return (
        f"{setup.plan.name}, input {shape}, {by_recipe(recipe)}batch {recipe.batch} in "
        f"{recipe.accumulate} parts, {recipe.steps} steps in {' and '.join(map(str, counts))} "
        f"processes against {REFERENCE} float64"
    )


def _setting(
    setup: Setup, chosen: Mapping[str, Precision], counts: Sequence[int]
) -> dict[str, Any]:
    common = setting_of(setup, " and ".join(dict.fromkeys(chosen.values())))
    return common | {"accumulate": setup.recipe.accumulate, "processes": list(counts)}
