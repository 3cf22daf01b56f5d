"""The JSON Schema of a model with what the source says below each of its fields.

Pydantic's `use_attribute_docstrings` does the same while the class is made, which doubles the time
that every command takes to start; here it is done when somebody asks.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def described_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return `model`'s JSON Schema; each field's `description` is the text below it."""
    schema: dict[str, Any] = model.model_json_schema()
    tables = {table.__name__: table for table in _tables(model)}
    _describe(schema, model)
    for name, definition in schema.get("$defs", {}).items():
        _describe(definition, tables[name])
    return schema


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    for name, text in _field_docs(model).items():
        schema["properties"][name]["description"] = text


def _tables(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the models of a model's fields, those inside lists too."""
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield kind
                yield from _tables(kind)


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in model.__bases__:
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _field_docs(base)
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                found[name] = inspect.cleandoc(words)
            case _:
                pass
    return found
