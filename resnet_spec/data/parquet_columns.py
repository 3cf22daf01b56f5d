"""Which columns of Parquet files hold the images and the labels: by name and metadata, never the
first that fits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from resnet_spec.errors import DataError

_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = (
    *("label", "labels", "fine_label", "class", "class_label", "class_id", "cls"),
    *("target", "targets", "category", "y"),
)
_INTEGERS, _TEXTS, _BYTES = "integers", "texts", "image bytes"


@dataclass(frozen=True)
class Schema:
    """One file's columns. kinds: what each can hold, of those that can hold images or labels.

    types: their types, for messages. features: what Hugging Face's `datasets` says of them.
    """

    path: Path
    kinds: Mapping[str, str]
    types: Mapping[str, str]
    features: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, path: Path, schema: Any, arrow: Any) -> Self:
        """Return what is needed of an arrow schema."""
        kinds = {it.name: kind for it in schema if (kind := _kind_of(it.type, arrow))}
        types = {it.name: str(it.type) for it in schema}
        return cls(path, kinds, types, _features(schema.metadata))

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Return the names that the metadata gives to the classes of `column`, or None."""
        feature = self.features.get(column)
        names = cast("dict[str, Any]", feature).get("names") if isinstance(feature, dict) else None
        if not isinstance(names, list):
            return None
        return tuple(str(name) for name in cast("list[object]", names))

    def is_class_label(self, column: str) -> bool:
        """Whether the metadata says that `column` holds classes."""
        feature = self.features.get(column)
        if not isinstance(feature, dict):
            return False
        return cast("dict[str, Any]", feature).get("_type") == "ClassLabel"


@dataclass(frozen=True)
class Columns:
    """The columns that are read. texts: the labels are class names, not numbers."""

    image: str
    label: str
    texts: bool
    notes: tuple[str, ...] = ()


def columns_of(schemas: Sequence[Schema]) -> Columns:
    """Return the columns of files that belong together, and check that all have them.

    A label's column is one that the metadata calls ClassLabel, else one of a usual name.
    """
    first = schemas[0]
    images = [name for name, kind in first.kinds.items() if kind == _BYTES]
    image = _chosen(images, _IMAGE_NAMES, "image bytes", first)
    rest = [name for name, kind in first.kinds.items() if kind != _BYTES]
    said = [name for name in rest if any(schema.is_class_label(name) for schema in schemas)]
    usual = [name for name in _LABEL_NAMES if name in rest]
    label = _chosen(said or usual, _LABEL_NAMES, "labels", first)
    for schema in schemas[1:]:
        for name in (image, label):
            if schema.kinds.get(name) != first.kinds[name]:
                has = f"is {schema.types[name]}" if name in schema.types else "is missing"
                rule = f"column {name} {has}, and {first.path.name} has {first.types[name]}"
                raise DataError(f"{schema.path}: {rule}; make them one")
    notes = (
        *_left_out("images", image, images),
        *_left_out("labels", label, [*usual, *said]),
    )
    return Columns(image, label, first.kinds[label] == _TEXTS, notes)


def _left_out(what: str, taken: str, fitting: Sequence[str]) -> list[str]:
    """Return a note on the columns that could have been taken, too."""
    others = [name for name in dict.fromkeys(fitting) if name != taken]
    are = "are" if len(others) > 1 else "is"
    note = f"{what} are those of the column {taken}; {', '.join(others)} {are} left out"
    return [note] if others else []


def _chosen(found: list[str], preferred: Sequence[str], what: str, schema: Schema) -> str:
    for name in preferred:
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    for name in preferred:
        if not found and name in schema.types:
            wanted = "integers or texts" if what == "labels" else what
            rule = f"column {name} is {schema.types[name]}, and must hold {wanted}"
            raise DataError(f"{schema.path}: {rule}")
    columns = ", ".join(f"{name} ({kind})" for name, kind in schema.types.items())
    rule = f"several columns hold {what}" if found else f"no column holds {what}"
    if not found and what == "labels":
        rule += " by its name or by the metadata"
    raise DataError(f"{schema.path}: {rule}; name it {preferred[0]}; it has {columns}")


def _kind_of(kind: Any, arrow: Any) -> str | None:
    types = arrow.types
    if types.is_integer(kind):
        return _INTEGERS
    if types.is_dictionary(kind):
        return _TEXTS if _is_text(kind.value_type, arrow) else None
    if _is_text(kind, arrow):
        return _TEXTS
    return _BYTES if _holds_bytes(kind, arrow) else None


def _is_text(kind: Any, arrow: Any) -> bool:
    return kind in _known(arrow, "string", "large_string", "string_view")


def _known(arrow: Any, *names: str) -> list[Any]:
    """Return the types of these names; older versions of pyarrow have no views."""
    return [getattr(arrow, name)() for name in names if hasattr(arrow, name)]


def _holds_bytes(kind: Any, arrow: Any) -> bool:
    if arrow.types.is_struct(kind):
        places = [i for i in range(kind.num_fields) if kind.field(i).name == "bytes"]
        return bool(places) and _holds_bytes(kind.field(places[0]).type, arrow)
    return kind in _known(arrow, "binary", "large_binary", "binary_view")


def _features(metadata: dict[bytes, bytes] | None) -> Mapping[str, Any]:
    """Return the `features` that Hugging Face's `datasets` writes into a file, or {}."""
    try:
        value = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
