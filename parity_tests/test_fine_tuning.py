"""Frozen parts and the classifier's own rate: every backend trains what the plan says, no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from changes import change_ops
from patches import Patch, PatchedSide

from resnet_spec.contract import Batch, StepLog
from resnet_spec.describing.spec import Spec
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.ops import Linear, Norm, Op, tensor_fields
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise import localise
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.plan import Plan
from resnet_spec.planning.fine_tuning import fine_tuned
from resnet_spec.planning.lowering import lower

LEVELS = ("names", "gradients", "statistics", "update", "trajectory")
DECAYED = {"momentum": 0.9, "weight_decay": 0.02, "decay_norms": False}
SPARED = {**DECAYED, "no_decay": ["layer2.0.conv2.*", "fc.bias"]}
# `stages=1` has all of it: a frozen part, a trained part with norms, an average, a rate for each
# part, and a kernel that is not decayed.
SETTINGS: dict[str, dict[str, Any]] = {
    "backbone": {"freeze": "backbone"},
    "stages=1": {
        "freeze": "stages=1",
        "head_rate": 10.0,
        "layer_decay": 0.5,
        "ema": {"decay": 0.9},
        "optimizer": SPARED,
    },
    "head_rate": {"head_rate": 10.0},
    "layer_decay": {"layer_decay": 0.3},
}
_CHEAP = ("numpy", "torch")  # The others compile for several seconds for every plan.
_UNFROZEN = ("head_rate", "layer_decay")


def _marks(backend: str, setting: str) -> list[pytest.MarkDecorator]:
    group = pytest.mark.xdist_group(f"fine_tuning_{backend}")
    is_quick = backend in _CHEAP or setting == "stages=1"
    return [group] if is_quick else [group, pytest.mark.thorough]


CELLS = [
    pytest.param(backend, setting, marks=_marks(backend, setting))
    for backend in installed_backends()
    for setting in SETTINGS
    if backend in _CHEAP or setting not in _UNFROZEN
]


@cache
def plan() -> Plan:
    spec = Spec(
        name="tiny",
        classes=5,
        block="basic",
        stem={"widths": [8], "kernel": 3, "stride": 1, "pool": False},
        stages=[{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}],
        input={"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3},
    )
    return lower(spec)


@cache
def setup(setting: str) -> Setup:
    recipe = make_recipe(3, **SETTINGS[setting])
    return make_setup(fine_tuned(plan(), recipe), recipe)


@cache
def floors(setting: str) -> Floors:
    return Floors(reference_of(setup(setting)), "float32")


@cache
def side(backend: str, setting: str) -> Side:
    return Side(backend, setup(setting))


@pytest.mark.parametrize(("backend", "setting"), CELLS)
def test_training_agrees_with_the_reference(backend: str, setting: str) -> None:
    got = side(backend, setting)
    assert set(got.gradients[1]) == set(setup(setting).plan.trainable)
    rows = [judge(level, got, floors(setting)) for level in LEVELS]
    assert not [(row.level, row.worst) for row in rows if row.is_wrong]


@pytest.mark.parametrize(("backend", "setting"), CELLS)
def test_what_is_frozen_keeps_its_bits(backend: str, setting: str) -> None:
    before, after = setup(setting).state, side(backend, setting).run[1]
    tensors = setup(setting).plan.tensors
    assert any(tensor.frozen for tensor in tensors) == (setting not in _UNFROZEN)
    for tensor in tensors:
        for slot in ("", "ema/") if "ema/fc.bias" in after else ("",):
            is_kept = after[slot + tensor.name].tobytes() == before[tensor.name].tobytes()
            assert is_kept == tensor.frozen, slot + tensor.name
        assert (f"momentum/{tensor.name}" in after) == tensor.trainable


@pytest.mark.parametrize("setting", ["backbone", "stages=1"])
def test_training_mode_of_what_is_frozen_is_evaluation_mode(setting: str) -> None:
    frozen = [op.name for op in setup(setting).plan.ops if isinstance(op, Norm) and op.frozen]
    got = side("numpy", setting)
    assert "bn1" in frozen and ("layer2.0.bn1" in frozen) == (setting == "backbone")
    for name in frozen:
        assert np.array_equal(got.activations[name], got.evaluated[name]), name


# --- Faults ---------------------------------------------------------------------------------------


def _batch_statistics(op: Op) -> Op:
    """Thaw the statistics of a frozen norm, and with them its way of normalising."""
    if not isinstance(op, Norm) or not op.frozen:
        return op
    mean, var = (replace(tensor, frozen=False) for tensor in (op.running_mean, op.running_var))
    return replace(op, running_mean=mean, running_var=var)


def _without_factor(op: Op) -> Op:
    if not isinstance(op, Linear):
        return op
    return replace(op, weight=replace(op.weight, rate=1.0), bias=replace(op.bias, rate=1.0))


class _Meddling:
    """A session with something done to its state after every step."""

    def __init__(self, inner: Any, meddle: Callable[[Any, float], None]) -> None:
        self._inner, self._meddle = inner, meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def train(self, batches: Iterable[Batch], rates: np.ndarray) -> StepLog:
        logs: list[StepLog] = []
        for rate, batch in zip(rates, batches, strict=False):
            logs.append(self._inner.train([batch], np.array([rate])))
            state = self._inner.state()
            self._meddle(state, rate)
            self._inner.load(state)
        fields = ("loss", "correct", "count")
        return StepLog(*(np.concatenate([getattr(log, key) for log in logs]) for key in fields))


def _meddling(meddle: Callable[[Any, float], None]) -> Patch:
    return lambda backend, session: _Meddling(session, meddle)


def _decay_frozen(state: Any, rate: float) -> None:
    state["conv1.weight"] *= np.float32(1.0 - 0.02 * rate)


def _move_statistics(state: Any, rate: float) -> None:
    state["layer1.0.bn2.running_mean"] *= np.float32(0.9)


# name -> (setting, change of the plan, patch of the session, the level that must show it)
FAULTS: dict[str, tuple[str, Callable[[Op], Op] | None, Patch | None, str]] = {
    "frozen norm takes batch statistics": ("stages=1", _batch_statistics, None, "gradients"),
    "frozen norm takes and keeps them": ("backbone", _batch_statistics, None, "statistics"),
    "frozen norm moves its statistics": (
        "backbone",
        None,
        _meddling(_move_statistics),
        "statistics",
    ),
    "factor ignored": ("head_rate", _without_factor, None, "update"),
    "factor ignored beside frozen": ("stages=1", _without_factor, None, "update"),
    "decay of a frozen weight": ("stages=1", None, _meddling(_decay_frozen), "update"),
}


@pytest.mark.parametrize("backend", [name for name in installed_backends() if name in _CHEAP])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(backend: str, fault: str) -> None:
    setting, change, patch, level = FAULTS[fault]
    given = setup(setting)
    if change is not None:
        given = change_ops(given, change)
    faulty = Side(backend, given) if patch is None else PatchedSide(backend, given, patch)
    assert judge(level, faulty, floors(setting)).verdict == "different"
    assert not judge(level, side(backend, setting), floors(setting)).is_wrong


@pytest.mark.parametrize("backend", [name for name in installed_backends() if name in _CHEAP])
def test_decay_of_what_is_spared_is_seen(backend: str) -> None:
    given = setup("stages=1")
    recipe = given.recipe.model_copy(update={"optimizer": make_recipe(optimizer=DECAYED).optimizer})
    faulty = Side(backend, replace(given, recipe=recipe))
    row = judge("update", faulty, floors("stages=1"))
    wrong = {item.name for item in row.items if item.verdict == "different"}
    assert "layer2.0.conv2.weight" in {name.rpartition("/")[2] for name in wrong}, wrong


def test_ignored_factors_of_layers_are_named() -> None:
    def without(op: Op) -> Op:
        held = {name: getattr(op, name) for name in tensor_fields(type(op))}
        return replace(op, **{n: it and replace(it, rate=1.0) for n, it in held.items()})

    faulty = Side("numpy", change_ops(setup("layer_decay"), without))
    found = localise(faulty, floors("layer_decay"), ["update"])
    assert found[0].node == "conv1.weight" and found[0].cause == "learning rate"
    assert "the factors of layer_decay 0.3 are left out" in found[0].detail


def test_an_ignored_factor_is_named() -> None:
    faulty = Side("numpy", change_ops(setup("head_rate"), _without_factor))
    found = localise(faulty, floors("head_rate"), ["update"])
    assert found[0].node == "fc.weight" and found[0].cause == "learning rate"
    assert "factor 10 is left out" in found[0].detail


# --- Native modules -------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["backbone", "stages=1"])
def test_a_torch_module_is_frozen_without_a_session(setting: str) -> None:
    given = setup(setting).plan
    build: Any = load_backend("torch").build
    network = build(given).train()
    trained = {name for name, tensor in network.named_parameters() if tensor.requires_grad}
    assert trained == set(given.trainable)
    for op in given.ops:
        if isinstance(op, Norm):
            assert network.get_submodule(op.name).training != op.frozen
    assert list(network.state_dict()) == list(build(plan()).state_dict())


@pytest.mark.parametrize("setting", ["backbone", "stages=1"])
def test_a_mindspore_cell_is_frozen_without_a_session(setting: str) -> None:
    if "mindspore" not in installed_backends():
        pytest.skip("mindspore is not installed")
    given = setup(setting).plan
    build: Any = load_backend("mindspore").build
    assert len(build(given).trainable_params()) == len(given.trainable)
