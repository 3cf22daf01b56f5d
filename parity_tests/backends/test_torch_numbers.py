"""The PyTorch backend against a ResNet written by hand, and against the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_by_hand import (
    CASES,
    ONE_STEP,
    RATES,
    RECIPE,
    assert_close,
    batch_of,
    by_hand,
    check,
    plan_of,
    session_of,
    state_of,
)

from resnet_spec.loader import load_backend
from resnet_spec.recipe import Recipe

torch = pytest.importorskip("torch")
backend: Any = load_backend("torch")
reference: Any = load_backend("numpy")


@pytest.mark.parametrize("case", CASES)
def test_float64_agrees_with_the_hand_written_network(case):
    session = session_of(plan_of(case), ONE_STEP, precision="float64")
    check(case, session, 1e-13, 1e-11)


@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_with_the_hand_written_network(case):
    check(case, session_of(plan_of(case), ONE_STEP), 1e-5, 1e-4)


def _perturb_weight(native: Any) -> None:
    with torch.no_grad():
        native.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-6


def _raise_eps(native: Any) -> None:
    native.bn1.eps = 1.001e-5


def _shift_pad(native: Any) -> None:
    native.conv1.padding = (2, 3)


def _shift_pool(native: Any) -> None:
    edges = torch.nn.ConstantPad2d((0, 2, 0, 2), -torch.inf)
    native.maxpool = torch.nn.Sequential(edges, torch.nn.MaxPool2d(3, 2))


def _double_decay(native: Any) -> None:
    native.layer2[0].bn2.momentum = 0.2


def _swap_variance(native: Any) -> None:
    native.bn1.__class__ = type(backend.build(plan_of("bottleneck")).bn1)


FAULTS = [
    _perturb_weight,
    _raise_eps,
    _shift_pad,
    _shift_pool,
    _double_decay,
    _swap_variance,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_planted_faults_are_found(plant: Callable[[Any], None]):
    session = session_of(plan_of(), ONE_STEP, precision="float64")
    plant(session.native)
    with pytest.raises(AssertionError, match=r" > 1e-1[13]"):
        check("basic", session, 1e-13, 1e-11)


@pytest.mark.parametrize("case", CASES)
def test_float64_agrees_with_the_reference(case):
    plan = plan_of(case)
    batches = [batch_of(plan, seed) for seed in range(20)]
    sessions = [
        b.Session(plan, RECIPE, device="cpu", precision="float64") for b in (backend, reference)
    ]
    for session in sessions:
        session.load(state_of(plan))
    for train in (False, True):
        mine, theirs = (s.activations(batches[0], train=train) for s in sessions)
        for (name, got), (same, expected) in zip(mine, theirs, strict=True):
            assert name == same
            assert_close(got, expected, 1e-13, name)
    (loss, mine), (expected_loss, theirs) = (s.gradients(batches[0]) for s in sessions)
    assert_close(loss, expected_loss, 1e-13, "loss")
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        assert_close(mine[name], array, 1e-11, f"gradient of {name}")
    logs = [session.train(batches, RATES) for session in sessions]
    assert_close(logs[0].loss, logs[1].loss, 1e-10, "losses")
    assert np.array_equal(logs[0].correct, logs[1].correct)
    mine, theirs = (session.state() for session in sessions)
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        assert_close(mine[name], array, 1e-10, name)


def test_correct_images_are_counted():
    plan = plan_of()
    batch = batch_of(plan)
    session = session_of(plan, Recipe(steps=1, batch=8), precision="float64")
    logits, *_ = by_hand("basic", state_of(plan), batch, train=True)
    log = session.train([batch], np.array([0.1]))
    assert log.correct.tolist() == [int((logits.argmax(1).numpy() == batch.labels).sum())]
    assert log.count.tolist() == [8]
    assert (log.loss.dtype, log.correct.dtype) == (np.float64, np.int64)


def test_fast_math_is_named_where_it_can_be_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_spec_torch import devices

    monkeypatch.setattr(devices, "_float32_settings", lambda cuda: {"products": "tf32"})
    on = {name: torch.device(name) for name in ("cpu", "meta")}
    assert devices.math_of(on["cpu"], "float32") == "products tf32"
    assert devices.math_of(on["cpu"], "float64") == "strict"
    assert devices.math_of(on["meta"], "float32") == "strict"
