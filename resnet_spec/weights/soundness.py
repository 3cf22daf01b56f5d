"""Values that weights may have: finite floating-point numbers within the range of float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.errors import CheckpointError, problem
from resnet_spec.weights import finite_problems

_SHOWN = 2


def check_values(path: Path, tensors: Mapping[str, Array], *, counters: bool = False) -> None:
    """Raise CheckpointError that names the tensors of `path` that are not finite or no floats.

    counters: whether single whole numbers may be among them, which count steps.
    """
    problems = finite_problems(tensors)
    problems += [
        problem(name, array.dtype, "must hold floating-point numbers")
        for name, array in tensors.items()
        if array.dtype.kind != "f" and not (counters and array.size == 1)
    ]
    _raise(path, problems)


def as_float32(path: Path, state: Mapping[str, Array]) -> State:
    """Return the tensors rounded to float32; those that are float32 are not copied.

    Raises CheckpointError that names those with values beyond its range.
    """
    with np.errstate(over="ignore"):
        narrow = {name: array.astype(np.float32, copy=False) for name, array in state.items()}
    wide = [name for name, array in narrow.items() if array is not state[name]]
    _raise(
        path,
        [
            problem(name, f"{np.abs(state[name]).max():.3g}", "is beyond the range of float32")
            for name in wide
            if not np.isfinite(narrow[name]).all()
        ],
    )
    return narrow


def _raise(path: Path, problems: list[str]) -> None:
    if problems:
        rest = len(problems) - _SHOWN
        more = f"; and {rest} more" if rest > 0 else ""
        raise CheckpointError(f"{path}: {'; '.join(problems[:_SHOWN])}{more}")
