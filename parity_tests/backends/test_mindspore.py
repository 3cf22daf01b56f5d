"""What is particular to the MindSpore backend; the parity suite compares it with the reference.

One small network for each group of options, since every graph takes a second or more to compile.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch, State
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

pytest.importorskip("mindspore")
backend: Any = load_backend("mindspore")
reference: Any = load_backend("numpy")
ms: Any = importlib.import_module("mindspore")
modules: Any = importlib.import_module("resnet_spec_mindspore.modules")

IMAGES = 12
STAGES = [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}]
NETWORKS: dict[str, dict[str, Any]] = {
    "zero_pad": {"shortcut": "zero_pad", "zero_pad_at": "both", "norm": {"variance": "biased"}},
    "same": {
        "padding": "same",
        "stem": {"widths": [8], "kernel": 3, "stride": 2, "pool": True},
        "squeeze": 0.25,
    },
    "v2": {
        "order": "pre_activation",
        "block": "bottleneck",
        "groups": 2,
        "stages": [{"width": 8, "blocks": 1}, {"width": 8, "blocks": 1, "dilation": 2}],
        "downsample": "avg_pool",
        "stochastic_depth": 0.5,
        "dropout": 0.5,
    },
}
RECIPES: dict[str, dict[str, Any]] = {
    "zero_pad": {
        "accumulate": 3,
        "optimizer": {"nesterov": True, "weight_decay": 0.01, "decay_norms": False},
    },
    "same": {"ema": {"decay": 0.9}, "label_smoothing": 0.1},
    "v2": {"optimizer": {"momentum": 0.0, "weight_decay": 0.01, "decay_biases": False}},
}
SIZES = {"zero_pad": (7, 9), "same": (16, 27), "v2": (9, 9)}
RATES = np.linspace(0.1, 0.01, 20)

# Relative to the greatest value of a tensor; measured: 4.6e-6 over 20 steps (float32).
TOLERANCE = 5e-5


def make_plan(name: str, **fields: Any) -> Plan:
    small: dict[str, Any] = {
        "name": name,
        "classes": 5,
        "block": "basic",
        "stem": {"widths": [8], "kernel": 3, "stride": 1, "pool": False},
        "stages": STAGES,
        "input": {"mean": [0.5] * 3, "std": [0.25] * 3},
    }
    return lower(Spec(**(small | NETWORKS[name] | fields)), SIZES[name])


def make_recipe(name: str) -> Recipe:
    return Recipe(steps=len(RATES), batch=IMAGES, **RECIPES[name])


def make_batch(plan: Plan, seed: int = 0, count: int = IMAGES) -> Batch:
    rng = np.random.default_rng(seed)
    noise: dict[str, Any] = {}
    for op in plan.noises:
        shape = (count, op.in_shape[0]) if type(op).__name__ == "Dropout" else (count,)
        noise[op.name] = (rng.random(shape) < 0.5).astype(np.float32) * 2.0
    shape = (count, plan.input.height, plan.input.width, plan.input.channels)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    return Batch(images, rng.integers(0, plan.classes, count), np.arange(count), noise=noise)


def batches(plan: Plan) -> list[Batch]:
    return [make_batch(plan, seed) for seed in range(len(RATES))]


@cache
def session(name: str) -> Any:
    """Return one session per network, so that its graphs are compiled once."""
    return backend.Session(make_plan(name), make_recipe(name))


def loaded(name: str) -> Any:
    made = session(name)
    made.load(initial_state(make_plan(name), 3))
    return made


def worst(got: State, expected: State) -> float:
    assert got.keys() == expected.keys()
    return max(
        float(np.abs(got[name] - array).max() / max(np.abs(array).max(), 1e-12))
        for name, array in expected.items()
    )


def same_bits(one: State, two: State) -> bool:
    assert one.keys() == two.keys()
    return all(one[name].tobytes() == two[name].tobytes() for name in one)


# --- Against the reference ------------------------------------------------------------------------


@cache
def expected_run(name: str) -> tuple[Any, State]:
    plan = make_plan(name)
    made = reference.Session(plan, make_recipe(name), precision="float64")
    made.load(initial_state(plan, 3))
    return made.train(iter(batches(plan)), RATES), made.state()


@pytest.mark.parametrize("name", NETWORKS)
def test_twenty_steps(name: str) -> None:
    plan, made = make_plan(name), loaded(name)
    log, (expected, state) = made.train(iter(batches(plan)), RATES), expected_run(name)
    assert np.abs(log.loss - expected.loss).max() < TOLERANCE
    assert log.correct.tolist() == expected.correct.tolist()
    assert log.count.tolist() == [IMAGES] * len(RATES)
    assert worst(made.state(), state) < TOLERANCE


@pytest.mark.parametrize("name", ["zero_pad", "v2"])
def test_twenty_steps_can_fail(name: str) -> None:
    """A rate, an image, or a weight that is off by little is seen."""
    plan, (expected, _) = make_plan(name), expected_run(name)
    start = initial_state(plan, 3)

    def differs(state: State, first: Batch, rates: Any) -> bool:
        made = session(name)
        made.load(state)
        log = made.train(iter([first, *batches(plan)[1:]]), rates)
        return bool(np.abs(log.loss - expected.loss).max() > 2 * TOLERANCE)

    first = batches(plan)[0]
    flipped = replace(first, images=first.images[:, :, ::-1])
    perturbed = {k: v * (1.01 if k.endswith("conv2.weight") else 1.0) for k, v in start.items()}
    assert differs(start, first, RATES * 1.01)
    assert differs(start, flipped, RATES)
    assert differs({k: v.astype(np.float32) for k, v in perturbed.items()}, first, RATES)
    assert not differs(start, first, RATES)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_activations_and_logits(name: str) -> None:
    plan, made = make_plan(name), loaded(name)
    ref = reference.Session(plan, make_recipe(name), precision="float64")
    ref.load(made.state())
    before, batch = made.state(), make_batch(plan)
    loss, gradients = made.gradients(batch)
    expected_loss, expected = ref.gradients(batch)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert list(gradients) == list(plan.trainable)
    assert worst(gradients, expected) < TOLERANCE
    # ops.pad's gradient would be wrong from here on.
    assert same_bits(made.gradients(batch)[1], gradients)
    for train in (False, True):
        activations = dict(made.activations(batch, train))
        assert tuple(activations) == plan.observed
        assert worst(activations, dict(ref.activations(batch, train))) < TOLERANCE
    (logits,), (expected_logits,) = made.predict([batch]), ref.predict([batch])
    assert worst({"": logits}, {"": expected_logits}) < TOLERANCE
    assert same_bits(made.state(), before)


# --- The native network ---------------------------------------------------------------------------


def test_the_native_network_is_what_an_expert_would_write() -> None:
    plan = make_plan("same")
    network = backend.build(plan, initial_state(plan, 3))
    cells = dict(network.cells_and_names())
    assert set(plan.observed) <= set(cells)
    norm = cells["layer1.0.bn1"]
    assert type(norm) in (ms.nn.BatchNorm2d, modules.BatchNorm2d)
    assert norm.moving_variance.name == "layer1.0.bn1.running_var"
    assert type(cells["conv1"]) is ms.nn.Conv2d and cells["conv1"].pad_mode == "pad"
    assert type(cells["fc"]) is ms.nn.Dense
    assert {p.name for p in network.trainable_params()} == set(plan.trainable)
    assert network.parameters_dict().keys() == {tensor.name for tensor in plan.tensors}
    assert all(p.dtype == ms.float32 for p in network.get_parameters())


def test_without_a_state_the_network_has_weights_of_its_own() -> None:
    network = backend.build(make_plan("zero_pad"))
    assert np.abs(network.conv1.weight.asnumpy()).max() > 0


@pytest.mark.parametrize("training", [False, True])
def test_graph_and_pynative_mode_agree(training: bool) -> None:
    plan = make_plan("zero_pad")
    images = ms.Tensor(np.random.default_rng(0).normal(size=(4, 3, 7, 9)).astype(np.float32))
    results: list[State] = []
    for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE):
        network = backend.build(plan, initial_state(plan, 3)).set_train(training)
        before = ms.get_context("mode")
        ms.set_context(mode=mode)
        try:
            logits = network(images).asnumpy()
        finally:
            ms.set_context(mode=before)
        after = {p.name: p.asnumpy() for p in network.get_parameters()}
        results.append({"logits": logits, **after})
    assert same_bits(*results)


def test_used_alone_it_draws_its_own_noise() -> None:
    network = backend.build(make_plan("v2"))
    images = ms.Tensor(np.ones((4, 3, 9, 9), np.float32))
    network.set_train()
    one, two = network(images).asnumpy(), network(images).asnumpy()
    assert not np.array_equal(one, two)
    network.set_train(False)
    one, two = network(images).asnumpy(), network(images).asnumpy()
    assert np.array_equal(one, two)


@pytest.mark.parametrize("variance", ["unbiased", "biased"])
@pytest.mark.parametrize("mode", ["graph", "pynative"])
def test_the_running_variance_is_corrected(variance: str, mode: str) -> None:
    """Whatever the kernel takes, `BatchNorm2d` multiplies it by n/(n-1), or divides it by that.

    So it is right where it differs from the kernel, and elsewhere `_norm` does not use it.
    """
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 4, 3, 3)).astype(np.float32)
    norm = modules.BatchNorm2d(num_features=4, momentum=0.9, decay=0.9, variance=variance)
    norm.set_train()
    run = ms.jit(norm) if mode == "graph" else norm
    for _ in range(2):
        run(ms.Tensor(x))
    n = x.size // 4
    unbiased = x.astype(np.float64).var((0, 2, 3)) * n / (n - 1)
    own = unbiased if modules._kernel_variance("CPU") == "unbiased" else unbiased * (n - 1) / n
    corrected = own * (n / (n - 1) if variance == "unbiased" else (n - 1) / n)
    got = norm.moving_variance.asnumpy()
    assert np.abs(got / (0.81 + 0.19 * corrected) - 1).max() < 1e-6
    assert np.abs(got / (0.81 + 0.19 * own) - 1).min() > 1e-3
    mean = 0.19 * x.astype(np.float64).mean((0, 2, 3))
    assert np.abs(norm.moving_mean.asnumpy() / mean - 1).max() < 1e-6


@pytest.mark.parametrize("kernel", ["unbiased", "biased"])
@pytest.mark.parametrize("variance", ["unbiased", "biased"])
def test_only_the_other_convention_is_corrected(
    kernel: str, variance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "_kernel_variance", lambda target: kernel)
    norm = backend.build(make_plan("zero_pad", norm={"variance": variance})).bn1
    plain = kernel == variance
    assert type(norm) is (ms.nn.BatchNorm2d if plain else modules.BatchNorm2d)
    assert plain or norm.is_unbiased == (variance == "unbiased")


def test_the_sense_of_momentum_is_read_from_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    assert modules._momentum(0.9) == {"momentum": 0.9}

    def new(self: Any, num_features: int, momentum: float, track_running_stats: bool) -> None: ...

    monkeypatch.setattr(inspect, "signature", lambda _: inspect.Signature.from_callable(new))
    assert modules._momentum(0.9) == {"momentum": 0.1}


# --- The session ----------------------------------------------------------------------------------


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
    graphs = len(made._logits.compile_cache)
    full, few = made.predict([whole, part])
    assert (full.shape, few.shape) == ((IMAGES, 5), (5, 5))
    assert len(made._logits.compile_cache) == graphs
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
