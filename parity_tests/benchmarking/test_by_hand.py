"""Modules that are trained by hand are a session's: the same network, and the same steps."""

from __future__ import annotations

import importlib
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from bench_cases import asked

from resnet_spec.bench import DECAY, MOMENTUM, RATE, Case
from resnet_spec.contract import Batch, State
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.recipe import Recipe
from resnet_spec.running.opening import open_session

STEPS = 3


def case_of(mode: str) -> Case:
    question = asked(mode=mode)
    return question.case(state=initial_state(question.plan, seed=0))


def session_after(backend: str, case: Case, steps: int) -> Any:
    """Return a session that has taken so many steps of the case, and its batch."""
    fields: dict[str, Any] = {"steps": 1, "batch": case.batch}
    fields["optimizer"] = {"kind": "sgd", "momentum": MOMENTUM, "weight_decay": DECAY}
    session = open_session(backend, case.plan, Recipe.from_dict(fields, "test"), "cpu")
    session.load(case.state)
    batch = Batch(case.images(), case.labels(), np.arange(case.batch))
    session.train(repeat(batch, steps), np.full(steps, RATE))
    return session


def built(backend: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """Return the backend's module of peers, and the list of what it then builds."""
    pytest.importorskip("jax" if backend == "flax" else backend, reason=f"no {backend}")
    peers = importlib.import_module(f"resnet_spec_{backend}.peers")
    modules: list[Any] = []

    def kept(*given: Any) -> Any:
        modules.append(build_of(*given))
        return modules[-1]

    build_of = peers.build
    monkeypatch.setattr(peers, "build", kept)
    return peers, modules


def weights(module: Any, backend: str, case: Case) -> State:
    found = importlib.import_module(f"resnet_spec_{backend}.weights")
    if backend == "torch":
        return found.to_state(found.weights_of(module, case.plan))
    return found.to_state(found.parameters_of(module, case.plan))


@pytest.mark.parametrize("backend", ["torch", "mindspore"])
def test_steps_by_hand_are_those_of_a_session(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers, modules = built(backend, monkeypatch)
    case = case_of("train")
    peers.by_hand(case).turn(STEPS)
    session = session_after(backend, case, STEPS)
    expected = session.state()
    for name, array in weights(modules[0], backend, case).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert name.endswith("num_batches_tracked") or not np.array_equal(array, case.state[name])


def test_flax_s_module_is_called_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    peers, _ = built("flax", monkeypatch)
    case = case_of("train")
    by_hand = peers._Built(peers.build(case.plan, case.state))
    variables = by_hand.init(None, None, train=False)
    session = session_after("flax", case, 0)
    (logits,) = session.predict([Batch(case.images(), case.labels(), np.arange(case.batch))])
    found = by_hand.apply(variables, case.normalised(), train=False)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)
    _, changed = by_hand.apply(variables, case.normalised(), mutable=["batch_stats"])
    expected = session_after("flax", case, 1).state()
    seen = {".".join(map(str, path)): leaf for path, leaf in flat(changed["batch_stats"])}
    running = {name for name in expected if ".running_" in name}
    assert len(seen) == len(running) > 0
    everyone = sorted(float(np.sum(np.asarray(it))) for it in seen.values())
    theirs = sorted(float(np.sum(expected[name])) for name in running)
    np.testing.assert_allclose(everyone, theirs, rtol=1e-5, atol=1e-6)
    peers.by_hand(case).turn(2)


def flat(state: Any) -> list[Any]:
    from flax import nnx

    return list(nnx.to_flat_state(state))
