"""A value that is computed when it is first asked for, without a lock that others wait for."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self, TypeVar, overload

_T = TypeVar("_T")


class once(cached_property[_T]):
    """`functools.cached_property` as it is from Python 3.12 on.

    That of 3.11 has one lock for all instances of a class: while one thread computes the value of
    its side, another one cannot compute that of its own. Each instance is one thread's here.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> _T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Self | _T:
        """Return the value, computed where it is not there; of the class, the property itself."""
        if instance is None:
            return self
        assert self.attrname is not None
        values: dict[str, Any] = instance.__dict__
        if self.attrname not in values:
            values[self.attrname] = self.func(instance)
        return values[self.attrname]
