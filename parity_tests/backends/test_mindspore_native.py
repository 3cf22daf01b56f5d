"""A native cell in other hands: parts replaced, added and deleted; copied and saved.

In graph mode as in PyNative mode, each part of it on a network of its own.
"""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_plans import BASIC, SIZE, small_plan

from resnet_spec.contract import Batch
from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.recipe import Recipe
from resnet_spec.weights.loading import load_pretrained

pytest.importorskip("mindspore")
backend: Any = load_backend("mindspore")
ms: Any = importlib.import_module("mindspore")
nn: Any = ms.nn

MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}


PLAN = small_plan(BASIC)
IMAGES = np.random.default_rng(0).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)


def network(plan: Plan = PLAN) -> Any:
    return backend.build(plan, initial_state(plan, 3))


@contextmanager
def run_in(name: str) -> Iterator[None]:
    before = ms.get_context("mode")
    ms.set_context(mode=MODES[name])
    try:
        yield
    finally:
        ms.set_context(mode=before)


def logits(cell: Any) -> Any:
    return cell(ms.Tensor(IMAGES)).asnumpy()


def replace(cell: Any, path: str, new: Any) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        cell = getattr(cell, parent)
    setattr(cell, key, new)


class Doubled(nn.Cell):
    """Does as `cell`, and doubles what comes out."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, *inputs: Any) -> Any:
        return self.cell(*inputs) * 2.0


KINDS = (
    *("conv1", "bn1", "act1", "maxpool", "layer1", "layer1.0", "layer1.1.conv1", "layer1.1.bn2"),
    *("layer1.0.act1", "layer1.0.act2", "layer1.0.se", "layer1.0.se.pool", "layer1.1.se.fc1"),
    *("layer1.0.se.gate", "layer1.0.add", "layer2.0.downsample", "layer2.0.downsample.0"),
    *("layer2.0.downsample.1", "global_pool", "fc"),
)


# Every graph is compiled anew.
@pytest.mark.parametrize(
    ("mode", "each"),
    [("pynative", 1), ("graph", 10), pytest.param("graph", 4, marks=pytest.mark.thorough)],
)
def test_every_kind_of_child_that_is_replaced_is_run(mode: str, each: int) -> None:
    """One by one in one network: each doubles its output, and the logits change."""
    paths = sorted(KINDS, key=lambda path: -path.count("."))[::each]
    cell = network()
    with run_in(mode):
        before = logits(cell)
        for path in paths:
            cells = dict(cell.cells_and_names())
            replace(cell, path, Doubled(cells[path]))
            after = logits(cell)
            assert not np.array_equal(after, before), path
            before = after
    assert len(KINDS) == 20


@pytest.mark.parametrize("mode", ["pynative", pytest.param("graph", marks=pytest.mark.thorough)])
def test_the_new_cell_is_trained_and_the_old_one_is_not(mode: str) -> None:
    cell = network()
    old = cell.fc.weight
    with run_in(mode):
        assert logits(cell).shape == (2, 5)
        cell.fc = nn.Dense(8, 3)
        assert logits(cell).shape == (2, 3)
        cell.set_train()
        optimizer = nn.Momentum(cell.trainable_params(), 0.1, 0.9)
        step = nn.TrainOneStepCell(nn.WithLossCell(cell, nn.CrossEntropyLoss()), optimizer)
        before, left = cell.fc.weight.asnumpy().copy(), old.asnumpy().copy()
        step(ms.Tensor(IMAGES), ms.Tensor([0, 1], ms.int32))
        assert not np.array_equal(cell.fc.weight.asnumpy(), before)
        assert np.array_equal(old.asnumpy(), left)


def fewer(cell: Any) -> None:
    del cell.maxpool
    del cell.layer1[1]
    del cell.layer1[0].act1
    cell.layer1[0].se = None


def more(cell: Any) -> None:
    cell.layer1.append(nn.ReLU())
    cell.layer1[0].downsample = nn.SequentialCell(nn.Conv2d(8, 8, 1, weight_init="ones"))
    cell.extra = nn.Dense(5, 4)


@pytest.mark.parametrize(
    ("change", "classes", "mode"),
    [
        (fewer, 5, "pynative"),
        pytest.param(fewer, 5, "graph", marks=pytest.mark.thorough),
        (more, 4, "pynative"),
        pytest.param(more, 4, "graph", marks=pytest.mark.thorough),
    ],
)
def test_children_are_deleted_and_added(change: Any, classes: int, mode: str) -> None:
    cell = network()
    with run_in(mode):
        before = logits(cell)
        change(cell)
        after = logits(cell)
        assert after.shape == (2, classes)
        assert classes != 5 or not np.array_equal(after, before)
        cell.layer2 = nn.SequentialCell(nn.Identity())
        assert not np.array_equal(logits(cell), after)


def test_a_chain_is_a_list_of_its_children() -> None:
    cell = network()
    del cell.layer1[0]
    cell.layer1.append(nn.ReLU())
    assert list(cell.layer1.name_cells()) == ["1", "2"]  # "1" is not overwritten.
    cell.layer1[1] = nn.Sigmoid()
    assert isinstance(cell.layer1[-1], nn.Sigmoid) and len(cell.layer1) == 2
    names = {parameter.name for parameter in cell.get_parameters()}
    part = cell.layer1[:1]
    assert len(part) == 1 and {p.name for p in cell.get_parameters()} == names
    del cell.layer1[:]
    assert len(cell.layer1) == 0 and logits(cell).shape == (2, 5)


def test_a_block_without_its_sum_is_an_error() -> None:
    cell = network()
    del cell.layer1[0].add
    with pytest.raises(IndexError):
        logits(cell)


# --- Names ----------------------------------------------------------------------------------------


def test_parameters_are_named_by_their_place_the_new_ones_too() -> None:
    cell = network()
    assert cell.parameters_dict().keys() == {tensor.name for tensor in PLAN.tensors}
    cell.layer2[0].conv1 = nn.Conv2d(8, 8, 3, 2)
    cell.layer2[0].bn1 = nn.BatchNorm2d(8)
    cell.layer1 = nn.SequentialCell(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    names = [parameter.name for parameter in cell.get_parameters()]
    assert len(set(names)) == len(names)
    assert {"layer2.0.conv1.weight", "layer2.0.bn1.running_var", "layer1.1.weight"} <= set(names)
    assert not [name for name in names if name.endswith(("gamma", "moving_mean"))]


def test_a_cell_around_it_puts_its_own_name_before_them() -> None:
    class Outer(nn.Cell):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

    outer = Outer(network())
    assert outer.inner.bn1.gamma.name == "inner.bn1.weight"
    outer.inner.bn1 = nn.BatchNorm2d(8)
    assert outer.inner.bn1.gamma.name == "inner.bn1.weight"


# --- Copies and files -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["pynative", pytest.param("graph", marks=pytest.mark.thorough)])
def test_a_copy_has_weights_and_parts_of_its_own(mode: str) -> None:
    cell = network()
    with run_in(mode):
        before = logits(cell)
        twin = copy.deepcopy(cell)
        assert np.array_equal(logits(twin), before)
        twin.fc = nn.Dense(8, 3)
        ms.ops.assign(twin.conv1.weight, twin.conv1.weight * 2.0)
        assert logits(twin).shape == (2, 3)
        assert np.array_equal(logits(cell), before)


def test_pickle_is_refused_by_mindspore_as_the_docs_say() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(network())


def test_checkpoints_have_canonical_names_and_load(tmp_path: Path) -> None:
    cell, file = network(), str(tmp_path / "cell.ckpt")
    ms.save_checkpoint(cell, file)
    saved = ms.load_checkpoint(file)
    assert saved.keys() == {tensor.name for tensor in PLAN.tensors}
    other = backend.build(PLAN, initial_state(PLAN, 4))
    assert not np.array_equal(logits(other), logits(cell))
    assert ms.load_param_into_net(other, saved, strict_load=True) == ([], [])
    assert np.array_equal(logits(other), logits(cell))
    assert same(load_pretrained(file).state, initial_state(PLAN, 3))


def same(one: Any, two: Any) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in two)


# --- In a session ---------------------------------------------------------------------------------

BATCH = Batch(
    np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8),
    np.arange(4),
    np.arange(4),
)


def test_a_session_runs_and_trains_what_was_replaced() -> None:
    plan = small_plan({"stages": [{"width": 8, "blocks": 1}]})  # Four graphs are compiled.
    made = backend.Session(plan, Recipe(steps=2, batch=4))
    made.load(initial_state(plan, 3))
    rates = np.full(1, 0.1)
    made.train([BATCH], rates)
    (before,) = made.predict([BATCH])
    made.native.layer1[0].act1 = nn.Sigmoid()
    new = made.native.conv1 = nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1, weight_init="ones")
    (after,) = made.predict([BATCH])
    assert not np.array_equal(after, before)
    assert np.array_equal(made.state()["conv1.weight"], np.ones((8, 3, 3, 3), np.float32))
    made.train([BATCH], rates)
    assert not np.array_equal(new.weight.asnumpy(), np.ones((8, 3, 3, 3), np.float32))
    assert np.array_equal(made.state()["conv1.weight"], new.weight.asnumpy())


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (nn.Dense(8, 3), r"native\.fc\.weight = \[3, 8\]: must have shape \[5, 8\]"),
        (nn.Identity(), r"native\.fc\.weight: is missing in a session's network"),
    ],
)
def test_a_session_refuses_another_network(new: Any, message: str) -> None:
    made = backend.Session(PLAN)
    made.load(initial_state(PLAN, 3))
    made.native.fc = new
    with pytest.raises(BackendError, match=message):
        list(made.predict([BATCH]))
    with pytest.raises(BackendError, match=message):
        made.state()
