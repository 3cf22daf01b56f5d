"""An op in words: what it is, and its numbers. For diagrams and trees."""

from __future__ import annotations

from typing import NamedTuple

from resnet_spec.ops import (
    Activation,
    Add,
    AvgPool,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    GlobalPool,
    Linear,
    MaxPool,
    Norm,
    Op,
    Pad,
    PadChannels,
    Shape,
)


class OpText(NamedTuple):
    """An op's name, the channels it maps ("" where it keeps them), and the rest of its numbers."""

    name: str
    channels: str = ""
    numbers: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in self if part)


def op_text(op: Op) -> OpText:
    """Return `op` in words, such as `conv 3×3`, `64 → 128`, `stride 2, pad 1`."""
    match op:
        case Conv():
            return OpText(
                f"conv {op.kernel[0]}×{op.kernel[1]}",
                f"{op.in_shape[0]} → {op.out_shape[0]}",
                _listed(
                    _stride(op.stride),
                    _pad(op.pad),
                    f"dilation {op.dilation}" if op.dilation > 1 else "",
                    f"{op.groups} groups" if op.groups > 1 else "",
                    "bias" if op.bias else "",
                ),
            )
        case Norm():
            starts_at_zero = op.scale.init.kind == "constant" and op.scale.init.value == 0
            return OpText("batch norm", "", "scale starts at 0" if starts_at_zero else "")
        case Activation():
            return OpText(op.kind)
        case MaxPool():
            numbers = _listed(_stride(op.stride), _pad(op.pad))
            return OpText(f"max pool {op.kernel}×{op.kernel}", "", numbers)
        case AvgPool():
            numbers = _listed(_stride(op.stride), _pad(op.pad))
            return OpText(f"average pool {op.kernel}×{op.kernel}", "", numbers)
        case PadChannels():
            front, back = op.channels
            added = f"{front} before, {back} after" if front else f"{back} after"
            every = f"every {_ordinal(op.stride)} pixel" if op.stride > 1 else ""
            return OpText(
                "zero channels", f"{op.in_shape[0]} → {op.out_shape[0]}", _listed(added, every)
            )
        case Linear():
            return OpText("linear", f"{op.in_shape[0]} → {op.out_shape[0]}", "bias")
        case Dropout():
            return OpText("dropout", "", f"rate {op.rate:g}")
        case DropPath():
            return OpText("drop path", "", f"rate {op.rate:.3g}")
        case GlobalPool():
            return OpText("global average pool")
        case Flatten():
            return OpText("flatten")
        case Add():
            return OpText("add")


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


def _listed(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _stride(stride: int) -> str:
    return f"stride {stride}" if stride > 1 else ""


def _pad(pad: Pad) -> str:
    """Return `pad 1`, or top/bottom/left/right where they differ."""
    if not any(pad):
        return ""
    return f"pad {pad[0]}" if len(set(pad)) == 1 else f"pad {'/'.join(map(str, pad))}"


def _ordinal(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"
