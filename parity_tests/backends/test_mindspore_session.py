"""The MindSpore session's state, streams and refusals."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore_networks import (
    IMAGES,
    RATES,
    batches,
    loaded,
    make_batch,
    make_plan,
    same_bits,
    session,
    worst,
)

from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.recipe import Recipe

pytestmark = pytest.mark.xdist_group("mindspore_networks")

backend: Any = load_backend("mindspore")
ms: Any = importlib.import_module("mindspore")


def test_a_run_that_is_interrupted_goes_on_to_the_bit() -> None:
    plan, made = make_plan("same"), loaded("same")
    made.train(iter(batches(plan)), RATES)
    whole = made.state()
    made.load(initial_state(plan, 3))
    made.train(iter(batches(plan)[:7]), RATES[:7])
    middle = made.state()
    assert {name.partition("/")[0] for name in middle} >= {"momentum", "ema"}
    made.train(iter(batches(plan)), RATES)  # Somewhere else altogether.
    made.load(middle)
    made.train(iter(batches(plan)[7:]), RATES[7:])
    assert same_bits(made.state(), whole)
    without = {k: v for k, v in middle.items() if not k.startswith("momentum/")}
    made.load(without)
    made.train(iter(batches(plan)[7:]), RATES[7:])
    assert not same_bits(made.state(), whole)


def test_one_graph_serves_all_rates_and_noises() -> None:
    plan, made = make_plan("v2"), loaded("v2")
    made.train(iter(batches(plan)[:3]), RATES[:3])
    assert len(made._step.compile_cache) == 1


def test_the_last_batch_is_filled_up() -> None:
    plan, made = make_plan("zero_pad"), loaded("zero_pad")
    whole, part = make_batch(plan), make_batch(plan, count=5)
    list(made.predict([whole]))
    graphs = len(made._lean._cell.compile_cache)
    full, few = made.predict([whole, part])
    assert (full.shape, few.shape) == ((IMAGES, 5), (5, 5))
    assert len(made._lean._cell.compile_cache) == graphs > 0
    (alone,) = made.predict([part])
    assert worst({"": few}, {"": alone}) < 1e-5


def test_modes_of_the_user_survive() -> None:
    plan, made = make_plan("zero_pad"), loaded("zero_pad")
    batch = make_batch(plan)
    for mode in (ms.PYNATIVE_MODE, ms.GRAPH_MODE):
        ms.set_context(mode=mode)
        try:
            made.train([batch], RATES[:1])
            list(made.predict([batch]))
            list(made.activations(batch))
            assert ms.get_context("mode") == mode
        finally:
            ms.set_context(mode=ms.PYNATIVE_MODE)
    made.native.bn1.set_train(True)
    made.gradients(batch)
    assert made.native.bn1.training and not made.native.training
    made.native.bn1.set_train(False)


def test_no_more_batches_are_taken_than_steps() -> None:
    plan, made = make_plan("zero_pad"), loaded("zero_pad")
    source = iter(batches(plan))
    made.train(source, RATES[:2])
    assert len(list(source)) == len(RATES) - 2
    empty = made.train(iter([]), RATES[:0])
    assert (len(empty.loss), len(empty.correct), len(empty.count)) == (0, 0, 0)
    with pytest.raises(BackendError, match="batches = 1: must hold one batch for each of 3 rates"):
        made.train(iter(batches(plan)[:1]), RATES[:3])


def test_loading_lists_every_problem_and_changes_nothing() -> None:
    made = loaded("zero_pad")
    before = made.state()
    broken = dict(before)
    del broken["conv1.weight"]
    broken["extra"] = broken["bn1.bias"]
    broken["fc.bias"] = np.zeros(7, np.float32)
    with pytest.raises(CheckpointError) as error:
        made.load(broken)
    assert error.value.problems == (
        "conv1.weight: is missing",
        "extra: is unexpected",
        "fc.bias = [7]: must have shape [5]",
    )
    assert same_bits(made.state(), before)


def test_float16_skips_a_step_that_overflows() -> None:
    plan = make_plan("zero_pad")
    recipe = Recipe(steps=2, batch=IMAGES)
    made = backend.Session(plan, recipe, precision="float16")
    made.load(initial_state(plan, 3))
    assert made.info["math"] == "mixed float16"
    start = made.state()
    assert (start["loss_scale/scale"], start["loss_scale/good_steps"]) == (65536.0, 0.0)
    made.train([make_batch(plan)], RATES[:1])
    moved = made.state()
    assert (moved["loss_scale/scale"], moved["loss_scale/good_steps"]) == (65536.0, 1.0)
    assert not np.array_equal(moved["fc.weight"], start["fc.weight"])
    made.load({**moved, "loss_scale/scale": np.array(2.0**60, np.float32)})
    made.train([make_batch(plan)], RATES[:1])
    after = made.state()
    assert (after["loss_scale/scale"], after["loss_scale/good_steps"]) == (2.0**59, 0.0)
    for name in plan.trainable:
        assert np.array_equal(after[name], moved[name]), name
        assert np.array_equal(after[f"momentum/{name}"], moved[f"momentum/{name}"]), name


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"precision": "float64"}, "precision = float64: MindSpore has no float64 convolution"),
        ({"precision": "bfloat16"}, "precision = bfloat16: MindSpore has no bfloat16 convolution"),
        ({"precision": "float23"}, "precision = float23: is not one of MindSpore's"),
        ({"device": "tpu"}, "device = tpu: is not one of MindSpore's"),
        ({"device": "Ascend:1"}, "device = Ascend:1: cannot be used by MindSpore here"),
    ],
)
def test_what_cannot_be_had_is_one_line(choice: dict[str, Any], message: str, capfd: Any) -> None:
    if ms.get_context("device_target") != "CPU":
        pytest.skip("accelerators have more")
    with pytest.raises(BackendError) as error:
        backend.Session(make_plan("zero_pad"), **choice)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_batches_that_cannot_be_trained_on() -> None:
    plan = make_plan("v2")
    made = session("v2")
    with pytest.raises(BackendError, match=r"batch\.noise: lacks .*head\.drop"):
        made.gradients(replace(make_batch(plan), noise={}))
    with pytest.raises(BackendError, match="batch = 10: must be a multiple of accumulate = 3"):
        session("zero_pad").train([make_batch(make_plan("zero_pad"), count=10)], RATES[:1])
    with pytest.raises(BackendError, match="recipe = None"):
        backend.Session(plan).train([make_batch(plan)], RATES[:1])


def test_importing_and_training_say_and_leave_nothing(tmp_path: Path) -> None:
    code = """
from resnet_spec import session
made = session("resnet20_cifar", "mindspore", input_size=8)
import mindspore
print(mindspore.get_context("mode") == mindspore.PYNATIVE_MODE, mindspore.Tensor([1.0]) * 2)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True [2.]\n"
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
