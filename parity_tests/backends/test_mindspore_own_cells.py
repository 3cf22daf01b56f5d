"""A session of MindSpore follows what cells of one's own are set to; a graph by itself does not."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Array, Batch
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import worn_state
from resnet_spec.recipe import Recipe

ms = pytest.importorskip("mindspore")
structure: Any = importlib.import_module("resnet_spec_mindspore.containers").structure
pytestmark = pytest.mark.xdist_group("mindspore_native")

PLAN = CASES["plain"].plan


class Scaled(ms.nn.Cell):  # pyright: ignore[reportUntypedBaseClass]
    """A ReLU times what it holds."""

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def construct(self, x: Any) -> Any:
        return ms.ops.relu(x) * self.factor


def session_with(factor: Any) -> Any:
    session = load_backend("mindspore").Session(PLAN, Recipe(steps=1, batch=2), device="cpu")
    session.load(worn_state(PLAN, 0))
    session.native.act1 = Scaled(factor)
    return session


def told(session: Any) -> list[Array]:
    """Return logits and a loss."""
    given = PLAN.input
    images = np.random.default_rng(0).normal(size=(2, given.height, given.width, given.channels))
    batch = Batch(images.astype(np.float32), np.zeros(2, np.int64), np.arange(2))
    (logits,) = session.predict([batch])
    loss, _ = session.gradients(batch)
    return [logits, np.array(loss)]


def tensor(value: float) -> Any:
    return ms.Tensor(np.full(1, value, np.float32))


@pytest.mark.parametrize("make", [float, tensor])
def test_what_a_cell_of_one_s_own_is_set_to_counts(make: Any) -> None:
    session = session_with(make(1.0))
    before = told(session)
    compiled = session._logits
    assert all(map(np.array_equal, told(session), before)) and session._logits is compiled
    session.native.act1.factor = make(3.0)
    after, fresh = told(session), told(session_with(make(3.0)))
    assert all(map(np.array_equal, after, fresh))
    assert not np.array_equal(after[0], before[0]) and after[1] != before[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2.0), (1, 3.0)),
        ([1, [2]], [1, [3]]),
        (ms.ops.ReLU(), ms.ops.ReLU()),
        (ms.Tensor([1.0], ms.bfloat16), ms.Tensor([3.0], ms.bfloat16)),
        (np.zeros(2), np.zeros(3)),
        (None, 0),
        (False, 0),
    ],
)
def test_what_is_set_is_told_apart(one: Any, other: Any) -> None:
    cell = ms.nn.SequentialCell(Scaled(one))
    before = structure(cell)
    assert structure(cell) == before
    cell[0].factor = other
    assert structure(cell) != before
    if not callable(one):
        cell[0].factor = copy.deepcopy(one)
        assert structure(cell) == before


def test_what_is_within_its_tensor_counts() -> None:
    session = session_with(tensor(1.0))
    before = told(session)
    session.native.act1.factor.assign_value(tensor(3.0))
    assert not np.array_equal(told(session)[0], before[0])
    assert all(map(np.array_equal, told(session), told(session_with(tensor(3.0)))))
