"""Which kinds of values the fields of a `summary.json` may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from resnet_spec.errors import DataError

_NONE = type(None)
_NUMBER = (int, float)
_FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("backend", "spec", "data", "recipe", "best_of"), (str,)),
    **dict.fromkeys(("epochs", "steps"), (int,)),
    **dict.fromkeys(("images_per_second", "first_step_s", "wall_s"), _NUMBER),
    **dict.fromkeys(("best_accuracy", "final_accuracy"), (*_NUMBER, _NONE)),
    **dict.fromkeys(("best_test_accuracy", "final_validation_accuracy"), (*_NUMBER, _NONE)),
    **dict.fromkeys(("final_loss", "final_test_loss"), (*_NUMBER, _NONE)),
    **dict.fromkeys(("compile_s", "peak_memory_mb"), (*_NUMBER, _NONE)),
    "best_epoch": (int, _NONE),
    "complete": (bool,),
    "environment": (dict,),
    "legs": (list,),
    "failed": (str, _NONE),
    **dict.fromkeys(("dataset", "held_out", "asked"), (dict, _NONE)),
    "notes": (list,),
}


def summary_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a summary that are in `data`; what else is there is left out.

    Raises DataError for a value of another kind.
    """
    values: dict[str, Any] = {}
    for name, kinds in _FIELDS.items():
        if name not in data:
            continue
        value = data[name]
        is_flag = isinstance(value, bool) and bool not in kinds
        if not isinstance(value, kinds) or is_flag or not is_finite(value):
            raise DataError(f"summary: {name} = {value!r}: is not of its kind")
        values[name] = value
    return values


def is_finite(value: object) -> bool:
    """Whether `value` is no NaN and not infinite; what is no number is finite."""
    return not isinstance(value, float) or math.isfinite(value)
