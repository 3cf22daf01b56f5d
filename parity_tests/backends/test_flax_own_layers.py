"""A session of Flax follows what layers of one's own hold, or says that it does not."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Array, Batch
from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import worn_state
from resnet_spec.recipe import Recipe

jax = pytest.importorskip("jax")
jnp: Any = importlib.import_module("jax.numpy")
nnx: Any = importlib.import_module("flax.nnx")
wrapping: Any = importlib.import_module("resnet_spec_flax.wrap")
pytestmark = pytest.mark.xdist_group("flax_networks")

PLAN = CASES["plain"].plan


class Scaled(nnx.Module):
    """A ReLU times what it holds."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        factor = self.factor
        return jax.nn.relu(x) * (factor[...] if isinstance(factor, nnx.Variable) else factor)


def session_with(layer: Any) -> Any:
    session = load_backend("flax").Session(PLAN, Recipe(steps=1, batch=2), device="cpu")
    session.load(worn_state(PLAN, 0))
    session.native.act1 = layer
    return session


def batch() -> Batch:
    given = PLAN.input
    images = np.random.default_rng(0).normal(size=(2, given.height, given.width, given.channels))
    return Batch(images.astype(np.float32), np.zeros(2, np.int64), np.arange(2))


def told(session: Any) -> list[Array]:
    """Return logits, a loss and an output."""
    (logits,) = session.predict([batch()])
    loss, _ = session.gradients(batch())
    return [logits, np.array(loss), dict(session.activations(batch()))["conv1"]]


MAKE = {
    "array": lambda value: jnp.full(1, value),
    "host": lambda value: np.full(1, value, np.float32),
    "variable": lambda value: nnx.Variable(jnp.full(1, value)),
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_a_layer_of_one_s_own_holds_counts_as_it_is(kind: str) -> None:
    make = MAKE[kind]
    session = session_with(Scaled(make(1.0)))
    before = told(session)
    assert all(map(np.array_equal, told(session), before))
    session.native.act1.factor = make(3.0)
    after, fresh = told(session), told(session_with(Scaled(make(3.0))))
    assert all(map(np.array_equal, after, fresh))
    assert not np.array_equal(after[0], before[0]) and after[1] != before[1]
    session.native.act1 = Scaled(make(1.0))
    assert all(map(np.array_equal, told(session), before))


@pytest.mark.parametrize("name", ["noise", "plain"])
def test_nothing_is_compiled_anew_where_nothing_has_changed(name: str) -> None:
    plan = CASES[name].plan
    session: Any = load_backend("flax").Session(plan, Recipe(steps=1, batch=2), device="cpu")
    session.load(worn_state(plan, 0))
    first, _ = session._program()
    session.load(session.state())
    assert session._program()[0] is first


def test_an_array_of_the_host_that_is_changed_in_place_counts() -> None:
    factor = np.ones(1, np.float32)
    session = session_with(Scaled(factor))
    before = told(session)
    factor[:] = 3
    assert all(map(np.array_equal, told(session), told(session_with(Scaled(MAKE["host"](3.0))))))
    assert not np.array_equal(told(session)[0], before[0])


def test_a_wrapped_network_counts_as_it_is() -> None:
    flax: Any = load_backend("flax")
    first = worn_state(PLAN, 0)

    def all_of(model: Any) -> list[Any]:
        (logits,) = model.predict([batch()])
        loss, _ = model.gradients(batch(), ())
        seen = model.outputs(batch(), ["layer1.0"], True)
        by_image, _ = model.output_gradients(batch(), ["layer1.0"])
        after = model.statistics(batch())
        return [logits, np.array(loss), seen["layer1.0"][0], by_image, after["bn1.mean"]]

    def wrapped(factor: Any) -> Any:
        network = flax.build(PLAN, first)
        network.act1 = Scaled(factor)
        return wrapping.wrap(network, PLAN)

    model = wrapped(MAKE["array"](1.0))
    before = all_of(model)
    model.native.act1.factor = MAKE["array"](3.0)
    after, fresh = all_of(model), all_of(wrapped(MAKE["array"](3.0)))
    assert all(map(np.array_equal, after, fresh))
    assert not any(map(np.array_equal, after[:4], before[:4]))
    model.native.act1 = nnx.identity if hasattr(nnx, "identity") else lambda x: x
    assert not np.array_equal(all_of(model)[0], after[0])


def test_a_layer_with_parameters_is_named() -> None:
    session = session_with(nnx.PReLU())
    for ask in (lambda: list(session.predict([batch()])), lambda: session.gradients(batch())):
        with pytest.raises(BackendError, match=r"native\.act1\.\w+: is no tensor of the plan"):
            ask()
