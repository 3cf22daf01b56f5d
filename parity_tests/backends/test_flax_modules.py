"""The native module: its paths are the plan's names, and it is Flax's like any other."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np
import pytest
from flax_networks import CASES, CLASSES, assert_close, batch_of, plan_of, session_of, state_of

from resnet_spec.contract import Batch
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan

jax = pytest.importorskip("jax")
jnp = jax.numpy
nnx = pytest.importorskip("flax.nnx")
optax = pytest.importorskip("optax")

pytestmark = pytest.mark.xdist_group("flax_networks")
backend: Any = load_backend("flax")
layers: Any = importlib.import_module(f"{backend.__name__}.layers")


def test_paths_are_the_plans_names() -> None:
    leaves = {
        "conv_weight": "kernel",
        "linear_weight": "kernel",
        "bias": "bias",
        "norm_scale": "scale",
        "norm_shift": "bias",
        "running_mean": "mean",
        "running_var": "var",
    }
    for case in CASES:
        plan = plan_of(case)
        module = nnx.eval_shape(partial(backend.build, plan))
        state = nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat)))
        got = {".".join(path): leaf.shape for path, leaf in state}
        expected = {
            f"{t.name.rpartition('.')[0]}.{leaves[t.role]}": sorted(t.shape) for t in plan.tensors
        }
        assert {name: sorted(shape) for name, shape in got.items()} == expected
    model = nnx.eval_shape(partial(backend.build, plan_of("bottleneck")))
    assert model.layer1[0].conv2.kernel.shape == (3, 3, 6, 12)
    assert model.fc.kernel.shape == (16, CLASSES)


def normalised(plan: Plan, batch: Batch) -> Any:
    images = batch.images * np.array(plan.input.scale) + np.array(plan.input.shift)
    return jnp.asarray(images, jnp.float32)


def test_build_gives_the_sessions_network() -> None:
    plan, batch = plan_of("tiny"), batch_of(plan_of("tiny"))
    module = backend.build(plan, state_of(plan))
    expected = next(session_of("tiny").predict([batch]))
    module.eval()
    got = nnx.jit(lambda module, x: module(x))(module, normalised(plan, batch))
    assert_close(got, expected, 1e-5, "logits")
    # Without a state: Flax's own initialisers.
    fresh = backend.build(plan_of("tiny"))
    kernel = np.asarray(fresh.layer1[1].conv2.kernel[...])
    assert fresh.bn1.scale[...].dtype == jnp.float32
    assert kernel.std() == pytest.approx((9 * 4) ** -0.5, rel=0.2)


def test_the_module_trains_with_nnx_alone() -> None:
    plan = plan_of("tiny")
    batch = batch_of(plan)
    images, labels = normalised(plan, batch), jnp.asarray(batch.labels, jnp.int32)
    model = backend.build(plan, state_of(plan))
    optimizer = nnx.Optimizer(model, optax.sgd(0.05, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> Any:
        def loss_of(model: Any) -> Any:
            loss = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
            return loss.mean()

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, gradients)
        return loss

    before = np.array(model.bn1.mean[...])
    losses = [float(step(model, optimizer)) for _ in range(6)]
    assert len(set(losses)) == 6, "each step draws noise of its own"
    assert not np.array_equal(model.bn1.mean[...], before)
    graphdef, state = nnx.split(model)
    twin = nnx.merge(graphdef, state)
    model.eval()
    twin.eval()
    assert np.array_equal(model(images), twin(images))


def test_noise_is_drawn_by_the_module_on_its_own() -> None:
    module = backend.build(plan_of("tiny"), state_of(plan_of("tiny")))
    x = jnp.ones((4000, 2, 2, 4))
    path, drop = module.layer1[1].drop_path, module.drop
    (rate,) = [op.rate for op in plan_of("tiny").noises if op.name == "layer1.1.drop_path"]
    assert np.unique(path(x)).tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    assert np.all(np.ptp(np.asarray(path(x)), (1, 2, 3)) == 0), "one draw per sample"
    assert float(drop(x[:, 0, 0]).mean()) == pytest.approx(1.0, abs=0.05)
    assert not np.array_equal(path(x), path(x))
    module.eval()
    assert np.array_equal(path(x), x) and np.array_equal(drop(x), x)


def test_layers_can_be_replaced() -> None:
    plan, batch = plan_of(), batch_of(plan_of())
    session = session_of()
    graphdef, state = nnx.split(session.native)
    expected = next(session.predict([batch]))
    session.native.act1 = layers.Activation(nnx.gelu)
    try:
        assert not np.allclose(next(session.predict([batch])), expected)
    finally:
        session.native = nnx.merge(graphdef, state)
    assert np.array_equal(next(session.predict([batch])), expected)
    assert len(session.native.layer1) == 1 and plan.classes == CLASSES
