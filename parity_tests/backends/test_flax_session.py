"""The Flax session's streams, refusals and precisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flax_networks import (
    CLASSES,
    COUNT,
    RATES,
    RECIPE,
    SMALL_STEM,
    STAGES,
    assert_close,
    batch_of,
    batches_of,
    plan_of,
    reference_of,
    session_of,
    state_of,
)

from resnet_spec.contract import Batch
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend
from resnet_spec.planning.lowering import lower

jax = pytest.importorskip("jax")

pytestmark = pytest.mark.xdist_group("flax_networks")
jnp = jax.numpy
backend: Any = load_backend("flax")


def test_streams_and_compiles_once() -> None:
    plan = plan_of()
    session = backend.Session(plan, RECIPE, device="cpu")
    session.load(state_of(plan))
    taken: list[int] = []

    def source(count: int) -> Iterator[Batch]:
        for i in range(100):
            taken.append(i)
            yield batch_of(plan, i, count)

    session.train(source(RECIPE.batch), RATES[:3])
    assert taken == [0, 1, 2]
    session.train(batches_of(plan)[:2], RATES[3:5])
    taken.clear()
    assert next(session.predict(source(COUNT))).shape == (COUNT, CLASSES)
    assert taken == [0]
    sizes = [4, 3, 1]
    batches = [batch_of(plan, i, n) for i, n in enumerate(sizes)]
    outputs = list(session.predict(batches))
    assert [len(y) for y in outputs] == sizes
    whole = Batch(
        np.concatenate([b.images for b in batches[1:]]), np.zeros(4, np.int64), np.arange(4)
    )
    assert_close(next(session.predict([whole])), np.concatenate(outputs[1:]), 1e-6, "logits")
    (program,) = session._programs
    functions = (program.predict, program.backward, program._update)
    assert [function._cache_size() for function in functions] == [1, 1, 1]


def test_wrong_calls_give_one_line() -> None:
    plan, batch = plan_of("bottleneck"), batch_of(plan_of("bottleneck"))
    session = session_of("bottleneck")
    two = batches_of(plan)[:1]
    with pytest.raises(BackendError, match="batches = 1: must hold one batch for each of 2 rates"):
        session.train(two, RATES[:2])
    assert session.train([], RATES[:0]).loss.shape == (0,)
    with pytest.raises(BackendError, match="batch = 3: must be a multiple of accumulate = 2"):
        session.train([batch_of(plan, count=3)], RATES[:1])
    with pytest.raises(BackendError, match="recipe = None"):
        backend.Session(plan).train([batch], RATES[:1])
    with pytest.raises(BackendError, match=r"batch\.noise: lacks layer1\.1\.drop_path, .*drop"):
        session.gradients(replace(batch, noise={}))
    tiny = lower(Spec(stages=STAGES, classes=CLASSES, block="basic", stem=SMALL_STEM), 2)
    with pytest.raises(BackendError, match=r"batch = 1: leaves layer2\.0\.bn1 one value"):
        backend.Session(tiny).gradients(batch_of(tiny, count=1))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"device": "tpu9"}, r"device = tpu9: cannot be used by jax here; choose from auto.*cpu"),
        ({"device": "cpu:7"}, r"device = cpu:7: cannot be used"),
        ({"device": "cpu:x"}, r"device = cpu:x: cannot be used"),
        ({"precision": "flaot32"}, r"precision = flaot32: .*; did you mean 'float32'\?"),
    ],
)
def test_bad_devices_and_precisions_give_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(BackendError, match=line):
        backend.Session(plan_of(), **arguments)


def test_images_may_be_normalised_already() -> None:
    plan = plan_of("bottleneck")
    session, batch = session_of("bottleneck"), batch_of(plan)
    expected = next(session.predict([batch]))
    normalised = batch.images * np.array(plan.input.scale) + np.array(plan.input.shift)
    mirrored = np.ascontiguousarray(batch.images[:, :, ::-1])[:, :, ::-1]
    for images in (normalised, normalised.astype(np.float32), mirrored):
        got = next(session.predict([replace(batch, images=images)]))
        assert_close(got, expected, 1e-6, "logits")


def test_sessions_of_two_precisions_live_side_by_side() -> None:
    batch = batch_of(plan_of())
    single, double = session_of(), session_of(precision="float64")
    alone = next(single.predict([batch]))
    exact = next(reference_of("zero_pad").predict([batch]))
    streams = [session.predict([batch, batch]) for session in (single, double)]
    for _ in range(2):
        got, precise = (next(stream) for stream in streams)
        assert jnp.zeros(()).dtype == jnp.float32 and not jax.config.jax_enable_x64
        assert np.array_equal(got, alone) and got.dtype == np.float32
        assert precise.dtype == np.float64
        assert_close(precise, exact, 1e-13, "logits")
    assert jax.config.jax_default_matmul_precision is None
    assert all(array.dtype == np.float64 for array in double.state().values())
    with jax.enable_x64(True):
        assert np.array_equal(next(single.predict([batch])), alone)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precisions_keep_weights_in_float32(precision: str) -> None:
    plan, batch = plan_of("tiny"), batch_of(plan_of("tiny"))
    session = session_of("tiny", precision)
    assert session.info["math"] == f"computes in {precision}"
    loss, got = session.gradients(batch)
    exact, expected = reference_of("tiny").gradients(batch)
    assert abs(loss - exact) < 0.02
    error = np.abs(got["fc.weight"] - expected["fc.weight"]).max()
    assert 1e-5 < error / np.abs(expected["fc.weight"]).max() < 0.05
    session.train(batches_of(plan)[:1], RATES[:1])
    assert all(array.dtype == np.float32 for array in session.state().values())


def test_an_overflow_in_float16_skips_the_step_and_halves_the_scale() -> None:
    plan = plan_of("tiny")
    session = session_of("tiny", "float16")
    fresh = session.state()
    assert fresh["loss_scale/scale"] == 2.0**16 and fresh["loss_scale/good_steps"] == 0
    scale, good = np.float32(2.0**40), np.float32(7)
    session.load(fresh | {"loss_scale/scale": scale, "loss_scale/good_steps": good})
    session.train(batches_of(plan)[:1], RATES[:1])
    state = session.state()
    assert all(np.array_equal(state[name], fresh[name]) for name in plan.trainable)
    assert not any(state[f"momentum/{name}"].any() for name in plan.trainable)
    assert state["loss_scale/scale"] == 2.0**39 and state["loss_scale/good_steps"] == 0
    ready = {"loss_scale/scale": np.float32(256.0), "loss_scale/good_steps": np.float32(1999)}
    session.load(fresh | ready)
    session.train(batches_of(plan)[:1], RATES[:1])
    state = session.state()
    assert not np.array_equal(state["fc.weight"], fresh["fc.weight"])
    assert state["loss_scale/scale"] == 512.0 and state["loss_scale/good_steps"] == 0


def test_gradients_halve_the_scale_while_they_overflow_and_no_further() -> None:
    tried: list[float] = []

    def run(loss_scale: Any) -> Any:
        tried.append(float(loss_scale["scale"]))
        return 0.0, {"w": jnp.asarray(np.inf if tried[-1] > 2.0**14 else 1.0)}

    session_of("tiny", "float16")._without_overflow(run)
    assert tried == [2.0**16, 2.0**15, 2.0**14]


def test_float32_products_are_not_computed_in_less() -> None:
    """Without this, accelerators take TF32 or bfloat16."""
    lowered = {}
    for precision in ("float32", "bfloat16"):
        session = backend.Session(plan_of(), device="cpu", precision=precision)
        with session._settings():
            program, weights = session._program()
            lowered[precision] = program.predict.lower(weights, batch_of(plan_of()).images)
    convolutions = [x for x in lowered["float32"].as_text().splitlines() if "convolution(" in x]
    assert convolutions and all("HIGHEST" in line for line in convolutions)
    assert "HIGHEST" not in lowered["bfloat16"].as_text()


def test_info_names_what_is_in_force() -> None:
    info = session_of().info
    assert info["framework"] == "flax" and info["jax"] == jax.__version__
    assert (info["device"], info["precision"], info["math"]) == ("cpu", "float32", "strict")
    assert all(isinstance(value, str) for value in info.values())
