"""The first norm, in order of execution, whose running statistics are wrong after a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.ops import Norm
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.limits import LIMITS
from resnet_spec.parity.localise.evidence import (
    Hypothesis,
    explain,
    median_of,
    multiples,
    number,
    rounded,
)
from resnet_spec.parity.localise.forward import observe, work_of
from resnet_spec.parity.side import Side
from resnet_spec.reporting.report import Finding

LIMIT = LIMITS["statistics"].multiples


def search_statistics(got: Side, floors: Floors) -> Finding | None:
    """Compare each norm's new statistics with those its own input makes; None for no error."""
    work = work_of(got, floors, training=True)
    first: Finding | None = None
    others: list[str] = []
    for seen in observe(work, floors, got.activations):
        op = seen.step.node
        if not isinstance(op, Norm):
            continue
        found = _of_norm(got, floors, op, seen.inputs[0])
        if found is not None and first is None:
            first = found
        elif found is not None:
            others.append(op.name)
    return None if first is None else replace(first, others=tuple(others))


def _of_norm(got: Side, floors: Floors, op: Norm, x: Array) -> Finding | None:
    work = work_of(got, floors, training=True)
    nodes = [work.node(op, order) for order in (None, *work.orders)]
    for node in nodes:
        node.forward(x)
    exact, *ordered = (node.statistics for node in nodes)
    axes = (0, 2, 3)
    n = x.size // x.shape[1]
    batch = {op.running_mean.name: x.mean(axes), op.running_var.name: x.var(axes)}
    for name, expected in exact.items():
        found = got.stepped.get(name)
        if found is None:
            continue
        floor = max(
            UNIT[got.precision], *(difference("", o[name], expected).max_rel for o in ordered)
        )
        error = multiples(found, expected, floor)
        if error <= LIMIT:
            continue
        old = np.asarray(floors.expected.setup.state[name], np.float64)
        bessel = n / (n - 1) if name == op.running_var.name else 1.0
        tried = _hypotheses(op, old, batch[name], bessel, found.astype(np.float64))
        cause = explain(found, expected, floor, 2.0 * LIMIT, tried)
        detail = f"{name} is off by {error:.3g} times the floor"
        if cause is not None:
            detail = f"{cause.cause}: {cause.detail} ({name})"
        return Finding(
            got.backend, "statistics", op.name, error, "" if cause is None else cause.cause, detail
        )
    return None


def _hypotheses(
    op: Norm, old: Array, batch: Array, bessel: float, found: Array
) -> Iterator[Hypothesis]:
    """`batch` is the biased variance or the mean, `bessel` n/(n-1) or 1."""
    own = bessel if op.variance == "unbiased" else 1.0
    other = 1.0 if op.variance == "unbiased" else bessel

    def run(decay: float, factor: float) -> Array:
        return decay * old + (1.0 - decay) * factor * batch

    if bessel != 1.0:
        kind = "biased" if op.variance == "unbiased" else "unbiased"
        detail = f"the {kind} variance is kept, not the {op.variance}"
        yield Hypothesis("biased variance", detail, lambda: run(op.decay, other))
    detail = f"decay {number(1.0 - op.decay)} of the old value instead of {number(op.decay)}"
    yield Hypothesis("momentum inverted", detail, lambda: run(1.0 - op.decay, own))
    yield Hypothesis("statistics", "not updated", lambda: old)
    twice = "updated twice"
    yield Hypothesis(
        "statistics", twice, lambda: op.decay * run(op.decay, own) + (1 - op.decay) * own * batch
    )
    for factor in (own, other):
        for decay in rounded(_decay(old, factor * batch, found)):
            detail = f"decay {number(decay)} instead of {number(op.decay)}"
            if factor != own:
                detail += ", and the other variance"
            yield Hypothesis("momentum", detail, lambda d=decay, f=factor: run(d, f))
    yield Hypothesis(
        "eps",
        f"eps = {number(op.eps)} is part of it",
        lambda: run(op.decay, own) + (1 - op.decay) * op.eps,
    )
    yield Hypothesis(
        "statistics",
        "the deviation, not the variance",
        lambda: op.decay * old + (1 - op.decay) * np.sqrt(own * batch),
    )


def _decay(old: Array, new: Array, found: Array) -> float:
    """Solve found = decay * old + (1 - decay) * new for the decay, over all channels."""
    with np.errstate(all="ignore"):
        distance = old - new
        far = np.abs(distance) >= np.median(np.abs(distance))
        return median_of(((found - new) / distance)[far])
