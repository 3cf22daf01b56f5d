"""Blocks that run again in the backward pass: the same bits, and less that is kept."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
from several import Found
from small_plans import PRE_ACTIVATION, small_plan
from torch_by_hand import assert_close, assert_identical

from resnet_spec.loader import load_backend
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.plan import Plan

torch = pytest.importorskip("torch")
backend: Any = load_backend("torch")
remat: Any = pytest.importorskip("resnet_spec_torch.rematerialisation")

pytestmark = pytest.mark.xdist_group("torch_remat")

NOISY = "noise"
CASES: dict[str, dict[str, Any]] = {
    NOISY: PRE_ACTIVATION,
    "squeezed": {"squeeze": 0.25, "stochastic_depth": 0.5},
    "biased": {"norm": {"variance": "biased"}},
}
STEPS, IMAGES = 2, 8


def plan_of(case: str) -> Plan:
    return small_plan(CASES[case])


def again(plan: Plan) -> Plan:
    """Return `plan` with every block computed again."""
    return replace(plan, remat=tuple(block.name for block in plan.blocks))


def setup_of(plan: Plan) -> Setup:
    recipe = make_recipe(STEPS, IMAGES, accumulate=2, ema={"decay": 0.9})
    return make_setup(plan, recipe)


def session_of(plan: Plan, precision: str = "float32", **more: Any) -> Any:
    setup = setup_of(plan)
    session = backend.Session(plan, setup.recipe, device="cpu", precision=precision, **more)
    session.load(setup.state)
    return session


def trained(plan: Plan, precision: str = "float32", **more: Any) -> Found:
    """Return gradients, and all that two steps lead to, counters and losses too."""
    setup, session = setup_of(plan), session_of(plan, precision, **more)
    loss, gradients = session.gradients(setup.batches[0])
    found = {f"gradient/{name}": array for name, array in gradients.items()}
    log = session.train(setup.batches, setup.rates)
    buffers = {f"buffer/{k}": b.numpy().copy() for k, b in session.native.named_buffers()}
    found |= session.state() | buffers
    return found | {"losses": np.array([loss, *log.loss]), "correct": log.correct}


@cache
def kept(case: str, precision: str) -> Found:
    """Return the same of a session that keeps every activation."""
    return trained(plan_of(case), precision)


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        (NOISY, "float32"),
        (NOISY, "bfloat16"),
        (NOISY, "float16"),
        ("biased", "float64"),
        ("squeezed", "float32"),
    ],
)
def test_all_is_that_of_kept_activations_to_the_bit(case: str, precision: str) -> None:
    assert_identical(trained(again(plan_of(case)), precision), kept(case, precision))


def test_only_what_is_named_runs_again() -> None:
    plan = again(plan_of(NOISY))
    first, *others = plan.remat
    session = session_of(replace(plan, remat=(first,)))
    kinds = [type(session.native.get_submodule(name)) for name in (first, *others)]
    assert kinds == [remat.RematerialisedBlock] + [remat.ResidualBlock] * len(others)


def test_the_native_module_has_the_names_of_every_other() -> None:
    plan = plan_of(NOISY)
    native, other = session_of(again(plan)).native, backend.build(plan)
    assert list(native.state_dict()) == list(other.state_dict())
    assert [name for name, _ in native.named_modules()] == [n for n, _ in other.named_modules()]
    built = backend.build(again(plan))
    assert not any(isinstance(part, remat.RematerialisedBlock) for part in built.modules())


def test_noise_that_the_native_module_draws_is_drawn_once() -> None:
    """A person's own loop hands no noise: the second run draws that of the first again."""

    def gradient(plan: Plan) -> Any:
        native = session_of(plan).native.train()
        torch.manual_seed(3)
        native(torch.ones(4, 3, plan.input.height, plan.input.width)).sum().backward()
        return native.get_parameter(plan.trainable[0]).grad, torch.rand(())

    plan = plan_of(NOISY)
    for mine, yours in zip(gradient(again(plan)), gradient(plan), strict=True):
        assert torch.equal(mine, yours)


def bytes_kept(plan: Plan) -> int:
    """Return the bytes of what a forward pass keeps for the backward pass, each once."""
    session, stored = session_of(plan), dict[int, Any]()

    def pack(tensor: Any) -> Any:
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    native = session.native.train()
    images = torch.ones(4, 3, plan.input.height, plan.input.width)
    weights = {tensor.untyped_storage().data_ptr() for tensor in native.state_dict().values()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = native(images)
    assert output.requires_grad
    return sum(it.nbytes() for place, it in stored.items() if place not in weights)


def test_less_is_kept() -> None:
    """Measured: 0.47 of it, the inputs of three blocks, and all of stem and head."""
    plan = plan_of(NOISY)
    assert bytes_kept(again(plan)) < 0.5 * bytes_kept(plan)


@pytest.mark.parametrize(
    ("fault", "where"),
    [("statistics move twice", ".running_"), ("other noise", "gradient/"), ("", "nowhere")],
)
def test_a_fault_is_seen(fault: str, where: str) -> None:
    class NoiseOfItsOwn(remat.SecondRun):
        def __enter__(self) -> None:
            super().__enter__()
            for op, noise in self._first.noise.items():
                op.noise = noise.flip(0)

    planted: Any = {
        "statistics move twice": mock.patch.object(remat, "unchanged", nullcontext),
        "other noise": mock.patch.object(remat, "SecondRun", NoiseOfItsOwn),
        "": nullcontext(),
    }[fault]
    with planted:
        found = trained(again(plan_of(NOISY)))
    expected = kept(NOISY, "float32")
    wrong = [name for name in expected if not np.array_equal(found[name], expected[name])]
    assert bool(wrong) == bool(fault)
    assert not fault or any(where in name for name in wrong)


# torch 2.13's compiler, as it is imported, calls what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.thorough
def test_compiled_it_is_the_same_to_rounding() -> None:
    found, expected = (
        trained(again(plan_of("biased")), "float64", compile=True),
        kept("biased", "float64"),
    )
    for name, array in expected.items():
        assert_close(found[name], array, 1e-12, name)
