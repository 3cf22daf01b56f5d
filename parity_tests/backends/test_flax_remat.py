"""Blocks whose activations the Flax session computes again: the same numbers, in less memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flax_networks import (
    CASES,
    RECIPE,
    assert_close,
    assert_states_close,
    backend,
    batch_of,
    state_of,
)

from resnet_spec.contract import State
from resnet_spec.describing.spec import Spec
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.rematerialisation import rematerialised

jax = pytest.importorskip("jax")
print_saved_residuals: Any = importlib.import_module("jax.ad_checkpoint").print_saved_residuals
nnx: Any = importlib.import_module("flax.nnx")
layers: Any = importlib.import_module("resnet_spec_flax.layers")
pytestmark = pytest.mark.xdist_group("flax_networks")

IMAGES = 8
EXACT = 1e-12
"""Of float64. XLA may fuse the second pass otherwise: float32 has other last bits."""
QUICKER = {"xla_backend_optimization_level": 0}
AGAIN = RECIPE.model_copy(update={"remat": "all", "batch": 2 * IMAGES})


@cache
def plan_of(again: bool) -> Plan:
    fields, size = CASES["tiny"]
    plan = lower(Spec(classes=4, **fields | {"stages": [{"width": 8, "blocks": 2}]}), size)
    return rematerialised(plan, AGAIN) if again else plan


@cache
def session_of(again: bool) -> Any:
    return backend.Session(plan_of(again), AGAIN, device="cpu", precision="float64")


def program_of(session: Any) -> tuple[Any, Any]:
    """Return a session's functions, and what `backward` takes."""
    session.load(state_of(plan_of(False)))
    program, weights = session._program()
    batch = batch_of(plan_of(False), 0, IMAGES)
    (inputs,) = session._parts(batch, 1, session._others)
    return program, (weights, session._slots.loss_scale, inputs)


@cache
def passed(again: bool) -> tuple[State, int]:
    """Return what a backward pass gives, and the bytes that it takes for itself."""
    session = session_of(again)
    with session._settings():
        program, given = program_of(session)
        compiled = program.backward.lower(*given).compile(QUICKER)
        statistics, sums = compiled(*given)
    found = {"loss": sums.loss, **statistics, **sums.gradients}
    taken = compiled.memory_analysis().temp_size_in_bytes
    return {name: np.asarray(array) for name, array in found.items()}, taken


def test_the_backward_pass_gives_the_same_in_less_memory() -> None:
    assert len(plan_of(True).remat) == 2
    (plain, much), (again, less) = (passed(kind) for kind in (False, True))
    assert_states_close(again, plain, EXACT)
    assert less < 0.8 * much, (less, much)


def saved_by(again: bool, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what is kept of the forward pass, a line each, but for what is given anyway."""
    session = session_of(again)
    with session._settings():
        program, given = program_of(session)
        loss_of, trained, images = program._loss_of(
            *given, lambda _: lambda logits, loss: (logits, loss)
        )
        capsys.readouterr()
        print_saved_residuals(loss_of, trained, images)
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if " from the argument " not in line]


def test_fewer_activations_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    kept, fewer = saved_by(False, capsys), saved_by(True, capsys)
    assert 0 < len(fewer) < len(kept) / 2


def test_the_module_is_the_same() -> None:
    plain, again = (session_of(kind).native for kind in (False, True))
    assert nnx.graphdef(plain) == nnx.graphdef(again)
    assert not any(getattr(node, "is_computed_again", False) for _, node in nnx.iter_graph(again))


def wrong_remat(output: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """As `nnx.remat` of a framework whose second pass draws anew and counts again."""

    def run(block: Any, x: Any) -> Any:
        y = output(block, x)
        for _, node in nnx.iter_graph(block):
            if isinstance(node, layers.NoiseLayer):
                node.noise = layers.Noise(node.noise[...][::-1])
        again = output(block, x)
        return jax.lax.stop_gradient(y - again) + again

    return run


def test_statistics_that_enter_twice_and_other_noise_are_seen() -> None:
    session = session_of(True)
    with session._settings(), patch.object(nnx, "remat", wrong_remat):
        program, given = program_of(session)
        # As a function of its own: JAX knows `backward` by now.
        lowered = jax.jit(lambda *given: program._backward(*given)).lower(*given)
        statistics, sums = lowered.compile(QUICKER)(*given)
    right = passed(True)[0]
    assert_close(sums.loss, right["loss"], EXACT, "loss")
    for name, wrong in (
        ("layer1.0.bn1.running_mean", statistics),
        ("layer1.0.conv1.weight", sums.gradients),
    ):
        with pytest.raises(AssertionError, match=r"e[+-]0\d > "):
            assert_close(wrong[name], right[name], EXACT, name)


def test_stages_are_named_from_the_first() -> None:
    fields, size = CASES["bottleneck"]
    plan = lower(Spec(classes=4, **fields), size)
    recipe = AGAIN.model_copy(update={"remat": "stages=1"})
    assert rematerialised(plan, recipe).remat == ("layer1.0", "layer1.1")
    assert replace(rematerialised(plan, recipe), remat=()) == plan


def test_one_pass_of_blocks_that_are_computed_again_tells_its_outputs() -> None:
    batch = batch_of(plan_of(False), 0, IMAGES)
    found: list[State] = []
    for again in (False, True):
        session = session_of(again)
        session.load(state_of(plan_of(False)))
        loss, gradients, by_images, outputs = session.gradients_with_outputs(batch)
        told = {f"output {name}": array for name, array in outputs}
        assert [name.split()[1] for name in told] == list(plan_of(again).observed)
        found.append({"loss": np.array(loss), "input": by_images, **gradients, **told})
    assert_states_close(found[1], found[0], EXACT)
