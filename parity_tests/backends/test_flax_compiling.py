"""Flax's prediction takes XLA's option for elementwise ops where it is quicker and safe."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import CASES
from scripted import script

from resnet_spec.contract import Array, Batch
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import worn_state

jax = pytest.importorskip("jax")
nnx: Any = importlib.import_module("flax.nnx")
layers: Any = importlib.import_module("resnet_spec_flax.layers")
compiling: Any = importlib.import_module("resnet_spec_flax.compiling")
pytestmark = pytest.mark.xdist_group("flax_networks")

BASIC = ("imagenet_stem", "tiered_stem_squeeze", "zero_pad_both", "dilation", "one_pixel", "noise")


def on(monkeypatch: pytest.MonkeyPatch, flags: str = "avx2 avx512f") -> None:
    cpuinfo = SimpleNamespace(read_text=lambda **_: f"flags\t: fpu {flags}\n")
    monkeypatch.setattr(compiling, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(compiling, "has_option", lambda: True)


def session_of(name: str, **options: Any) -> Any:
    session = load_backend("flax").Session(CASES[name].plan, device="cpu", **options)
    session.load(worn_state(CASES[name].plan, 0))
    return session


def options_of(name: str, session: Any = None, platform: str = "cpu") -> Any:
    session = session or session_of(name)
    return compiling.compiler_options(CASES[name].plan, session.native, platform)


def logits_of(session: Any, name: str, value: float, n: int = 3) -> Array:
    given = CASES[name].plan.input
    shape = (n, given.height, given.width, given.channels)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    images[-1, shape[1] // 2, shape[2] // 2, 0] = value
    (logits,) = session.predict([Batch(images, np.zeros(n, np.int64), np.arange(n))])
    return logits


@pytest.mark.parametrize("name", BASIC)
def test_networks_of_3x3_convolutions_predict_by_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch)
    assert options_of(name) == (compiling.ELEMENTWISE, None)


@pytest.mark.parametrize("name", ["bottleneck", "groups", "pre_activation_bottleneck"])
def test_bottlenecks_do_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    assert options_of(name) == (None, None)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float64"])
def test_no_rounding_is_left_out(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    assert options_of("plain", session_of("plain", precision=precision)).predict is None


def test_accelerators_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    assert options_of("plain", platform="gpu") == (None, None)


def test_a_cpu_that_was_not_measured_goes_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(monkeypatch, "avx2")
    assert options_of("plain").predict is None
    monkeypatch.setattr(compiling, "_CPUINFO", tmp_path / "absent")
    assert options_of("plain").predict is None


def test_what_a_user_tells_xla_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    name = next(iter(compiling.ELEMENTWISE))
    monkeypatch.setenv("XLA_FLAGS", f"--xla_cpu_use_fusion_emitters=false --{name}=")
    assert options_of("plain").predict is None


@pytest.mark.parametrize("function", ["relu", "relu6"])
def test_a_layer_that_may_lose_nan_goes_without(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch)
    session = session_of("imagenet_stem")
    session.native.layer1[0].act1 = getattr(nnx, function)
    assert options_of("imagenet_stem", session).predict is None


def test_a_layer_of_one_s_own_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Largest(nnx.Module):
        def __call__(self, x: Any) -> Any:
            return nnx.max_pool(x, (3, 3), (2, 2), padding="SAME")

    on(monkeypatch)
    session = session_of("imagenet_stem")
    session.native.maxpool = Largest()
    assert options_of("imagenet_stem", session).predict is None


def test_functions_of_one_s_own_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    session = session_of("imagenet_stem")
    conv = session.native.layer1[0].conv1
    given = conv.conv_general_dilated
    conv.conv_general_dilated = lambda *args, **more: jax.nn.relu(given(*args, **more))
    assert options_of("imagenet_stem", session).predict is None


class Nameless:
    """Functions of C and some partial ones say of no module that they are its."""

    __module__: Any = None

    def __call__(self, *args: Any, **more: Any) -> Any:
        return jax.lax.conv_general_dilated(*args, **more)


def test_a_function_of_no_module_and_a_tap_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    session = session_of("imagenet_stem")
    session.native.layer1[0].conv1.conv_general_dilated = Nameless()
    assert options_of("imagenet_stem", session).predict is None
    session = session_of("imagenet_stem")
    act = session.native.layer1[0].act1
    session.native.layer1[0].act1 = layers.Tap(act, lambda x: jax.numpy.maximum(x, 0))
    assert options_of("imagenet_stem", session).predict is None


def test_an_xla_without_the_option_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "ELEMENTWISE", {"xla_cpu_of_another_year": "1"})
    assert not compiling.has_option.__wrapped__()


@pytest.mark.parametrize("name", BASIC)
def test_logits_are_those_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiling.has_option():
        pytest.skip("this XLA does not have the option")
    on(monkeypatch, "avx2")
    without = [logits_of(session_of(name), name, value) for value in (0.5, np.nan)]
    on(monkeypatch)
    session = session_of(name)
    assert options_of(name, session).predict is not None
    with_it = [logits_of(session, name, value) for value in (0.5, np.nan)]
    assert np.allclose(with_it[0], without[0], rtol=1e-5, atol=1e-6)
    assert np.isnan(with_it[1]).all(1).tolist() == [False, False, True]
    assert np.array_equal(np.isnan(with_it[1]), np.isnan(without[1]))


@pytest.mark.parametrize("name", BASIC)
def test_an_overflow_is_not_hidden_by_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiling.has_option():
        pytest.skip("this XLA does not have the option")
    on(monkeypatch)
    session = session_of(name)
    state = session.state()
    means = [n for n in state if n.endswith("running_mean")]
    state[means[-1]] = np.full_like(state[means[-1]], np.nan)
    session.load(state)
    assert np.isnan(logits_of(session, name, 0.5)).all()


def test_a_script_measures_it(capsys: pytest.CaptureFixture[str]) -> None:
    if not compiling.has_option():
        pytest.skip("this XLA does not have the option")
    measure = script("flax_elementwise").main
    assert measure(["resnet8_cifar:8", "--rounds", "1", "--batch", "1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert measure(["resnet20_cifar:8", "--rounds", "1", "--batch", "1"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| resnet20_cifar, 8 px | 1 | ") and row.endswith("| the option |")
