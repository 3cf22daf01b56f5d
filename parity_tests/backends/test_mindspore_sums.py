"""Sums over whole tensors by MindSpore: the right number, and the same bits each time."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

ms: Any = pytest.importorskip("mindspore", reason="MindSpore is not installed")
descents: Any = importlib.import_module("resnet_spec_mindspore.descents")
modes: Any = importlib.import_module("resnet_spec_mindspore.graphs")

CALLS = 60


class Squares(ms.nn.Cell):
    def construct(self, x: Any) -> Any:
        return descents.sum_of_squares(x)


@pytest.mark.parametrize("shape", [(1,), (1000,), (1000, 2048), (512, 512, 3, 3)], ids=str)
def test_a_sum_of_squares_is_right_and_has_the_same_bits(shape: tuple[int, ...]) -> None:
    """A sum to one number differs in its last bits once in ten to a hundred calls."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    cell, tensor = Squares(), ms.Tensor(values)
    with modes.mode(ms.GRAPH_MODE):
        found = {cell(tensor).asnumpy().tobytes() for _ in range(CALLS)}
    assert len(found) == 1
    expected = np.square(values.astype(np.float64)).sum()
    assert float(np.frombuffer(found.pop(), np.float32)[0]) == pytest.approx(expected, rel=2e-6)
