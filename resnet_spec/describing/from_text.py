"""Read a frozen description (spec or recipe) from a dict, TOML, JSON, and `--set` overrides.

Turns pydantic's errors into ours: all of them, each as `path = value: rule; remedy`, unknown keys
with the nearest known one. Knows nothing of what a spec or a recipe contains.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from resnet_spec.errors import ResnetSpecError, did_you_mean, problem
from resnet_spec.files.encodings import decoded

Fields = dict[str, Any]


def table_at(data: Fields, name: str) -> Fields:
    """Return the table `name` of `data`; an empty one where there is none."""
    found = data.get(name)
    return cast(Fields, found) if isinstance(found, Mapping) else {}


class RuleError(ValueError):
    """Broken rules between fields, raised inside a validator; one finished line each."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one line per problem that pydantic found in data for `model`."""
    lines: list[str] = []
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, RuleError):
            lines.extend(cause.lines)
        elif not _follows_from_another(detail):
            lines.append(_line(detail, model))
    return lines


def _follows_from_another(detail: ErrorDetails) -> bool:
    """Whether pydantic calls a list too short only because its entries were refused already."""
    if detail["type"] != "too_short":
        return False
    return len(detail["input"]) >= detail.get("ctx", {})["min_length"]


def _line(detail: ErrorDetails, model: type[BaseModel]) -> str:
    where = path_text(detail["loc"])
    value = _show(detail["input"])
    context: Mapping[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            known = _fields_at(model, detail["loc"][:-1])
            return problem(where, value, "unknown key", did_you_mean(str(detail["loc"][-1]), known))
        case "missing":
            return f"{where}: is required"
        case "greater_than_equal":
            return problem(where, value, f"must be >= {context['ge']}")
        case "greater_than":
            return problem(where, value, f"must be > {context['gt']}")
        case "less_than_equal":
            return problem(where, value, f"must be <= {context['le']}")
        case "less_than":
            return problem(where, value, f"must be < {context['lt']}")
        case "literal_error":
            return problem(where, value, f"must be {context['expected']}")
        case "too_short":
            return problem(where, value, f"must have at least {context['min_length']} entry")
        case "too_long":
            return problem(where, value, f"must have at most {context['max_length']} entries")
        case "string_too_short":
            return problem(where, value, "must not be empty", "give a value, or leave it out")
        case "string_too_long":
            return problem(where, value, f"must have at most {context['max_length']} characters")
        case "string_pattern_mismatch":
            return problem(where, value, f"must be written as {context['pattern']}")
        case "finite_number":
            return problem(where, value, "must be a finite number")
        case kind if kind.endswith(("_type", "_parsing")):
            return problem(where, value, f"must be {_TYPE_NAMES.get(kind, detail['msg'])}")
        case _:
            return problem(where, value, detail["msg"])


_TYPE_NAMES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "tuple_type": "a list",
    "model_type": "a table of keys",
    "model_attributes_type": "a table of keys",
}


def path_text(loc: Sequence[str | int]) -> str:
    """Write ("stages", 2, "blocks") as `stages[2].blocks`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _show(value: object) -> str:
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):  # From Python only: no JSON, or a circle.
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the field names of the (nested) model that `loc` points into."""
    current: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        current = current.model_fields[part].annotation
        for inner in get_args(current):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                current = inner
    return list(current.model_fields)


_LARGEST_FILE = 1 << 20
_SUFFIXES = (".toml", ".json")


def is_file_name(name: str | Path) -> bool:
    """Whether `name` is that of a file with a description, and not the name of a preset."""
    return Path(name).suffix.lower() in _SUFFIXES


def read_file(path: Path, error: type[ResnetSpecError]) -> Fields:
    """Return the contents of a `.toml` or `.json` file as a dict; raise `error` in one line.

    The text is UTF-8, or has a byte order mark (see `encodings`).
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror or cause}") from None
    except ValueError as cause:  # A path that no system call takes.
        raise error(f"{path!s}: cannot be read: {cause}") from None
    if len(content) > _LARGEST_FILE:
        raise error(f"{path}: cannot be read: is larger than {_LARGEST_FILE} bytes")
    text = decoded(content, f"{path}: cannot be read", error)
    return parse_text(text, path.name, error, is_json=path.suffix.lower() == ".json")


def parse_text(
    text: str, where: str, error: type[ResnetSpecError], *, is_json: bool = False
) -> Fields:
    """Parse TOML (or JSON) text into a dict; raise `error` naming the place of a syntax error."""
    try:
        data: Any = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as cause:
        kind = "JSON" if is_json else "TOML"
        raise error(f"{where}: is not valid {kind}: {cause}") from None
    if not isinstance(data, dict):
        raise error(f"{where}: must hold a table of keys at the top")
    return cast(Fields, data)


def plain(data: Mapping[str, Any]) -> Fields:
    """Return a copy of `data` in dicts and lists, whatever mappings, tuples and models it held."""
    return {key: _plain_value(value) for key, value in data.items()}


def _plain_value(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            return plain(cast(Mapping[str, Any], value))
        case list() | tuple():
            return [_plain_value(item) for item in cast(Sequence[Any], value)]
        case _:
            return value


def merge(base: Fields, changes: Fields) -> Fields:
    """Return `base` with `changes` applied: tables merge, anything else replaces."""
    merged = dict(base)
    for key, new in changes.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            merged[key] = merge(cast(Fields, old), cast(Fields, new))
        else:
            merged[key] = new
    return merged


def override(data: Fields, settings: Sequence[str], error: type[ResnetSpecError]) -> Fields:
    """Return a copy of `data` with `stages[2].blocks=4` style settings applied.

    The right side is a TOML value; text that is not one is taken as a string.
    """
    result = plain(data)
    for setting in settings:
        path, sign, text = setting.partition("=")
        if not sign or not path.strip():
            raise error(f"--set {setting}: must be of the form key=value, as in stages[2].blocks=4")
        parts = _path_parts(path.strip(), setting, error)
        if not text.strip():  # As of a variable of the shell that is not set.
            remedy = "give a value, none where there may be none, or leave it out"
            raise error(problem(f"--set {path.strip()}", '""', "must not be empty", remedy))
        _assign(result, parts, _value(text.strip()), setting, error)
    return result


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _path_parts(path: str, setting: str, error: type[ResnetSpecError]) -> list[str | int]:
    parts: list[str | int] = []
    for piece in path.split("."):
        key, *indices = piece.replace("]", "").split("[")
        if not key or not all(index.isdecimal() for index in indices):
            raise error(f"--set {setting}: '{piece}' is not a key or key[index]")
        parts += [key, *(int(index) for index in indices)]
    return parts


def _assign(
    data: Any, parts: list[str | int], value: object, setting: str, error: type[ResnetSpecError]
) -> None:
    target = data
    for position, part in enumerate(parts):
        kind = list if isinstance(part, int) else dict
        if not isinstance(target, kind):
            noun = "a list" if kind is list else "a table of keys"
            raise error(f"--set {setting}: {path_text(parts[:position])} is not {noun}")
        container = cast(Any, target)
        if isinstance(part, int) and part >= len(container):
            raise error(
                f"--set {setting}: {path_text(parts[: position + 1])} does not exist; "
                f"{path_text(parts[:position])} has {len(container)} entries, counted from 0"
            )
        if position == len(parts) - 1:
            container[part] = value
        elif isinstance(part, str):
            target = container.setdefault(part, {})
        else:
            target = container[part]
