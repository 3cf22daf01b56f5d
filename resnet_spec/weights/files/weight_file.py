"""What reading a weight file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnet_spec.contract import Array


@dataclass(frozen=True)
class WeightFile:
    """The tensors of one file under the names that the file gives them.

    kind: as in `weights.KINDS`. tensors: nested trees joined by "."; wrappers such as `module.` or
    a `state_dict` around them are taken off; C-contiguous, half precision widened to float32. Where
    the file allows it they are views of a private memory map: writing to one changes no file.
    notes: what was taken off, widened or left out, in words.
    """

    path: Path
    kind: str
    tensors: dict[str, Array] = field(repr=False)
    notes: tuple[str, ...] = ()


def _sum(array: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(array.sum())


def finite_problems(tensors: Mapping[str, Array]) -> list[str]:
    """Return one line for each tensor that holds NaN or infinity; empty when all is well."""
    lines: list[str] = []
    for name, array in tensors.items():
        # A sum is several times quicker, and finite where all values are, unless it overflows.
        if array.dtype.kind != "f" or np.isfinite(_sum(array)):
            continue
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            lines.append(f"{name}: {bad} of {array.size} values are NaN or infinite")
    return lines
