"""What no session takes: one text in every backend, for it is checked in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Batch, State
from resnet_spec.errors import ResnetSpecError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.planning.lowering import lower

pytestmark = pytest.mark.xdist_group("refusing")

BACKENDS = installed_backends()
RATES = np.array([0.1])


@cache
def setup() -> Setup:
    plan = next(c.plan for c in CASES.values() if len(c.plan.noises) > 1)
    return make_setup(plan, make_recipe(2, 6, accumulate=2, ema={"decay": 0.9}))


@cache
def session(backend: str, *, recipe: bool = True) -> Any:
    package: Any = load_backend(backend)
    made = package.Session(setup().plan, setup().recipe if recipe else None)
    made.load(setup().state)
    return made


def refused(action: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(ResnetSpecError) as error:
        action()
    return error.value.problems


def batch(**changes: Any) -> Batch:
    return replace(setup().batches[0], **changes)


def _labelled(label: int) -> Batch:
    return batch(labels=np.array([0, 1, label, 2, 3, 0]))


def _noise() -> tuple[str, dict[str, Any]]:
    noise = dict(setup().batches[0].noise)
    return next(iter(noise)), noise


def batches() -> Iterator[tuple[Batch, str]]:
    """Yield batches that cannot be trained on, and what is said of them."""
    first, noise = _noise()
    images = batch().images
    yield _labelled(-1), "batch.labels = -1: must be in 0..4 in training"
    yield _labelled(5), "batch.labels = 5: must be in 0..4 in training"
    wrong = np.zeros(6, np.float32)
    yield batch(labels=wrong), "batch.labels = float32 [6]: must be whole numbers of shape [6]"
    smaller = list(images[:, 1:].shape)
    shape = list(images.shape)
    rule = f"must have shape {shape}, [N, H, W, C]"
    yield batch(images=images[:, 1:]), f"batch.images = {smaller}: {rule}"
    yield batch(images=images[:5]), f"batch.images = {[5, *shape[1:]]}: {rule}"
    rule = "must be uint8, or floating point where they are normalised already"
    yield batch(images=images.astype(np.int64)), f"batch.images = int64: {rule}"
    names = ", ".join(noise)
    yield batch(noise={}), f"batch.noise: lacks {names}, which training needs"
    short = {**noise, first: noise[first][:5]}
    given, wanted = ([n, *noise[first].shape[1:]] for n in (5, 6))
    yield batch(noise=short), f"batch.noise[{first!r}] = {given}: must have shape {wanted}"
    none = {name: array[:0] for name, array in noise.items()}
    empty = batch(images=images[:0], labels=batch().labels[:0], noise=none)
    yield empty, "batch = 0: must hold images in training"


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_are_refused_in_the_same_words(backend: str) -> None:
    made = session(backend)
    before: State = made.state()
    for wrong, line in batches():
        assert refused(lambda b=wrong: made.gradients(b)) == (line,)
        assert refused(lambda b=wrong: made.train([b], RATES)) == (line,)
        if "labels" not in line:
            assert refused(lambda b=wrong: list(made.activations(b, train=True))) == (line,)
        if "images =" in line:
            assert refused(lambda b=wrong: list(made.predict([b]))) == (line,)
    after = made.state()
    assert all(np.array_equal(after[name], array) for name, array in before.items())


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_training_lacks_is_told_in_the_same_words(backend: str) -> None:
    made = session(backend)
    odd = batch(
        images=batch().images[:5],
        labels=batch().labels[:5],
        noise={name: array[:5] for name, array in batch().noise.items()},
    )
    line = "batch = 5: must be a multiple of accumulate = 2"
    assert refused(lambda: made.train([odd], RATES)) == (line,)
    line = "recipe = None: train needs one; give the session a recipe"
    for rates in (RATES, RATES[:0]):
        asked = session(backend, recipe=False)
        assert refused(lambda r=rates, s=asked: s.train([batch()], r)) == (line,)
    line = "batches = 1: must hold one batch for each of 2 rates"
    assert refused(lambda: made.train([batch()], np.array([0.1, 0.1]))) == (line,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_value_per_channel_is_refused_in_the_same_words(backend: str) -> None:
    package: Any = load_backend(backend)
    plan = lower(CASES["plain"].spec, 1)
    one = make_setup(plan, make_recipe(1, 1)).batches[0]
    line = "batch = 1: leaves bn1 one value per channel, which has no variance; take more images"
    assert refused(lambda: package.Session(plan).gradients(one)) == (line,)


def states() -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Yield changes of a state (None: the name goes), and what is said of it."""
    bias, whole = setup().state["fc.bias"], "must hold real numbers"
    yield {"fc.bias": None}, ("fc.bias: is missing",)
    yield {"fc.bias": bias[:3]}, ("fc.bias = [3]: must have shape [5]",)
    yield {"fc.scale": bias}, ("fc.scale: is unexpected",)
    yield {"exp_avg/fc.bias": bias}, ("exp_avg/fc.bias: is unexpected",)
    yield {"ema/fc.bias": None}, ("ema/fc.bias: is missing",)
    yield {"momentum/fc.bias": None}, ("momentum/fc.bias: is missing",)
    yield {"loss_scale/scale": np.float32(8)}, ("loss_scale/scale: is unexpected",)
    yield {"fc.bias": bias.astype(complex)}, (f"fc.bias = complex128: {whole}",)
    yield {"fc.bias": bias.astype(object)}, (f"fc.bias = object: {whole}",)
    yield {"fc.bias": [0.0] * 5}, ("fc.bias = list: must be an array of NumPy's types",)
    swapped = bias.astype(bias.dtype.newbyteorder("S"))
    rule = "must have this machine's byte order"
    yield {"fc.bias": swapped}, (f"fc.bias = {swapped.dtype.str}: {rule}",)
    yield {3: bias}, ("3: is unexpected: no text",)  # pyright: ignore[reportReturnType]
    yield (
        {"fc.bias": None, "momentum/fc.bias": bias[:3], "more": bias},
        (
            "fc.bias: is missing",
            "more: is unexpected",
            "momentum/fc.bias = [3]: must have shape [5]",
        ),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_are_refused_in_the_same_words_and_nothing_changes(backend: str) -> None:
    made = session(backend)
    before: State = made.state()
    for changes, lines in states():
        changed = {n: a for n, a in {**before, **changes}.items() if a is not None}
        moved = {n: a if n in changes else a + 1 for n, a in changed.items()}
        assert refused(lambda s=moved: made.load(s)) == lines
        after = made.state()
        assert all(np.array_equal(after[name], array) for name, array in before.items())


@pytest.mark.parametrize("backend", BACKENDS)
def test_slots_start_fresh_a_family_at_a_time(backend: str) -> None:
    made = session(backend)
    state: State = {name: array + 1 for name, array in made.state().items()}
    kept = {name: array for name, array in state.items() if not name.startswith("momentum/")}
    made.load(kept)
    loaded = made.state()
    for name in setup().plan.trainable:
        assert not loaded[f"momentum/{name}"].any()
        assert np.array_equal(loaded[f"ema/{name}"], state[f"ema/{name}"])
    made.load({name: array for name, array in state.items() if not name.startswith("ema/")})
    loaded = made.state()
    for name in setup().state:
        assert np.array_equal(loaded[f"ema/{name}"], state[name])
    made.load(state)
    assert all(np.array_equal(made.state()[name], array) for name, array in state.items())


def test_every_backend_was_asked() -> None:
    assert {"numpy", "torch"} <= set(BACKENDS)
