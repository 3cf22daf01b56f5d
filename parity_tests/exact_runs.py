"""Runs of sessions compared as exactly as float64, or a session's own bits, allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Session, State
from resnet_spec.parity.setup import Setup

EXACT = 1e-10
"""Of float64, relative to the largest value; 4e-14 was measured, over all optimisers."""


def in_float64(cells: Iterable[Any]) -> list[Any]:
    """Return those parameters, a backend first, that have float64; torch's own marks stay.

    MindSpore has none. The others but torch compile once more for it: thorough.
    """
    return [
        pytest.param(
            *cell.values, marks=cell.marks if cell.values[0] == "torch" else pytest.mark.thorough
        )
        for cell in cells
        if cell.values[0] != "mindspore"
    ]


def far(found: State, expected: State) -> dict[str, float]:
    """Return where arrays are apart by more than `EXACT`."""
    assert list(found) == list(expected)
    errors = {
        name: float(np.abs(found[name] - array).max() / (np.abs(array).max() or 1.0))
        for name, array in expected.items()
    }
    return {name: error for name, error in errors.items() if not error <= EXACT}


def changed_by_going_on(session: Session, whole: Setup) -> list[str]:
    """Return what a run ends with otherwise where it goes on from its state after one step."""
    session.train(iter(whole.batches[:1]), *whole.pace(0, 1))
    state = session.state()
    session.train(iter(whole.batches[1:]), *whole.pace(1))
    end = session.state()
    session.load(state)
    assert {n: a.tobytes() for n, a in session.state().items()} == {
        n: a.tobytes() for n, a in state.items()
    }
    session.train(iter(whole.batches[1:]), *whole.pace(1))
    again = session.state()
    return [name for name in end if again[name].tobytes() != end[name].tobytes()]
