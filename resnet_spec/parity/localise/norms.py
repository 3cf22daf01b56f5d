"""What else a norm may have computed: its epsilon, its statistics, its scale and shift."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from resnet_spec import ops
from resnet_spec.contract import Array
from resnet_spec.parity.localise.evidence import Hypothesis, Work, median_of, number, rounded

Tried = Iterator[Hypothesis]


def of_norm(work: Work, op: ops.Norm, x: Array, got: Array) -> Tried:
    """Yield what else `op` may have made of `x` [N, C, H, W]; `got` is what it made."""
    mean, var = (np.asarray(work.state[t.name]) for t in (op.running_mean, op.running_var))
    scale, shift = (np.asarray(work.state[t.name]) for t in (op.scale, op.shift))
    batch_mean, batch_var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    uses_batch = work.training and not op.frozen
    used = (batch_mean, batch_var) if uses_batch else (mean, var)

    def run(mean: Array, var: Array, eps: float, scale: Array, shift: Array) -> Array:
        centred = (x - _per_channel(mean)) / _per_channel(np.sqrt(var + eps))
        return centred * _per_channel(scale) + _per_channel(shift)

    for eps in (*rounded(_eps(x, got, *used, scale, shift)), *_USUAL_EPS):
        if eps >= 0 and eps != op.eps:
            detail = f"eps = {number(eps)} instead of {number(op.eps)}"
            yield Hypothesis("eps", detail, partial(run, *used, eps, scale, shift))
    others = {
        ("scale missing", "the scale is not applied"): (*used, op.eps, np.ones_like(scale), shift),
        ("shift missing", "the shift is not added"): (*used, op.eps, scale, np.zeros_like(shift)),
    }
    if uses_batch:
        n = x.size // x.shape[1]
        unbiased = (batch_mean, batch_var * n / (n - 1))
        how = "normalised with the variance over n-1, not n"
        others["biased variance", how] = (*unbiased, op.eps, scale, shift)
        others["statistics", "the running statistics are used in training"] = (
            *(mean, var),
            op.eps,
            scale,
            shift,
        )
    else:
        where = "in evaluation" if not work.training else "though it is frozen"
        others["statistics", f"batch statistics are used {where}"] = (
            *(batch_mean, batch_var),
            op.eps,
            scale,
            shift,
        )
    for (cause, detail), arguments in others.items():
        yield Hypothesis(cause, detail, partial(run, *arguments))


_USUAL_EPS = (1e-3, 1.001e-5, 1e-5, 2e-5, 1e-4, 1e-6, 1e-12, 0.0)


def _eps(x: Array, got: Array, mean: Array, var: Array, scale: Array, shift: Array) -> float:
    """Solve y = (x - mean) scale / sqrt(var + eps) + shift for eps, channel by channel."""
    if got.shape != x.shape:
        return np.nan
    centred = x - _per_channel(mean)
    y = (got.astype(np.float64) - _per_channel(shift)) / _per_channel(scale)
    with np.errstate(all="ignore"):
        slope = (y * centred).sum((0, 2, 3)) / np.square(centred).sum((0, 2, 3))
        # The smaller the variance, the more of the result is eps.
        smallest = np.argsort(var)[: max(1, len(var) // 4)]
        return median_of((1.0 / np.square(slope) - var)[smallest])


def _per_channel(values: Array) -> Array:
    return values[:, None, None]
