"""The preset that a spec is, up to what tensors do not show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec

Fields = dict[str, Any]
Leaves = dict[str, object]


@dataclass(frozen=True, slots=True)
class MatchingPreset:
    """A preset, and how a spec with the same tensors differs from it.

    differs: fields with the spec's value, as `norm.eps = 1.001e-05`.
    """

    name: str
    differs: tuple[str, ...]


def matching_preset(spec: Spec) -> MatchingPreset | None:
    """Return the preset whose tensors are those of `spec`, whatever its classes and images.

    Among several it is the one that differs in fewest of the other fields.
    """
    mine = _leaves(spec)
    shown = _shown(mine)
    same = [(name, fields) for name, fields, theirs in _presets() if theirs == shown]
    if not same:
        return None
    named = [(name, tuple(_differences(mine, theirs))) for name, theirs in same]
    return MatchingPreset(*min(named, key=lambda pair: len(pair[1])))


@cache
def _presets() -> tuple[tuple[str, Leaves, Leaves], ...]:
    """Return every preset's name, its fields, and those of them that tensors show."""
    fields = {name: _leaves(load_spec(name)) for name in PRESETS}
    return tuple((name, leaves, _shown(leaves)) for name, leaves in fields.items())


_HIDDEN = ("name", "classes", "input", "norm", "padding", "stride_position", "zero_pad_at")
_HIDDEN_LEAVES = ("stride", "dilation", "pool", "padding", "pool_padding")
_TRAINING = ("dropout", "stochastic_depth", "init", "zero_init_last_norm")


def _shown(leaves: Mapping[str, object]) -> dict[str, object]:
    """Return the fields that tensors show; shortcuts without tensors are all one."""
    found = {
        path: value
        for path, value in leaves.items()
        if path.partition(".")[0] not in (*_HIDDEN, *_TRAINING)
        and path.rpartition(".")[2] not in _HIDDEN_LEAVES
    }
    if found["shortcut"] in ("zero_pad", "none"):
        found["shortcut"] = ""
    return found


def _differences(mine: Mapping[str, object], theirs: Mapping[str, object]) -> Iterator[str]:
    for path, value in mine.items():
        if path != "name" and theirs.get(path) != value:
            yield f"{path} = {value}"


def _leaves(spec: Spec) -> dict[str, object]:
    return dict(_walk(spec.to_dict(), ""))


def _walk(value: Any, path: str) -> Iterator[tuple[str, object]]:
    match value:
        case dict():
            for key, item in cast(Fields, value).items():
                yield from _walk(item, f"{path}.{key}" if path else key)
        case [dict(), *_]:
            for i, item in enumerate(cast("list[Fields]", value)):
                yield from _walk(item, f"{path}[{i}]")
        case _:
            yield path, value
