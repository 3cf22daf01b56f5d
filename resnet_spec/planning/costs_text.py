"""A description as a table for the terminal, in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill, wrap

from resnet_spec.ops import Shape
from resnet_spec.planning.costs import (
    FIELD_CONVENTION,
    MACS_CONVENTION,
    MEMORY_CONVENTION,
    PARAMS_CONVENTION,
    Description,
)
from resnet_spec.printing.columns import Column, aligned, fitted

_WIDTH = 88
_COLUMNS = (
    Column("stage"),
    Column("output"),
    Column("params", right=True),
    Column("MACs", right=True, drop=2),
    Column("receptive field", right=True, drop=1),
)


def description_text(it: Description, width: int | None = None) -> str:
    """Return the table by stage, the totals, and what was counted, in lines of `width`."""
    rows = [
        (r.name, _shape(r.output_shape), f"{r.params:,}", f"{r.macs:,}", f"{r.receptive_field:,}")
        for r in it.stages
    ]
    total = ("total", "", f"{it.params:,}", f"{it.macs:,}", "")
    lines = [
        f"{it.name}: {it.classes:,} classes, input {_shape(it.input_shape)}",
        "",
        *fitted(_COLUMNS, [*rows, total], width),
        "",
        *wrap(
            f"memory: weights {_size(it.weight_bytes)} (with {it.statistics:,} running "
            f"statistics), activations {_size(it.activation_bytes)}",
            min(width or _WIDTH, _WIDTH),
            subsequent_indent="  ",
        ),
        "",
        _note("params", PARAMS_CONVENTION, width),
        _note("MACs", MACS_CONVENTION, width),
        _note("receptive field", FIELD_CONVENTION, width),
        _note("memory", MEMORY_CONVENTION, width),
    ]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return lines of aligned columns; those numbered in `right` are aligned to the right."""
    return aligned(rows, right)


def _shape(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _note(what: str, text: str, width: int | None) -> str:
    return fill(f"{what}: {text}.", min(width or _WIDTH, _WIDTH), subsequent_indent="  ")
