"""JSON that every reader takes: Python's own writer would put NaN and Infinity into it.

All that the project writes or prints as JSON goes through here. May be imported by every module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast


def json_text(
    value: object,
    *,
    indent: int | None = None,
    compact: bool = False,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
) -> str:
    """Return `value` as JSON; a number that is not finite is null, for it is no number.

    compact: without spaces.
    """
    return json.dumps(
        _finite(value),
        indent=indent,
        separators=(",", ":") if compact else None,
        sort_keys=sort_keys,
        ensure_ascii=ensure_ascii,
        allow_nan=False,
    )


def _finite(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            table = cast(Mapping[Any, object], value)
            return {key: _finite(item) for key, item in table.items()}
        case list() | tuple():
            return [_finite(item) for item in cast("list[object] | tuple[object, ...]", value)]
        case _:
            return value
