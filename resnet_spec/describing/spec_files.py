"""Specs by name, from files, with overrides; and back to TOML, JSON and JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import cast

from resnet_spec.describing.from_text import Fields, is_file_name, merge, override, plain, read_file
from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import SpecError, check_kind, did_you_mean, problem

Source = str | Path | Mapping[str, object] | Spec


def load_spec(source: Source, settings: Texts = ()) -> Spec:
    """Return a spec from a preset name, a `.toml` or `.json` file, a dict or a spec.

    A file or dict may say `base = "resnet50"` and give only what differs: tables merge, lists
    replace. A file without a name is called by its stem. `settings` are `key=value` texts such as
    `stages[2].blocks=4` or one of them, applied last. Raises SpecError with every problem.
    """
    data, where = _read(source)
    data = _with_base(data, where)
    if changes := listed(settings, "settings", SpecError):
        data = override(merge(_defaults(), data), changes, SpecError)
    return Spec.from_dict(data, where)


def _read(source: Source) -> tuple[Fields, str]:
    """Return the fields of `source` and what to call it in errors."""
    if isinstance(source, Spec):
        return source.to_dict(), ""
    if isinstance(source, Mapping):
        return plain(source), ""
    rule = "must be a preset's name, a file, a table or a Spec"
    check_kind(SpecError, "spec", source, [str, Path], rule)
    path = Path(source)
    if is_file_name(path):
        return {"name": path.stem, **read_file(path, SpecError)}, path.name
    return {"base": str(source), "name": str(source)}, ""


def _with_base(data: Fields, where: str) -> Fields:
    if "base" not in data:
        return data
    base = data["base"]
    if not isinstance(base, str) or base not in PRESETS:
        place = f"{where}: base" if where else "spec"
        rule = "is neither a preset nor a .toml or .json file"
        hint = did_you_mean(str(base), PRESETS) or "see: resnet-spec list"
        raise SpecError(problem(place, base, rule, hint))
    rest = {key: value for key, value in data.items() if key != "base"}
    parts = [part.fields for part in PRESETS[base]]
    return reduce(merge, [*parts, {"name": base}, rest])


def _defaults() -> Fields:
    """Return every field that has a default, so that settings can reach into it.

    `expansion` is left out: it follows from the block unless given.
    """
    filled = Spec.model_construct(stages=(), block="basic").to_dict()
    return {key: filled[key] for key in filled.keys() - {"stages", "block", "expansion"}}


def dump_json(spec: Spec) -> str:
    """Write `spec` as JSON with every field; `load_spec` of it gives an equal spec."""
    return json.dumps(spec.to_dict(), indent=2, ensure_ascii=False) + "\n"


def dump_toml(spec: Spec) -> str:
    """Write `spec` as TOML with every field it has; `load_spec` of it gives an equal spec.

    The standard library reads TOML but does not write it. A spec holds scalars, lists of scalars,
    tables of these, and one list of tables, and no more is written here. TOML has no null: fields
    that are None, which is their default, are left out.
    """
    lines: list[str] = []
    tables: list[str] = []  # A plain assignment after a table's heading would belong to the table.
    for key, value in spec.to_dict().items():
        match value:
            case dict():
                tables += ["", f"[{key}]", *_assignments(cast(Fields, value))]
            case [dict(), *_]:
                for table in cast(list[Fields], value):
                    tables += ["", f"[[{key}]]", *_assignments(table)]
            case _:
                lines.append(f"{key} = {_toml(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _assignments(table: Fields) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]


def _toml(value: object) -> str:
    """Write a scalar or a list of scalars, for which JSON and TOML agree.

    Floats are written as the shortest text that reads back as the same bits. A spec's texts hold no
    control character (TOML forbids a raw U+007F, JSON does not), and its floats are finite.
    """
    return json.dumps(value, ensure_ascii=False)


def json_schema() -> Fields:
    """Return the JSON Schema of a spec file, for editors: the fields of `Spec`, and `base`."""
    from resnet_spec.describing.json_schema import described_schema

    schema = described_schema(Spec)
    schema["properties"]["base"] = {
        "description": "The preset that this file changes.",
        "enum": list(PRESETS),
    }
    required = schema.pop("required")
    schema["anyOf"] = [{"required": required}, {"required": ["base"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
