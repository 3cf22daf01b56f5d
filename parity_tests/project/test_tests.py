"""Tests can fail: each asserts something, each skip has a reason, no table of cases is empty."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RAISING = {"raises", "warns", "fail"}
HELPERS = ("assert_", "check", "refus")
"""How the names of helpers begin that assert on a test's behalf."""
ANYTHING = {"Exception", "BaseException"}


def name_of(node: ast.expr) -> str:
    """Return the last part of a dotted name, or nothing."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_assertion(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name = name_of(node.func)
        return name in RAISING or name.lstrip("_").startswith(HELPERS)
    return isinstance(node, ast.Assert)


def fault_of(node: ast.AST) -> str:
    """Return what lets a test pass whatever happens, or nothing."""
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
        return "" if any(map(is_assertion, ast.walk(node))) else f"{node.name} asserts nothing"
    if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple):
        return f"{ast.unparse(node)} asserts a constant"
    if not isinstance(node, ast.Call):
        return ""
    name, keywords = name_of(node.func), {keyword.arg for keyword in node.keywords}
    if name in ("skip", "skipif", "xfail") and "reason" not in keywords:
        return "" if name == "skip" and node.args else f"{name} without a reason"
    if name == "raises" and "match" not in keywords and name_of(node.args[0]) in ANYTHING:
        return "raises takes any error"
    if name == "parametrize" and isinstance(node.args[1], ast.List | ast.Tuple):
        return "" if node.args[1].elts else "parametrize over nothing"
    return ""


def faults(source: str) -> list[str]:
    found = ((getattr(node, "lineno", 0), fault_of(node)) for node in ast.walk(ast.parse(source)))
    return [f"line {line}: {fault}" for line, fault in sorted(found) if fault]


@pytest.mark.xdist_group("grouped")
def test_a_group_of_tests_stays_on_one_worker(request: pytest.FixtureRequest) -> None:
    """Or whatever its tests share is made on every worker: pytest 9.2 and xdist 3.8 do so."""
    is_scattered = request.config.getoption("loadgroup", False)
    assert request.node.nodeid.endswith("@grouped" if is_scattered else "one_worker")


def test_every_test_can_fail() -> None:
    files = sorted(TESTS.rglob("test_*.py"))
    assert len(files) > 100
    wrong = {path.name: faults(path.read_text(encoding="utf-8")) for path in files}
    assert {name: lines for name, lines in wrong.items() if lines} == {}


def test_what_cannot_fail_is_found() -> None:
    source = """
def test_nothing(): run()
def test_constant():
    assert True
@pytest.mark.skipif(sys.platform == "win32")
@pytest.mark.parametrize("x", [])
def test_any(x):
    with pytest.raises(Exception): run()
def test_skipped():
    pytest.skip()
    check_it()
"""
    assert faults(source) == [
        "line 2: test_nothing asserts nothing",
        "line 4: assert True asserts a constant",
        "line 5: skipif without a reason",
        "line 6: parametrize over nothing",
        "line 8: raises takes any error",
        "line 10: skip without a reason",
    ]


def test_no_test_parametrises_over_what_turned_out_empty(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getini("empty_parameter_set_mark") == "fail_at_collect"
