"""Initial weights from a seed: one stream per tensor, keyed by (seed, canonical name).

Adding a layer therefore changes no other layer's draw, and every backend starts from the same
numbers; no framework's initialiser is used.
"""

from __future__ import annotations

import hashlib
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from resnet_spec.ops import Tensor
from resnet_spec.plan import Plan

# The standard deviation of a standard normal cut at two: scipy.stats.truncnorm(-2, 2).std().
_CUT_DEVIATION = 0.8796256610342398


def initial_state(
    plan: Plan, seed: int = 0, dtype: type[np.floating[Any]] = np.float32
) -> dict[str, NDArray[Any]]:
    """Return {canonical name: array in canonical layout} for every tensor of `plan`.

    Values are drawn in float64 and rounded to float32, so that sessions of any precision start
    alike; `dtype` is the type of the arrays returned.
    """
    return {t.name: _draw(t, seed).astype(np.float32).astype(dtype) for t in plan.tensors}


def _draw(tensor: Tensor, seed: int) -> NDArray[np.float64]:
    init, shape = tensor.init, tensor.shape
    match init.kind:
        case "constant":
            return np.full(shape, init.value)
        case "uniform":
            return _generator(tensor, seed).uniform(-init.value, init.value, shape)
        case "normal":
            return _generator(tensor, seed).standard_normal(shape) * init.value
        case "truncated_normal":
            return _cut_normal(_generator(tensor, seed), shape) * (init.value / _CUT_DEVIATION)
        case _:
            assert_never(init.kind)


def _generator(tensor: Tensor, seed: int) -> np.random.Generator:
    """Return the tensor's own stream: no other layer's draws move it."""
    digest = hashlib.sha256(tensor.name.encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


def _cut_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return standard normal values, drawn again while they lie beyond two deviations."""
    values = generator.standard_normal(shape)
    while True:
        outside = np.abs(values) > 2.0
        if not outside.any():
            return values
        values[outside] = generator.standard_normal(int(outside.sum()))
