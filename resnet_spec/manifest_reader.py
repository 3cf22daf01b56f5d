"""Reads values of a backend's manifest, and keeps a line for each that breaks a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from resnet_spec.errors import did_you_mean


class TableReader:
    """Reads values of a table; keeps a line for each that breaks a rule."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[str] = []

    def check_keys(self, where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        """Say of every key that is not `known` so, with the nearest that is."""
        for key in table:
            if key not in known:
                hint = did_you_mean(key, known)
                shown = key if key.isprintable() else repr(key)
                self.say(f"{where}{shown}", "is no key of a manifest", hint)

    def names(
        self, table: Mapping[str, Any], key: str, where: str = "", required: bool = False
    ) -> tuple[str, ...]:
        """Return a list of texts, none of them empty."""
        value: Any = table.get(key, None if required else [])
        if isinstance(value, list):
            items = cast("list[object]", value)
            if all(isinstance(item, str) and item for item in items):
                return tuple(map(str, items))
        self.say(f"{where}{key}", self.rule(cast(object, value), "a list of names"))
        return ()

    def packages(
        self, table: Mapping[str, Any], key: str, where: str = "", required: bool = False
    ) -> tuple[str, ...]:
        """Return names that can be looked for: to find `a.b`, Python would import `a`."""
        found = self.names(table, key, where, required)
        for name in found:
            if not name.isidentifier() or name == "__main__":
                top = name.partition(".")[0]
                remedy = f"write {top!r}" if top.isidentifier() and top != "__main__" else ""
                self.say(f"{where}{key}", f"{name!r} is no top-level import name", remedy)
        return found

    def text(
        self, table: Mapping[str, Any], key: str, where: str = "", required: bool = True
    ) -> str:
        """Return a text, which is not empty where it is required."""
        value: Any = table.get(key, None if required else "")
        if isinstance(value, str) and (value or not required):
            return value
        self.say(f"{where}{key}", self.rule(value, "a text"))
        return ""

    def flag(self, table: Mapping[str, Any], key: str) -> bool:
        """Return true or false, which is what a missing one is."""
        value: Any = table.get(key, False)
        if not isinstance(value, bool):
            self.say(key, self.rule(value, "true or false"))
        return value is True

    def rule(self, value: object, kind: str) -> str:
        """Return the rule that `value` breaks: it must be `kind`, and may be missing."""
        return "is missing" if value is None else f"must be {kind}, not {value!r}"

    def say(self, key: str, rule: str, remedy: str = "") -> None:
        """Keep a line."""
        self.lines.append(f"{self._path}: {key}: {rule}{f'; {remedy}' if remedy else ''}")
