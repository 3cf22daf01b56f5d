"""The equations of the rows against other people's optimisers, number by number in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Array
from resnet_spec.optimizers import Optimizer, clipped, row_of, slots_of
from resnet_spec.recipe import Recipe

STEPS, RATES = 5, (0.1, 0.03, 0.05, 0.2, 0.01)
SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 3, 2, 2)}
CLOSE = 1e-13
"""Of float64 after five steps; measured: 4e-16."""
DECAY = 0.05


def drawn(seed: int) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    return {name: draw.standard_normal(shape) for name, shape in SHAPES.items()}


def settings_of(kind: str, **given: Any) -> Optimizer:
    return Recipe(steps=1, optimizer={"kind": kind, "weight_decay": DECAY, **given}).optimizer


def by_row(
    settings: Optimizer,
    rates: tuple[float, ...] = RATES,
    decay: float | None = None,
    start: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Return the weights, and the slots, after some steps by the row's equation."""
    weights = dict(drawn(0) if start is None else start)
    families = slots_of(settings)
    slots = {
        slot.name_for(name): np.full(slot.shape_for(weight.shape), slot.first)
        for slot in families
        for name, weight in weights.items()
    }
    amount = settings.weight_decay if decay is None else decay
    for step, rate in enumerate(rates):
        moved: dict[str, Array] = {}
        for name, gradient in drawn(1 + step).items():
            fixed = rate, amount, weights[name], gradient, slots
            weights[name], new = row_of(settings).step(settings, name, *fixed)
            moved |= new
        slots |= moved
    return {**weights, **slots}


def by_torch(make: Callable[[list[Any]], Any]) -> dict[str, Array]:
    torch = pytest.importorskip("torch")
    weights = {name: torch.nn.Parameter(torch.tensor(a)) for name, a in drawn(0).items()}
    optimizer = make(list(weights.values()))
    for step, rate in enumerate(RATES):
        for name, gradient in drawn(1 + step).items():
            weights[name].grad = torch.tensor(gradient)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return {name: weight.detach().numpy() for name, weight in weights.items()}


