"""Lists of texts as they are given from Python, where one text alone is a list of one.

A text is a sequence of letters, too: `settings="epochs=3"` would else be eight settings. May be
imported by every module; imports `errors` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from resnet_spec.errors import ResnetSpecError, problem

Texts = str | Iterable[str]
"""Several texts, or one."""


def listed(texts: Texts, where: str, error: type[ResnetSpecError] = ResnetSpecError) -> list[str]:
    """Return `texts` as a list; a single text is a list of one.

    where: what the argument is called. Raises `error` for what is no text, or a table of them.
    """
    if isinstance(texts, str):
        return [texts]
    given: Any = texts  # Callers in Python are not bound to the types.
    if not isinstance(given, Iterable) or isinstance(given, Mapping | bytes):
        raise error(problem(where, repr(texts), "must be texts", _remedy(where)))
    found = list(cast("Iterable[object]", given))
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise error(problem(f"{where}[{place}]", repr(text), "must be a text", _remedy(where)))
    return cast("list[str]", found)


def once_each(
    texts: Iterable[str], where: str, error: type[ResnetSpecError] = ResnetSpecError
) -> None:
    """Raise `error` for a text that is there twice."""
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise error(problem(where, text, "is named twice", "name it once"))
        seen.add(text)


def _remedy(where: str) -> str:
    return 'as in settings=["epochs=3", "batch=64"]' if where == "settings" else ""
