"""scripts/mutation.py tells what a test notices from what none does, on a tree of one module."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import mutation  # pyright: ignore[reportMissingImports]
from mutating import sites, tests_of_lines  # pyright: ignore[reportMissingImports]

SCRIPTS = Path(__file__).parents[2] / "scripts"
TOY = '''"""A toy: 1 + 2 of its docstring is no place."""
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    DEPTH = 3
Bits: Literal[8] = 8
__all__ = ["total" * 1]
REMOTES = {"https://example.org/a": 100}


def total(values: list[int], start: int = 5) -> int:
    if start < 0:
        raise ValueError(f"start = {start + 1}: is negative")
    for value in values:
        start += value
    return start
'''
TEST = """from resnet_spec.toy.sums import total


def test_total():
    assert total([3, 4], 1) == 8
"""
MODULE = "resnet_spec/toy/sums.py"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[mutation.Tree]:
    """A copy of a tree whose one test reads the toy."""
    root = tmp_path / "root"
    for name, text in {
        MODULE: TOY,
        "resnet_spec/__init__.py": "",
        "resnet_spec/toy/__init__.py": "",
        "parity_tests/test_toy.py": TEST,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    shutil.copytree(SCRIPTS / "mutating", root / "scripts" / "mutating")
    made = mutation.Tree(tmp_path / "copy", root)
    yield made
    made.close()


def test_places_are_those_that_a_test_could_read() -> None:
    changes = {(m.line, m.before, m.after) for m in sites.mutations(TOY)}
    raised = 'raise ValueError(f"start = {start + 1}: is negative")'
    assert changes == {
        (6, "8", "9"),
        (11, "5", "6"),
        (12, "start < 0", "not (start < 0)"),
        (12, "start < 0", "(start <= 0)"),
        (12, "0", "1"),
        (13, raised, "pass"),
        (15, "start += value", "pass"),
    }


def test_a_seed_gives_the_same_mutations_each_time() -> None:
    assert sites.chosen(TOY, 3, "1 a") == sites.chosen(TOY, 3, "1 a")
    assert len(sites.chosen(TOY, 100, "1 a")) == len(sites.mutations(TOY)) == 7
    assert {sites.chosen(TOY, 1, f"{seed}")[0].kind for seed in range(20)} == {
        "changed constant",
        "dropped statement",
        "flipped comparison",
        "negated condition",
    }


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("start += value", "pass", "noticed"),
        ("start < 0", "(start <= 0)", "not noticed"),
    ],
)
def test_what_the_test_reads_is_noticed(
    tree: mutation.Tree, before: str, after: str, verdict: str
) -> None:
    (change,) = [m for m in sites.mutations(TOY) if (m.before, m.after) == (before, after)]
    tests = ["parity_tests/test_toy.py::test_total"]
    assert tree.verdict(MODULE, change, tests, 60) == verdict
    assert (tree.root / MODULE).read_text(encoding="utf-8") == TOY


def test_tests_of_a_line_are_those_that_run_it_or_use_its_name() -> None:
    seconds = {"near/a.py::slow": 2.0, "near/a.py::quick": 1.0, "toy/b.py::other": 3.0}
    lines = {
        MODULE: {12: list(seconds), 15: ["near/a.py::quick"]},
        "user.py": {4: ["toy/b.py::other"]},
    }
    tests = tests_of_lines.Tests(seconds, lines, {"total": [("user.py", 4)]})
    by_line = {m.line: tests.of(MODULE, m) for m in sites.mutations(TOY)}
    assert by_line[12] == ["toy/b.py::other", "near/a.py::quick", "near/a.py::slow"]
    assert by_line[15] == ["near/a.py::quick"]
    assert by_line[13] == []
    assert "toy/b.py::other" in by_line[11]
