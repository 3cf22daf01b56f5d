"""Gives tests that ask for a `pair` the whole matrix, one worker per case.

A case's sessions are compiled once and shared by every level's tests (`--dist loadgroup`).
"""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker per core: two threads each would wait for one another, up to a hundred times longer.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pair" not in metafunc.fixturenames:
        return
    from pairs import pairs  # Imports the frameworks, which the other tests do without.

    cells = [pytest.param(pair, marks=pytest.mark.xdist_group(pair.case)) for pair in pairs()]
    metafunc.parametrize("pair", cells, ids=str)
