"""Pytest's side of scripts/mutation.py: says which lines each test runs, or runs the tests chosen.

`MUTATION_RECORD` names a file for what the session's tests took and whether they passed; the lines
are recorded by coverage, which each process starts (`recorder` in tests_of_lines.py).
`MUTATION_SELECT` names a file with the ids of the tests to run, in their order.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


class Recorder:
    """Tells coverage which test runs; the first process writes how the tests went."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        self._not_passed: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None]:
        running: Any = importlib.import_module("coverage").Coverage.current()
        if running:
            running.switch_context(item.nodeid)
        yield
        if running:
            running.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid
        self._seconds[name] = self._seconds.get(name, 0.0) + report.duration
        if not report.passed:
            self._not_passed.add(name)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not hasattr(session.config, "workerinput"):
            passed = {n: s for n, s in self._seconds.items() if n not in self._not_passed}
            self._path.write_text(json.dumps(passed), encoding="utf-8")


class Selector:
    """Keeps the chosen tests of what was collected, in the order they were chosen in."""

    def __init__(self, path: Path) -> None:
        self._order = {n: i for i, n in enumerate(json.loads(path.read_text(encoding="utf-8")))}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if item.nodeid in self._order]
        items[:] = sorted(kept, key=lambda item: self._order[item.nodeid])


def pytest_configure(config: pytest.Config) -> None:
    for variable, plugin in {"MUTATION_RECORD": Recorder, "MUTATION_SELECT": Selector}.items():
        if path := os.environ.get(variable):
            config.pluginmanager.register(plugin(Path(path)))
