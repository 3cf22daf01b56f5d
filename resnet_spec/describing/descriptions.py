"""What specs, recipes and grids have in common: frozen, validated values, from and to dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resnet_spec.describing.from_text import Fields, RuleError, problems_of
from resnet_spec.errors import ResnetSpecError

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
"""Of something that is never all of it."""


NONE = "none"
"""What is written for a field that has no value."""


def is_none(value: object) -> bool:
    """Whether `value` says that there is none."""
    return value is None or value == NONE


class Table(BaseModel):
    """A table of a description: frozen, no unknown keys, no types that are merely alike.

    A field that may be without a value takes `none` for that: TOML has no null, and what a base
    sets could not be taken back. by_kind: fields that are absent where another one says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    by_kind: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_none(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = cast("Mapping[str, Any]", data)
        return {key: it for key, it in given.items() if not (is_none(it) and cls._may_lack(key))}

    @classmethod
    def _may_lack(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and field.default is None and name not in cls.by_kind


class Description(Table):
    """A whole description. error: what is raised, with a line for each problem."""

    error: ClassVar[type[ResnetSpecError]]

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise self.error(*problems_of(error, type(self))) from None

    def broken_rules(self) -> Iterable[str]:
        """Return a line for each rule that is broken beyond the range of a single field."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _rules(self) -> Self:
        lines = list(self.broken_rules())
        if lines:
            raise RuleError(lines)
        return self

    @classmethod
    def from_dict(cls, data: Fields, where: str = "") -> Self:
        """Validate a plain dict. Raises `error` with every problem, prefixed with `where`."""
        try:
            return cls(**{str(key): value for key, value in data.items()})
        except cls.error as error:
            prefix = f"{where}: " if where else ""
            raise cls.error(*(prefix + line for line in error.problems)) from None

    def to_dict(self) -> Fields:
        """Return every field as plain JSON types; `from_dict` gives back an equal value."""
        return self.model_dump(mode="json")
