"""An op and its shapes in words. For diagrams and trees."""

from __future__ import annotations

from resnet_spec.ops import Op, Shape
from resnet_spec.planning.op_rows import OpText, row_of


def op_text(op: Op) -> OpText:
    """Return `op` in words, such as `conv 3×3`, `64 → 128`, `stride 2, pad 1`."""
    return row_of(op).words(op)


def shape_text(shape: Shape) -> str:
    """Return `64 × 56 × 56`."""
    return " × ".join(str(size) for size in shape)


def amount(count: int) -> str:
    """Return `count` in three digits: `25.6 M`, `4.09 G`, `960`."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= 0.9995 * factor:
            value = count / factor
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f}{unit}"
    return str(count)
