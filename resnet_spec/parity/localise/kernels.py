"""How one array became another: the weights a side holds, against those it was given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resnet_spec.contract import Array

_CLOSE = 1e-6


def relations(own: Array, given: Array) -> Iterator[tuple[str, str]]:
    """Yield (cause, detail) for every simple way that leads from `given` to `own`."""
    for cause, detail, other in _ways(given):
        if other.shape == own.shape and _equal(own, other):
            yield cause, detail
    for axis, what in enumerate(("output", "input")[: own.ndim]):
        if _is_permutation(own, given, axis):
            yield "swapped channels", f"its {what} channels are in another order"
    changed = int((~np.isclose(own, given, rtol=_CLOSE, atol=0.0)).sum())
    yield "changed weight", f"{changed} of its {own.size} values are not those given"


def _ways(given: Array) -> Iterator[tuple[str, str, Array]]:
    if given.ndim == 4:
        yield "transposed kernel", "height and width exchanged", given.transpose(0, 1, 3, 2)
        yield "transposed kernel", "flipped", given[:, :, ::-1, ::-1]
        yield "transposed kernel", "channels exchanged", given.transpose(1, 0, 2, 3)
    if given.ndim == 2:
        yield "transposed kernel", "transposed", given.T
    if given.ndim == 1:
        yield "last-norm zero init", "zero instead of what was given", np.zeros_like(given)
        yield "last-norm zero init", "one instead of what was given", np.ones_like(given)
    yield "swapped channels", "output channels in reverse order", given[::-1]


def _is_permutation(own: Array, given: Array, axis: int) -> bool:
    a = np.moveaxis(own, axis, 0).reshape(own.shape[axis], -1)
    b = np.moveaxis(given, axis, 0).reshape(given.shape[axis], -1)
    if a.shape != b.shape:
        return False
    a, b = (rows[np.lexsort(rows.T[::-1])] for rows in (a, b))
    return _equal(a, b)


def _equal(a: Array, b: Array) -> bool:
    return bool(np.allclose(a, b, rtol=_CLOSE, atol=0.0))
