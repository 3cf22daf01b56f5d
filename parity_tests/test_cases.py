"""The table of cases covers the whole spec: every field, and every choice of a field."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from cases import CASES
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from resnet_spec.describing.spec import Spec, Stage

Values = list[Any]


def _leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield path, annotation and default of every field, those of nested tables included."""
    for key, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _leaves(info.annotation, f"{path}{key}.")
        elif key == "stages":
            yield from _leaves(Stage, "stages[].")
        else:
            yield f"{path}{key}", info.annotation, info.default


def _used(path: str) -> Values:
    """Return the values of a field over all cases (and stages)."""
    values: Values = []
    for case in CASES.values():
        table: Any = case.spec
        *tables, key = path.split(".")
        found = [table]
        for name in tables:
            found = list(table.stages) if name == "stages[]" else [getattr(t, name) for t in found]
        values += [getattr(t, key) for t in found]
    return values


FIELDS = list(_leaves(Spec))


@pytest.mark.parametrize(("path", "annotation", "default"), FIELDS, ids=[f[0] for f in FIELDS])
def test_every_field_and_choice_has_a_case(path: str, annotation: Any, default: Any) -> None:
    used = _used(path)
    if default is PydanticUndefined:
        assert len(set(used)) > 1, f"{path}: all cases have {used[0]}"
    else:
        assert any(value != default for value in used), f"{path}: no case differs from {default}"
    choices = _choices(annotation)
    if choices:
        assert choices == set(used), path


def _choices(annotation: Any) -> set[Any]:
    """Return the values of a Literal, with None for one that may be left out; {} for others."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*(_choices(part) or {None} for part in get_args(annotation)))
    return set()


def test_the_walk_reaches_nested_fields() -> None:
    paths = [path for path, _, _ in FIELDS]
    assert {"block", "norm.variance", "stem.kernel", "stages[].dilation", "input.std"} < set(paths)
    assert "same" in _choices(next(kind for path, kind, _ in FIELDS if path == "stem.pool_padding"))
    assert _used("stages[].dilation").count(2) == 1
