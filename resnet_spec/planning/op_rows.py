"""One row per op: all that the core knows of it beside its fields.

Costs, memory, receptive fields, words and pictures, and parity's care for kinks are folds over a
plan that read these rows. An op without a row is an error that names it, in every fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from resnet_spec.ops import (
    Activation,
    Add,
    AvgPool,
    BaseOp,
    Conv,
    Dropout,
    DropPath,
    Flatten,
    GlobalPool,
    Linear,
    MaxPool,
    Norm,
    Pad,
    PadChannels,
)

Sort = Literal["weights", "norm", "activation", "pool", "channels", "noise", "plain"]
"""What ops of one colour have in common."""
Kept = Literal["inputs", "output", "nothing"]
Kink = Literal["relu", "max"]
"""Where a slope jumps: at zero, or where another pixel becomes the largest of its window."""


class OpText(NamedTuple):
    """An op's name, the channels it maps ("" where it keeps them), and the rest of its numbers."""

    name: str
    channels: str = ""
    numbers: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in self if part)


class Window(NamedTuple):
    """reach: the window's size - 1, in pixels of the input. stride: in the same pixels."""

    reach: int
    stride: int


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one class of ops; each function takes an op of that class.

    sort: what it does, in one word. words: it in words, such as `conv 3x3`, `64 -> 128`. alike: its
    numbers that make two blocks of different kinds; widths and rates do not. macs:
    multiply-accumulates for one image. window: what an output pixel sees of the input. kept: what
    the backward pass needs. kink: where its slope jumps.
    """

    sort: Sort
    words: Callable[[Any], OpText]
    alike: Callable[[Any], Hashable] = lambda op: ()
    macs: Callable[[Any], int] = lambda op: 0
    window: Callable[[Any], Window] = lambda op: Window(0, 1)
    kept: Kept = "nothing"
    kink: Callable[[Any], Kink | None] = lambda op: None


def row_of(op: BaseOp) -> Row:
    """Return the row of `op`. Raises TypeError, with its name and class, where there is none."""
    row = ROWS.get(type(op))
    if row is None:
        raise TypeError(f"{op.name}: an op of class {type(op).__name__} has no row in op_rows.ROWS")
    return row


# --- Convolutions and linear layers ---------------------------------------------------------------


def _conv_words(op: Conv) -> OpText:
    numbers = _listed(
        _stride(op.stride),
        _pad(op.pad),
        f"dilation {op.dilation}" if op.dilation > 1 else "",
        f"{op.groups} groups" if op.groups > 1 else "",
        "bias" if op.bias else "",
    )
    return OpText(f"conv {op.kernel[0]}×{op.kernel[1]}", _channels(op), numbers)


def _conv_macs(op: Conv) -> int:
    return math.prod(op.out_shape) * (math.prod(op.weight.shape[1:]) + (op.bias is not None))


def _linear_macs(op: Linear) -> int:
    return math.prod(op.out_shape) * (math.prod(op.in_shape) + 1)


# --- Norms and activations ------------------------------------------------------------------------


def _norm_words(op: Norm) -> OpText:
    starts_at_zero = op.scale.init.kind == "constant" and op.scale.init.value == 0
    return OpText("batch norm", "", "scale starts at 0" if starts_at_zero else "")


def _activation_kink(op: Activation) -> Kink | None:
    kinks: dict[str, Kink | None] = {"relu": "relu", "sigmoid": None}
    return kinks[op.kind]


# --- Pools ----------------------------------------------------------------------------------------


def _pool_words(name: str) -> Callable[[MaxPool | AvgPool], OpText]:
    return lambda op: OpText(
        f"{name} pool {op.kernel}×{op.kernel}", "", _listed(_stride(op.stride), _pad(op.pad))
    )


def _pool_alike(op: MaxPool | AvgPool) -> Hashable:
    return op.kernel, op.stride, op.pad


def _pool_window(op: MaxPool | AvgPool) -> Window:
    return Window(op.kernel - 1, op.stride)


def _padded_words(op: PadChannels) -> OpText:
    front, back = op.channels
    added = f"{front} before, {back} after" if front else f"{back} after"
    every = f"every {_ordinal(op.stride)} pixel" if op.stride > 1 else ""
    return OpText("zero channels", _channels(op), _listed(added, every))


# --- Words ----------------------------------------------------------------------------------------


def _named(name: str) -> Callable[[BaseOp], OpText]:
    return lambda op: OpText(name)


def _channels(op: BaseOp) -> str:
    return f"{op.in_shape[0]} → {op.out_shape[0]}"


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


ROWS: Mapping[type[BaseOp], Row] = {
    Conv: Row(
        sort="weights",
        words=_conv_words,
        alike=lambda op: (op.kernel, op.stride, op.pad, op.dilation, op.groups),
        macs=_conv_macs,
        window=lambda op: Window(op.dilation * (max(op.kernel) - 1), op.stride),
        kept="inputs",
    ),
    Norm: Row(sort="norm", words=_norm_words, kept="inputs"),
    Activation: Row(
        sort="activation",
        words=lambda op: OpText(op.kind),
        alike=lambda op: op.kind,
        kept="output",
        kink=_activation_kink,
    ),
    MaxPool: Row(
        sort="pool",
        words=_pool_words("max"),
        alike=_pool_alike,
        window=_pool_window,
        kept="inputs",
        kink=lambda op: "max",
    ),
    AvgPool: Row(sort="pool", words=_pool_words("average"), alike=_pool_alike, window=_pool_window),
    PadChannels: Row(
        sort="channels",
        words=_padded_words,
        alike=lambda op: op.stride,
        window=lambda op: Window(0, op.stride),
    ),
    Add: Row(sort="plain", words=_named("add")),
    GlobalPool: Row(
        sort="pool",
        words=_named("global average pool"),
        window=lambda op: Window(max(op.in_shape[1:]) - 1, 1),
    ),
    Flatten: Row(sort="plain", words=_named("flatten")),
    Linear: Row(
        sort="weights",
        words=lambda op: OpText("linear", _channels(op), "bias"),
        macs=_linear_macs,
        kept="inputs",
    ),
    Dropout: Row(sort="noise", words=lambda op: OpText("dropout", "", f"rate {op.rate:g}")),
    DropPath: Row(sort="noise", words=lambda op: OpText("drop path", "", f"rate {op.rate:.3g}")),
}
