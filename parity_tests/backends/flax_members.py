"""A network so small that groups of processes and of devices compile it in a second, and its runs.

What one device makes of it is worked out once for all tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import several
from flax_networks import CASES, CLASSES, RATES, RECIPE, backend, batch_of, state_of
from several import Found

from resnet_spec.contract import Array, Batch
from resnet_spec.data.batches import share_of
from resnet_spec.describing.spec import Spec
from resnet_spec.group import ALONE, Group
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

jax = pytest.importorskip("jax")
nnx: Any = pytest.importorskip("flax.nnx")

QUICKER = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"}
"""Compiles quicker."""
STEPS = 3
IMAGES = 8
EXACT = 2e-13
"""Of float64; measured: 1.3e-14."""


def plan_of(sync: str = "global", side: int = 0) -> Plan:
    fields, size = CASES["tiny"]
    fields = fields | {"stages": [{"width": 4, "blocks": 1}], "norm": {"sync": sync}}
    return lower(Spec(classes=CLASSES, **fields), side or size)


def recipe_of(parts: int) -> Recipe:
    return RECIPE.model_copy(update={"batch": IMAGES, "accumulate": parts})


def shares_of(group: Group, parts: int, steps: int = STEPS) -> list[Batch]:
    plan = plan_of()
    return [share_of(batch_of(plan, seed, IMAGES), group, parts) for seed in range(steps)]


def fresh(
    group: Group,
    parts: int,
    sync: str = "global",
    precision: str = "float64",
    *,
    device: str = "cpu",
    plan: Plan | None = None,
    **more: Any,
) -> Any:
    together = more if group is ALONE else {"group": group, **more}
    plan, recipe = plan or plan_of(sync), recipe_of(parts)
    session = backend.Session(plan, recipe, device=device, precision=precision, **together)
    session.load(state_of(plan))
    return session


trained = partial(several.trained, rates=RATES)
evaluated = partial(several.evaluated, size=8, classes=CLASSES)
STATISTICS = ("running_mean", "running_var")


def statistics_of(found: Mapping[str, Array]) -> Found:
    return {name: array for name, array in found.items() if name.endswith(STATISTICS)}


@cache
def alone(parts: int) -> Any:
    return fresh(ALONE, parts)


@cache
def alone_trained(parts: int, steps: int = STEPS) -> Found:
    session = alone(parts)
    session.load(state_of(plan_of()))
    return trained(session, shares_of(ALONE, parts, steps))


def without(found: Mapping[str, Array], *ends: str) -> Found:
    return {name: array for name, array in found.items() if not name.endswith(ends)}


def weights_kept(session: Any, batches: Sequence[Batch]) -> Found:
    """Train; return the bytes of weights that the native module has of this process, and of all.

    held: the most at any batch that is asked for, but the first.
    """
    held, whole = list[int](), 0

    def looking() -> Iterator[Batch]:
        nonlocal whole
        for i, batch in enumerate(batches):
            if i:
                leaves = jax.tree.leaves(nnx.state(session.native, (nnx.Param, nnx.BatchStat)))
                there = [array for array in leaves if not array.is_deleted()]
                parts = (part for array in there for part in array.addressable_shards)
                held.append(sum(part.data.nbytes for part in parts))
                whole = sum(array.nbytes for array in leaves)
            yield batch

    session.train(looking(), RATES[: len(batches)])
    return {"held": np.array(max(held)), "whole": np.array(whole)}


def bytes_kept(session: Any) -> Found:
    """Return how many bytes of a session's slots each device of this process holds, and of all."""
    slots = [*jax.tree.leaves(session._slots.optimizer), *session._slots.average.values()]
    held: dict[Any, int] = {}
    for array in slots:
        for part in array.addressable_shards:
            held[part.device] = held.get(part.device, 0) + part.data.nbytes
    whole = sum(array.nbytes for array in slots)
    return {"each": np.array(list(held.values())), "whole": np.array(whole)}
