"""A description as a table for the terminal, in plain text. Imports `describe`."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from resnet_spec.columns import aligned
from resnet_spec.describe import (
    FIELD_CONVENTION,
    MACS_CONVENTION,
    MEMORY_CONVENTION,
    PARAMS_CONVENTION,
    Description,
)
from resnet_spec.ops import Shape

_WIDTH = 88


def description_text(it: Description) -> str:
    """Return the table by stage, the totals, and what was counted."""
    rows = [
        (r.name, _shape(r.output_shape), f"{r.params:,}", f"{r.macs:,}", f"{r.receptive_field:,}")
        for r in it.stages
    ]
    total = ("total", "", f"{it.params:,}", f"{it.macs:,}", "")
    heads = ("stage", "output", "params", "MACs", "receptive field")
    lines = [
        f"{it.name}: {it.classes:,} classes, input {_shape(it.input_shape)}",
        "",
        *table([heads, *rows, total], right=(2, 3, 4)),
        "",
        f"memory: weights {_size(it.weight_bytes)} (with {it.statistics:,} running statistics), "
        f"activations {_size(it.activation_bytes)}",
        "",
        _note("params", PARAMS_CONVENTION),
        _note("MACs", MACS_CONVENTION),
        _note("receptive field", FIELD_CONVENTION),
        _note("memory", MEMORY_CONVENTION),
    ]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return lines of aligned columns; those numbered in `right` are aligned to the right."""
    return aligned(rows, right)


def _shape(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _note(what: str, text: str) -> str:
    return fill(f"{what}: {text}.", _WIDTH, subsequent_indent="  ")
