"""Of what kinds the fields of a checkpoint's header are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_spec.errors import CheckpointError

_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "spec": ((dict,), "a table"),
    "recipe": ((dict, type(None)), "a table or null"),
    "backend": ((dict,), "a table of texts"),
    "data": ((str,), "a text"),
    "class_names": ((list,), "a list of texts"),
    "progress": ((dict,), "a table"),
    **dict.fromkeys(("dataset", "held_out", "chosen"), ((dict, type(None)), "a table")),
}
"""The fields of a header, and what JSON may hold for them."""


def check_kinds(path: Path, header: Mapping[str, Any]) -> None:
    """Raise CheckpointError that names the first field that is of another kind."""
    for name, (kinds, told) in _KINDS.items():
        value = header.get(name)
        if name in header and not isinstance(value, kinds):
            raise _of_another_kind(path, name, value, told)
    backend: Mapping[str, object] = header.get("backend") or {}
    for name, value in backend.items():
        if not isinstance(value, str):
            raise _of_another_kind(path, f"backend.{name}", value, "a text")
    class_names: Sequence[object] = header.get("class_names") or []
    for place, value in enumerate(class_names):
        if not isinstance(value, str):
            raise _of_another_kind(path, f"class_names[{place}]", value, "a text")


def _of_another_kind(path: Path, name: str, value: object, told: str) -> CheckpointError:
    shown = json.dumps(value)
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[: _MOST_SHOWN - 3]}..."
    return CheckpointError(f"{path}: its header is damaged: {name} = {shown}: must be {told}")


_MOST_SHOWN = 60
