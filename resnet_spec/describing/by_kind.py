"""Tables one field of which, the kind, says which of the others are read.

A kind has defaults of its own for those; a setting that it does not read is absent (None), refused
where it is given, and not written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from resnet_spec.errors import problem

Kinds = Mapping[str, Mapping[str, Any]]
"""By kind: the settings that it reads beside those of all, with their defaults."""


def with_defaults(data: Any, field: str, usual: str, kinds: Kinds) -> Any:
    """Return what a person gave, with the defaults of its kind. field: has the kind, else usual."""
    if not isinstance(data, dict):
        return data
    given = cast("dict[str, Any]", data)
    return {**kinds.get(str(given.get(field, usual)), {}), **given}


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are there."""
    return {name: value for name, value in fields.items() if value is not None}


def unread(
    table: object, where: str, who: str, own: Iterable[str], read: Mapping[str, Any]
) -> Iterator[str]:
    """Yield a line for each of the settings `own` that is there, and is none of those `read`.

    where: the name of `table`; who: its kind, as the line calls it.
    """
    has = f"; it has {', '.join(read)}" if read else ""
    for name in own:
        value = getattr(table, name)
        if name not in read and value is not None:
            rule = f"{who} has no {name}"
            yield problem(f"{where}.{name}", json.dumps(value), rule, f"remove it{has}")


def show_defaults(schema: dict[str, Any], own: Iterable[str], kinds: Kinds) -> None:
    """Put the defaults by kind, which no schema has a word for, into that of each field."""
    for name in own:
        found = {kind: read[name] for kind, read in kinds.items() if name in read}
        schema["properties"][name]["defaults"] = found
