"""The page docs/reference/python.md: signatures and docstrings of all that is public.

`make_reference.py` writes it. A docstring's lines `name: what it is` become a list.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

from pydantic import BaseModel

import resnet_spec

# Heading -> module and the names in it; "" is the package itself.
SECTIONS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "Networks": (
        ("", ("build", "session", "load_spec", "lower", "initial_state", "list_presets")),
        ("", ("Spec", "Plan")),
    ),
    "Training": (
        ("", ("train", "load_recipe", "Recipe")),
        ("running.runs", ("Summary",)),
        ("running.metrics", ("read_metrics", "Epoch")),
        ("running.watch", ("Watch",)),
    ),
    "Data": (
        ("", ("load_data", "Dataset")),
        ("data", ("list_datasets",)),
        ("data.dataset", ("Split", "ArraySplit")),
        ("data.batches", ("train_batches", "test_batches")),
    ),
    "Evaluating": (("running.evaluate", ("evaluate", "Evaluation")),),
    "Weights": (
        ("weights.converting", ("load_weights", "Loaded", "convert", "Converted")),
        ("weights.recognising.recognise", ("recognise_file", "Recognised")),
        ("weights.loading", ("load_pretrained", "Pretrained")),
        ("weights.adopting", ("adopt", "Adopted")),
        ("weights.checkpoint", ("load_checkpoint", "save_checkpoint", "Checkpoint")),
    ),
    "Exported models": (
        ("exporting", ("export", "check", "Exported", "engine_session", "EngineSession")),
    ),
    "Parity": (
        ("parity", ("compare", "compare_backends")),
        ("reporting.report", ("Report", "Row", "Item", "Finding")),
        ("reporting.report_html", ("write_html",)),
    ),
    "Sessions": (("contract", ("Session", "Batch", "StepLog")),),
    "Errors": (
        ("", ("ResnetSpecError", "SpecError", "RecipeError", "DataError")),
        ("", ("CheckpointError", "BackendError")),
        ("errors", ("GridError", "TrackingError")),
    ),
}
_FIELD_PAGES = {"Spec": "spec.md", "Recipe": "recipe.md"}
_WIDTH = 100
_LONGEST = 40
"""Letters of a default; a longer one is left out."""
_ROUTINES = (FunctionType, property, cached_property, classmethod, staticmethod)
_PARAMETERS = re.compile(r"^([a-z_]+(?:, [a-z_]+)*): ")


def lines(made: str) -> Iterator[str]:
    """Yield the page's lines. made: the sentence that says who writes it."""
    yield from ("# Python", "", f"{made} `help(resnet_spec.build)` says the same.", "")
    yield from (
        "Names without a module are those of `resnet_spec` itself. `Source` is a preset's name, a "
        "`.toml` or",
        "`.json` file, a dict or a `Spec`; `Texts` is a text or several; `State` is a dict from "
        "canonical names to arrays.",
        "",
    )
    for heading, groups in SECTIONS.items():
        yield from (f"## {heading}", "")
        for module, names in groups:
            for name in names:
                yield from _entry(module, name)


def documented() -> set[str]:
    """Return the names of the package itself that have an entry."""
    groups = (group for groups in SECTIONS.values() for group in groups)
    return {name for module, names in groups if not module for name in names}


def _entry(module: str, name: str) -> Iterator[str]:
    home: Any = importlib.import_module(f"resnet_spec.{module}") if module else resnet_spec
    thing: Any = getattr(home, name)
    yield from (f"### {name}", "")
    if module:
        yield from ("```python", f"from resnet_spec.{module} import {name}", "```", "")
    if not inspect.isclass(thing):
        yield from ("```python", *_signature(name, thing), "```", "")
    elif is_dataclass(thing):
        yield from ("```python", *_fields(thing), "```", "")
    yield from _text(inspect.getdoc(thing) or "")
    if name in _FIELD_PAGES:
        yield from (f"[Its fields]({_FIELD_PAGES[name]}).", "")
    if inspect.isclass(thing):
        yield from _members(thing)


