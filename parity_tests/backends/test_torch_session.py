"""A session's state, its streams and its noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from torch_by_hand import (
    CASES,
    CIFAR_STEM,
    CLASSES,
    RATES,
    RECIPE,
    STAGES,
    assert_close,
    assert_identical,
    batch_of,
    plan_of,
    session_of,
    state_of,
)

from resnet_spec.contract import Batch
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

torch = pytest.importorskip("torch")
backend: Any = load_backend("torch")


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_resume_is_bit_identical(precision):
    plan = plan_of("v2_noise")
    batches = [batch_of(plan, seed) for seed in range(6)]
    whole = session_of(plan, RECIPE, precision=precision)
    losses = whole.train(batches, RATES[:6]).loss
    first = session_of(plan, RECIPE, precision=precision)
    first.train(batches[:3], RATES[:3])
    second = backend.Session(plan, RECIPE, device="cpu", precision=precision)
    second.load(first.state())
    assert np.array_equal(second.train(batches[3:], RATES[3:6]).loss, losses[3:])
    assert_identical(second.state(), whole.state())
    assert ("loss_scale/scale" in whole.state()) == (precision == "float16")


def test_a_fresh_load_resets_the_slots():
    plan = plan_of()
    session = session_of(plan, RECIPE)
    session.train([batch_of(plan)], RATES[:1])
    session.load(state_of(plan))
    state = session.state()
    weights = state_of(plan)
    assert all(np.array_equal(state[name], a) for name, a in weights.items())
    assert all(np.array_equal(state[f"ema/{name}"], a) for name, a in weights.items())
    assert not any(state[f"momentum/{name}"].any() for name in plan.trainable)
    no_slots = session_of(plan, Recipe(steps=1, optimizer={"momentum": 0.0}))
    assert set(no_slots.state()) == set(weights)


def test_state_is_owned_and_contiguous():
    session = session_of(plan_of(), RECIPE)
    before = session.state()
    for array in before.values():
        assert array.flags["C_CONTIGUOUS"] and array.flags["OWNDATA"]
        assert array.dtype == np.float32
        array += 1.0
    assert not np.array_equal(session.state()["conv1.weight"], before["conv1.weight"])


def test_gradients_activations_and_predict_change_nothing():
    plan = plan_of("v2_noise")
    session = session_of(plan, RECIPE)
    batch = batch_of(plan)
    session.train([batch], RATES[:1])
    session.native.norm.eval()  # A mixture of modes is kept, too.
    state, modes = session.state(), [m.training for m in session.native.modules()]
    buffers = [b.clone() for b in session.native.buffers()]
    session.gradients(batch)
    for train in (False, True):
        list(session.activations(batch, train=train))
    list(session.predict([batch]))
    assert_identical(session.state(), state)
    assert [m.training for m in session.native.modules()] == modes
    pairs = zip(session.native.buffers(), buffers, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(m._forward_hooks for m in session.native.modules())


def test_load_lists_every_wrong_name_and_changes_nothing():
    plan = plan_of()
    session = session_of(plan, RECIPE)
    before = session.state()
    wrong = {name: a + 1 for name, a in before.items()}
    wrong["stray"] = wrong.pop("fc.bias")
    wrong["conv1.weight"] = wrong["conv1.weight"][:1]
    del wrong["momentum/fc.weight"]
    with pytest.raises(CheckpointError) as error:
        session.load(wrong)
    assert sorted(error.value.problems) == [
        "conv1.weight = [1, 3, 7, 7]: must have shape [8, 3, 7, 7]",
        "fc.bias: is missing",
        "momentum/fc.weight: is missing",
        "stray: is unexpected",
    ]
    assert_identical(session.state(), before)
    with pytest.raises(CheckpointError, match="is missing"):
        backend.build(plan, {})


def test_predict_streams_and_train_takes_no_batch_too_many():
    plan = plan_of()
    taken: list[int] = []

    def source() -> Iterator[Batch]:
        for i in range(100):
            taken.append(i)
            yield batch_of(plan, i)

    session = session_of(plan, RECIPE)
    assert next(session.predict(source())).shape == (8, CLASSES)
    assert taken == [0]
    session.train(source(), RATES[:3])
    assert taken == [0, 0, 1, 2]
    with pytest.raises(BackendError, match="batches = 1: must hold one batch for each of 2 rates"):
        session.train([batch_of(plan)], RATES[:2])
    assert session.train([], RATES[:0]).loss.shape == (0,)
    with pytest.raises(BackendError, match="recipe = None"):
        session_of(plan).train([batch_of(plan)], RATES[:1])


@pytest.mark.parametrize("case", CASES)
def test_activations_have_the_plans_names_and_shapes(case):
    plan = plan_of(case)
    session, batch = session_of(plan, precision="float64"), batch_of(plan)
    outputs = dict(session.activations(batch))
    assert tuple(outputs) == plan.observed
    for op in plan.ops:
        assert outputs[op.name].shape == (8, *op.out_shape)
        assert outputs[op.name].dtype == np.float64
    assert_close(outputs[plan.observed[-1]], next(session.predict([batch])), 0.0, "logits")


def test_an_activation_is_seen_before_the_relu_overwrites_it():
    outputs = dict(session_of(plan_of()).activations(batch_of(plan_of())))
    assert outputs["bn1"].min() < 0
    assert np.array_equal(outputs["act1"], outputs["bn1"].clip(min=0))


def test_noise_is_needed_in_training_and_drawn_by_the_module_alone():
    plan = plan_of("v2_noise")
    batch = batch_of(plan)
    bare = Batch(batch.images, batch.labels, batch.indices)
    session = session_of(plan, RECIPE)
    with pytest.raises(BackendError, match=r"batch\.noise: lacks .*blocks\.1\.drop_path.*head"):
        session.gradients(bare)
    list(session.predict([bare]))
    native = session.native.train()
    x = torch.ones(4000, 16, 1, 1)
    for module, rate in ((native.stages[1].blocks[0].drop_path, 0.5), (native.head.drop, 0.25)):
        values = set(module(x).unique().tolist())
        assert sorted(values) == pytest.approx([0.0, 1 / (1 - rate)])
        assert float(module(x).mean()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(native.eval().head.drop(x), x)


def test_any_numpy_images_are_taken():
    plan = plan_of()
    session, batch = session_of(plan), batch_of(plan)
    expected = next(session.predict([batch]))
    mirrored = np.ascontiguousarray(batch.images[:, :, ::-1])[:, :, ::-1]
    frozen = batch.images.copy()
    frozen.flags.writeable = False
    normalised = batch.images * np.array(plan.input.scale) + np.array(plan.input.shift)
    for images in (mirrored, frozen, normalised, normalised.astype(np.float32)):
        got = next(session.predict([Batch(images, batch.labels, batch.indices)]))
        assert_close(got, expected, 1e-6, "logits")


def test_a_single_value_per_channel_has_no_variance():
    fields = CASES["basic"][0] | {"stem": CIFAR_STEM}
    plan = lower(Spec(stages=STAGES, classes=CLASSES, input={"size": 2}, **fields))
    with pytest.raises(BackendError, match=r"batch = 1: leaves layer2\.0\.bn1 one value"):
        session_of(plan).gradients(batch_of(plan, count=1))
