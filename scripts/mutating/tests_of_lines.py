"""Which tests run a line of the tree: recorded once, and asked for each mutation."""

from __future__ import annotations

import ast
import collections
import contextlib
import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .sites import Mutation

PER_LINE = 200
"""Tests that are remembered for a line at most, spread over their files."""
FEW = 5
RECORDER = """\
import atexit, contextlib, os, coverage

def save():
    with contextlib.suppress(Exception):  # Of a process whose files are full, on purpose.
        running.stop()
        running.save()

running = coverage.Coverage(config_file=os.environ["MUTATION_COVERAGE"], data_suffix=True)
running.start()
atexit.register(save)
"""
"""What each Python process of the recording starts with."""
SETTINGS = """\
[run]
source = {source}
data_file = {data}
parallel = true
patch = _exit
context = ${{PYTEST_CURRENT_TEST-}}
"""


@dataclass(frozen=True)
class Tests:
    """What the tests of a tree run, by line, and how long each took."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    """Module -> line -> ids of the tests that run it in a function, the quickest of each file
    first."""
    users: dict[str, list[tuple[str, int]]]
    """Name -> modules and lines that read it."""

    def of(self, module: str, mutation: Mutation) -> list[str]:
        """Return the tests that can notice a mutation, those to run first in front.

        What runs at import is noticed where its name is used, and failing that by whatever runs the
        module. The test that happens to import a module first is no better than these.
        """
        found = self._at((module, n) for n in range(mutation.line, mutation.end_line + 1))
        if mutation.names:
            found |= self._at(
                place for name in mutation.names for place in self.users.get(name, [])
            )
            if len(found) < FEW:
                found |= self._at((module, line) for line in self.lines.get(module, {}))
        return self.spread(found, near=Path(module).parts[1])

    def spread(self, tests: set[str], near: str = "") -> list[str]:
        """Order tests: the quickest of each file, then each one's next; near files come first."""
        files: dict[str, list[str]] = {}
        for test in sorted(tests, key=lambda name: (self.seconds[name], name)):
            files.setdefault(test.partition("::")[0], []).append(test)
        order = sorted(files, key=lambda name: (near not in Path(name).parts, name))
        rounds = itertools.zip_longest(*(files[name] for name in order))
        return [test for tests in rounds for test in tests if test is not None]

    def _at(self, places: Iterable[tuple[str, int]]) -> set[str]:
        return {
            test for file, line in places for test in self.lines.get(file, {}).get(line, [])
        } & self.seconds.keys()


def users(modules: dict[str, str]) -> dict[str, list[tuple[str, int]]]:
    """Index the names and attributes that the modules' texts read."""
    found: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    for module, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found[node.id].append((module, node.lineno))
            elif isinstance(node, ast.Attribute):
                found[node.attr].append((module, node.lineno))
            elif isinstance(node, ast.keyword) and node.arg:
                found[node.arg].append((module, node.value.lineno))
    return found


def recorded(
    tree: Path, scratch: Path, environment: dict[str, str], arguments: list[str]
) -> tuple[dict[str, float], dict[str, dict[int, list[str]]]]:
    """Run tests under coverage; return what those that passed took, and each line's tests.

    Raises SystemExit where coverage is missing or pytest found nothing to run.
    """
    try:
        importlib.import_module("coverage")
    except ImportError:
        raise SystemExit("coverage is missing; pip install 'coverage>=7.10'") from None
    data, times = scratch / "data", scratch / "seconds.json"
    data.mkdir(parents=True)
    settings = scratch / "coverage.ini"
    folders = ",".join(str(tree / name) for name in ("resnet_spec", "backends"))
    settings.write_text(SETTINGS.format(source=folders, data=data / "of"), encoding="utf-8")
    (scratch / "start").mkdir()
    (scratch / "start" / "sitecustomize.py").write_text(RECORDER, encoding="utf-8")
    path = os.pathsep.join([str(scratch / "start"), environment["PYTHONPATH"]])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "mutating.plugin", "-n", "2", "--dist", "loadgroup"]
    command += [f"--basetemp={scratch / 'tests'}", *arguments]
    recording = {"MUTATION_COVERAGE": str(settings), "MUTATION_RECORD": str(times)}
    subprocess.run(
        command, cwd=tree, env=environment | recording | {"PYTHONPATH": path}, check=False
    )
    if not times.exists():
        raise SystemExit("pytest recorded nothing: its own words are above")
    seconds: dict[str, float] = json.loads(times.read_text(encoding="utf-8"))
    return seconds, _lines(tree, data, seconds)


def _lines(tree: Path, data: Path, seconds: dict[str, float]) -> dict[str, dict[int, list[str]]]:
    coverage: Any = importlib.import_module("coverage")
    found: dict[str, dict[int, set[str]]] = {}
    for file in sorted(data.iterdir()):
        part = coverage.CoverageData(str(file))
        with contextlib.suppress(coverage.exceptions.DataError):  # Of a process that was killed.
            part.read()
        for name in part.measured_files():
            module = found.setdefault(Path(name).relative_to(tree).as_posix(), {})
            for line, contexts in part.contexts_by_lineno(name).items():
                module.setdefault(line, set()).update(map(_test, contexts))
    tests = Tests(seconds, {}, {})
    return {
        module: {
            line: tests.spread(names & seconds.keys())[:PER_LINE]
            for line, names in sorted(lines.items())
        }
        for module, lines in found.items()
    }


def _test(context: str) -> str:
    """Return the test of a context: a child process's is what pytest calls it, `id (call)`."""
    name, _, phase = context.rpartition(" (")
    return name if phase in ("setup)", "call)", "teardown)") else context