def by_optax(make: Callable[[Any], Any], rates: tuple[float, ...] = RATES) -> dict[str, Array]:
    """make: takes a learning rate, which is the step's in every step."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        weights = {name: jax.numpy.asarray(a) for name, a in drawn(0).items()}
        optimizer = make(lambda count: jax.numpy.asarray(rates)[count])
        state = optimizer.init(weights)
        for step in range(len(rates)):
            change, state = optimizer.update(drawn(1 + step), state, weights)
            weights = optax.apply_updates(weights, change)
        return {name: np.asarray(weight) for name, weight in weights.items()}


def assert_close(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert expected.keys() == SHAPES.keys()
    for name, array in expected.items():
        scale = np.abs(array).max()
        assert array.dtype == np.float64
        assert np.abs(found[name] - array).max() <= CLOSE * scale, name


BETAS = {"beta1": 0.8, "beta2": 0.98, "epsilon": 1e-3}


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_is_that_of_torch(kind: str) -> None:
    torch = pytest.importorskip("torch")
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
    fixed = {"betas": (0.8, 0.98), "eps": 1e-3, "weight_decay": DECAY}
    assert_close(by_row(settings_of(kind, **BETAS)), by_torch(lambda w: optimizer(w, **fixed)))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_torch(nesterov: bool) -> None:
    torch = pytest.importorskip("torch")
    fixed: dict[str, Any] = {"momentum": 0.7, "nesterov": nesterov, "weight_decay": DECAY}
    expected = by_torch(lambda w: torch.optim.SGD(w, 1.0, **fixed))
    assert_close(by_row(settings_of("sgd", momentum=0.7, nesterov=nesterov)), expected)


@pytest.mark.parametrize("kind", ["adamw", "lamb", "lion"])
def test_decoupled_decay_is_that_of_optax(kind: str) -> None:
    optax = pytest.importorskip("optax")
    own = {name: value for name, value in BETAS.items() if kind != "lion" or name != "epsilon"}
    fixed = {"b1": 0.8, "b2": 0.98, "weight_decay": DECAY}
    fixed |= {} if kind == "lion" else {"eps": 1e-3}
    expected = by_optax(lambda rate: getattr(optax, kind)(rate, **fixed))
    assert_close(by_row(settings_of(kind, **own)), expected)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_rmsprop_is_that_of_optax_in_tensorflows_form(momentum: float) -> None:
    optax = pytest.importorskip("optax")
    fixed = {"decay": 0.95, "eps": 1e-3, "initial_scale": 1.0, "eps_in_sqrt": True}
    steady = (0.1,) * STEPS  # optax has the rate inside the velocity, as TensorFlow.
    expected = by_optax(
        lambda _: optax.chain(
            optax.add_decayed_weights(DECAY),
            optax.rmsprop(0.1, **fixed, momentum=momentum or None),
        ),
        steady,
    )
    settings = settings_of("rmsprop", momentum=momentum, beta2=0.95, epsilon=1e-3)
    assert_close(by_row(settings, steady), expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_that_of_optax_where_the_norms_are_the_same(nesterov: bool) -> None:
    optax = pytest.importorskip("optax")
    # Of the norm of a sum and the sum of norms this decay leaves 1e-15.
    fixed = {"weight_decay": 1e-15, "trust_coefficient": 0.01, "momentum": 0.8, "eps": 1e-3}
    steady = (0.1,) * STEPS
    expected = by_optax(lambda _: optax.lars(0.1, **fixed, nesterov=nesterov), steady)
    own = {"trust": 0.01, "momentum": 0.8, "epsilon": 1e-3, "nesterov": nesterov}
    assert_close(by_row(settings_of("lars", **own, weight_decay=1e-15), steady), expected)


def test_the_trust_ratio_of_lars_is_that_of_the_paper() -> None:
    settings = settings_of("lars", trust=0.01, epsilon=0.5)
    w, g = drawn(0)["a"], drawn(1)["a"]
    ratio = 0.01 * np.linalg.norm(w) / (np.linalg.norm(g) + DECAY * np.linalg.norm(w) + 0.5)
    found = by_row(settings, RATES[:1])
    np.testing.assert_allclose(found["momentum/a"], ratio * (g + DECAY * w), rtol=1e-14)
    np.testing.assert_allclose(found["a"], w - 0.1 * ratio * (g + DECAY * w), rtol=1e-14)


@pytest.mark.parametrize(("kind", "plain"), [("lamb", "adamw"), ("lars", "sgd")])
def test_a_tensor_without_decay_has_no_trust_ratio(kind: str, plain: str) -> None:
    own = {"epsilon": 1e-6} if kind == "lamb" else {}
    found = by_row(settings_of(kind), decay=0.0)
    assert_close(found, {n: by_row(settings_of(plain, **own), decay=0.0)[n] for n in SHAPES})
    assert np.abs(found["a"] - by_row(settings_of(kind))["a"]).max() > 1e-2


@pytest.mark.parametrize("kind", ["lamb", "lars"])
def test_a_tensor_of_zeros_is_moved(kind: str) -> None:
    still = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    found = by_row(settings_of(kind), start=still)
    assert all(np.isfinite(a).all() and np.abs(a).max() > 0.0 for a in found.values())


def test_the_steps_are_counted_and_squares_begin_at_one() -> None:
    assert by_row(settings_of("adamw"))["steps/count"] == STEPS
    found = by_row(settings_of("rmsprop"), RATES[:1], decay=0.0)
    np.testing.assert_allclose(found["rms/b"], 0.9 + 0.1 * drawn(1)["b"] ** 2, rtol=1e-14)


def test_a_norm_is_clipped_as_optax_does_and_torch_nearly() -> None:
    gradients = drawn(1)
    norm = float(np.sqrt(sum((g**2).sum() for g in gradients.values())))
    for bound in (0.5 * norm, 2.0 * norm):
        found = clipped(settings_of("sgd", clip_norm=bound), gradients)
        length = float(np.sqrt(sum((g**2).sum() for g in found.values())))
        assert length == pytest.approx(min(bound, norm), rel=1e-14)
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with jax.enable_x64(True):
        by, _ = optax.clip_by_global_norm(0.5).update(gradients, optax.EmptyState())
        assert_close(clipped(settings_of("sgd", clip_norm=0.5), gradients), by)


def test_values_are_clipped_one_by_one() -> None:
    found = clipped(settings_of("sgd", clip_value=0.3), drawn(1))
    for name, gradient in drawn(1).items():
        assert np.array_equal(found[name], np.clip(gradient, -0.3, 0.3))
    assert all(
        np.array_equal(a, drawn(1)[n]) for n, a in clipped(settings_of("sgd"), drawn(1)).items()
    )