def _signature(name: str, function: Any, after: str = ": ...") -> list[str]:
    """Return `def name(...) -> what: ...`, a parameter a line where it would be too long."""
    signature = inspect.signature(function)
    parts: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        is_keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if is_keyword and "*" not in parts and not any(part.startswith("*") for part in parts):
            parts.append("*")
        parts.append(_parameter(parameter))
    returned = signature.return_annotation
    arrow = "" if returned is inspect.Signature.empty else f" -> {_plain(returned)}"
    line = f"def {name}({', '.join(parts)}){arrow}{after}"
    if len(line) <= _WIDTH:
        return [line]
    inside = f"    {', '.join(parts)}"
    if len(inside) <= _WIDTH:
        return [f"def {name}(", inside, f"){arrow}{after}"]
    return [f"def {name}(", *(f"    {part}," for part in parts), f"){arrow}{after}"]


def _parameter(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.annotation is not inspect.Parameter.empty:
        text += f": {_plain(parameter.annotation)}"
    if parameter.default is not inspect.Parameter.empty:
        text += f" = {_value(parameter.default)}"
    return text


def _fields(cls: Any) -> Iterator[str]:
    yield f"class {cls.__name__}:"
    for field in fields(cls):
        default = ""
        if field.default is not MISSING:
            default = f" = {_value(field.default)}"
        elif field.default_factory is not MISSING:
            default = " = ..."
        yield f"    {field.name}: {_plain(field.type)}{default}"


def _plain(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "Any")
    return text.replace("'", '"')


def _value(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if callable(value):
        return "..."
    text = repr(value).replace("'", '"')
    return text if len(text) <= _LONGEST else "..."


def _members(cls: Any) -> Iterator[str]:
    """Yield a list of the public methods and properties, each with its first sentence."""
    found: list[str] = []
    for name, member in vars(cls).items():
        if name.startswith("_") or not isinstance(member, _ROUTINES):
            continue
        inner = getattr(member, "__func__", getattr(member, "fget", member))
        inner = getattr(inner, "func", inner)  # Of a cached property.
        documented = inspect.getdoc(inner) or ""
        if documented.startswith("See `"):
            continue
        is_property = isinstance(member, property | cached_property)
        first = " ".join(documented.split("\n\n")[0].split())
        call = "" if is_property else f"({', '.join(_names(inner))})"
        found.append(f"- `{name}{call}`: {_escaped(first)}")
    if found and not issubclass(cls, BaseException):
        yield from ("Methods and properties:", "", *found, "")


def _names(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def _text(docstring: str) -> Iterator[str]:
    """Yield a docstring as Markdown: paragraphs, and lists of what parameters are."""
    for paragraph in docstring.split("\n\n"):
        rows = paragraph.splitlines()
        if not _PARAMETERS.match(rows[0]):
            yield from (*(_escaped(row) for row in rows), "")
            continue
        items: list[str] = []
        for row in rows:
            found = _PARAMETERS.match(row)
            if found:
                names = ", ".join(f"`{name}`" for name in found.group(1).split(", "))
                items.append(f"- {names}: {_escaped(row[found.end() :])}")
            else:
                items.append(f"  {_escaped(row.strip())}")
        yield from (*items, "")


def _escaped(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, but for what stands between backticks."""
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"([*\[\]])", r"\\\1", parts[place]).replace("<", "&lt;")
    return "`".join(parts)


def undocumented() -> list[str]:
    """Return what is public and has no docstring, by its dotted name."""
    found: list[str] = []
    for groups in SECTIONS.values():
        for module, names in groups:
            home: Any = importlib.import_module(f"resnet_spec.{module}") if module else resnet_spec
            for name in names:
                thing = getattr(home, name)
                found += [f"{module}.{name}"] if not inspect.getdoc(thing) else []
                found += [f"{module}.{name}.{member}" for member in _bare_members(thing)]
    return found


def _bare_members(thing: Any) -> list[str]:
    if not inspect.isclass(thing) or issubclass(thing, BaseModel):
        return []
    public = {name: member for name, member in vars(thing).items() if not name.startswith("_")}
    return [
        name
        for name, member in public.items()
        if isinstance(member, _ROUTINES) and not inspect.getdoc(getattr(thing, name))
    ]
