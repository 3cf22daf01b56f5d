"""Devices, precisions and compilation."""

from __future__ import annotations

import importlib
import shutil
from typing import Any

import numpy as np
import pytest
from torch_by_hand import (
    CIFAR_STEM,
    CLASSES,
    RATES,
    RECIPE,
    assert_close,
    batch_of,
    by_hand,
    plan_of,
    session_of,
    state_of,
)

from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend
from resnet_spec.planning.lowering import lower

torch = pytest.importorskip("torch")
backend: Any = load_backend("torch")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precisions_run_and_say_so(precision):
    plan = plan_of()
    session = session_of(plan, RECIPE, precision=precision)
    batch = batch_of(plan)
    assert session.info["precision"] == precision
    assert session.info["math"] == f"autocast {precision}"
    exact, gradients = by_hand("basic", state_of(plan), batch, True, RECIPE.label_smoothing)[1:3]
    loss, got = session.gradients(batch)
    assert 1e-6 < abs(loss - float(exact)) < 0.02
    assert_close(got["fc.weight"], gradients["fc.weight"], 0.05, "gradient")
    session.train([batch] * 3, RATES[:3])
    assert all(a.dtype == np.float32 for a in session.state().values())


def test_info_names_what_is_in_force():
    info = session_of(plan_of(), RECIPE).info
    assert info["framework"] == "torch" and info["version"] == torch.__version__
    assert info["device"] == "cpu" and info["precision"] == "float32" and info["math"] == "strict"
    devices = importlib.import_module(f"{backend.__name__}.devices")
    with torch.backends.cudnn.flags(allow_tf32=True):
        math = devices.math_of(torch.device("cuda"), "float32")
    assert "convolutions tf32" in math
    torch.set_float32_matmul_precision("medium")
    try:
        assert session_of(plan_of()).info["math"] == "products bf16"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"device": "tpu9"}, r"device = tpu9: cannot be used by torch here; choose from auto.*cpu"),
        ({"device": "meta"}, r"device = meta: cannot be used"),
        ({"precision": "flaot32"}, r"precision = flaot32: .*; did you mean 'float32'\?"),
    ],
)
def test_bad_devices_and_precisions_give_one_line(arguments, line):
    with pytest.raises(BackendError, match=line):
        backend.Session(plan_of(), **arguments)


def test_the_best_device_is_taken(monkeypatch):
    devices = importlib.import_module(f"{backend.__name__}.devices")
    there: set[str] = set()
    monkeypatch.setattr(devices, "_is_available", lambda kind: kind in there)
    for kind in ("cpu", "mps", "cuda"):
        there.add(kind)
        assert devices.find_device("auto").type == kind


@pytest.mark.parametrize("name", ["hpu", "privateuseone", "cuda:99", "", "nosuch:0", "meta"])
def test_a_device_that_is_not_there_is_one_line(name):
    with pytest.raises(BackendError) as error:
        backend.Session(plan_of(), device=name)
    assert str(error.value).startswith(f"device = {name}: cannot be used by torch here; choose")


def test_a_device_that_is_there_and_broken_is_one_line(monkeypatch):
    devices = importlib.import_module(f"{backend.__name__}.devices")
    monkeypatch.setattr(devices, "find_device", lambda name: torch.device("cuda", 99))
    with pytest.raises(BackendError) as error:
        backend.Session(plan_of())
    assert str(error.value).startswith("device = cuda:99: cannot be started by torch here (")
    assert "\n" not in str(error.value) and str(error.value).endswith("; use device = cpu")


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it imports dynamo.
def test_compile_trains_the_same_function():
    stages = [{"width": 4, "blocks": 1}]
    spec = Spec(
        stages=stages,
        classes=CLASSES,
        input={"size": 8},
        stochastic_depth=0.5,
        dropout=0.5,
        block="basic",
        stem={**CIFAR_STEM, "widths": [4]},
    )
    plan = lower(spec)
    plain, compiled = (session_of(plan, RECIPE, compile=flag) for flag in (False, True))
    # Two steps with different noise: a noise that was compiled in as a constant would show.
    batches = [batch_of(plan, seed) for seed in range(2)]
    losses = [s.train(batches, RATES[:2]).loss for s in (plain, compiled)]
    assert compiled.info["compile"] == "true"
    assert_close(losses[1], losses[0], 1e-5, "losses")
    for name, array in plain.state().items():
        assert_close(compiled.state()[name], array, 1e-4, name)
