"""The native network: MindSpore's own cells, alone and in both of its modes."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pytest
from mindspore_networks import make_plan, same_bits

from resnet_spec.contract import State
from resnet_spec.loader import load_backend
from resnet_spec.planning.initial_weights import initial_state

pytestmark = pytest.mark.xdist_group("mindspore_networks")

backend: Any = load_backend("mindspore")
ms: Any = importlib.import_module("mindspore")
modules: Any = importlib.import_module("resnet_spec_mindspore.modules")


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
