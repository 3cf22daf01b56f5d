"""The reference's training against a loop by hand, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy_networks import NETWORKS, assert_equal, batch_of, plan_of, session_of, state_of
from numpy_ops import relative
from resnet_spec_numpy.session import Session

from resnet_spec import ops
from resnet_spec.contract import Batch, State
from resnet_spec.errors import BackendError
from resnet_spec.plan import Plan
from resnet_spec.planning.dataflow import steps
from resnet_spec.planning.rematerialisation import rematerialised
from resnet_spec.recipe import Recipe


def recipe_of(**fields: Any) -> Recipe:
    return Recipe(**{"steps": 3, "batch": 4, "label_smoothing": 0.1, **fields})


RECIPES = {
    "no momentum": recipe_of(optimizer={"momentum": 0.0, "weight_decay": 0.1}),
    "momentum": recipe_of(
        optimizer={"weight_decay": 0.1, "decay_norms": False, "decay_biases": False}
    ),
    "nesterov": recipe_of(optimizer={"nesterov": True, "weight_decay": 0.1}),
    "accumulate": recipe_of(accumulate=2, ema={"decay": 0.8}),
}
RATES = np.array([0.1, 0.03, 0.05])


def by_hand(plan: Plan, recipe: Recipe, batches: list[Batch]) -> tuple[State, list[float]]:
    """Return the state and losses after len(RATES) steps, from gradients and activations alone."""
    optimizer, decay, half = recipe.optimizer, recipe.ema.decay, 4 // recipe.accumulate
    roles = {t.name: t.role for t in plan.tensors}
    weights, losses = state_of(plan), []
    velocity = {name: np.zeros_like(weights[name]) for name in plan.trainable}
    average = {name: array.copy() for name, array in weights.items()}
    for rate, batch in zip(RATES, batches, strict=True):
        total, loss = dict.fromkeys(plan.trainable, 0.0), 0.0
        for start in range(0, 4, half):
            rows = slice(start, start + half)
            part = replace(batch, images=batch.images[rows], labels=batch.labels[rows])
            fixed = Session(plan, recipe_of(), precision="float64")
            fixed.load(weights)
            part_loss, gradients = fixed.gradients(part)
            loss += part_loss / recipe.accumulate
            total = {n: g + gradients[n] / recipe.accumulate for n, g in total.items()}
            weights |= statistics_by_hand(plan, weights, dict(fixed.activations(part, train=True)))
        losses.append(loss)
        for name in plan.trainable:
            is_norm, is_bias = roles[name].startswith("norm"), roles[name] == "bias"
            spared = (is_norm and not optimizer.decay_norms) or (
                is_bias and not optimizer.decay_biases
            )
            g = total[name] + (0.0 if spared else optimizer.weight_decay) * weights[name]
            velocity[name] = optimizer.momentum * velocity[name] + g
            move = g + optimizer.momentum * velocity[name]
            weights[name] = weights[name] - rate * (move if optimizer.nesterov else velocity[name])
        average = {n: decay * a + (1 - decay) * weights[n] for n, a in average.items()}
    if optimizer.momentum:
        weights |= {f"momentum/{n}": v for n, v in velocity.items()}
    return weights | ({f"ema/{n}": a for n, a in average.items()} if decay else {}), losses


def statistics_by_hand(plan: Plan, weights: State, outputs: State) -> State:
    new: State = {}
    for step in steps(plan):
        if isinstance(step.node, ops.Norm):
            x, op = outputs[step.inputs[0].name], step.node
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
            for t, value in ((op.running_mean, mean), (op.running_var, var)):
                new[t.name] = op.decay * weights[t.name] + (1 - op.decay) * value
    assert new
    return new


def check_training(given: Recipe, meant: Recipe) -> None:
    """Compare a session that trains by `given` with the loop above under `meant`."""
    plan = plan_of("basic")
    session, batches = session_of(plan, given), [batch_of(plan, seed=s) for s in range(3)]
    log = session.train(batches, RATES)
    expected, losses = by_hand(plan, meant, batches)
    assert relative(log.loss, losses) <= 1e-12
    got = session.state()
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert relative(got[name], array) <= 1e-10, name


@pytest.mark.parametrize("case", RECIPES)
def test_training_agrees_with_a_loop_by_hand(case):
    check_training(RECIPES[case], RECIPES[case])


def _changed(case: str, **changes: Any) -> Recipe:
    fields = RECIPES[case].to_dict()
    return Recipe.from_dict(
        {
            **fields,
            **{k: {**fields[k], **v} if isinstance(v, dict) else v for k, v in changes.items()},
        }
    )


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("momentum", {"optimizer": {"momentum": 0.9001}}),
        ("momentum", {"optimizer": {"decay_norms": True}}),
        ("momentum", {"optimizer": {"decay_biases": True}}),
        ("momentum", {"label_smoothing": 0.1001}),
        ("no momentum", {"optimizer": {"weight_decay": 0.1001}}),
        ("nesterov", {"optimizer": {"nesterov": False}}),
        ("accumulate", {"accumulate": 1}),
        ("accumulate", {"ema": {"decay": 0.8001}}),
    ],
)
def test_another_recipe_is_seen(case, changes):
    with pytest.raises(AssertionError):
        check_training(_changed(case, **changes), RECIPES[case])


def test_train_takes_no_batch_too_many_and_reports_each_step():
    plan = plan_of("basic")
    session = session_of(plan, recipe_of())
    batches = iter([batch_of(plan, seed=s) for s in range(3)])
    logits = dict(session.activations(batch_of(plan, seed=0), train=True))["fc"]
    log = session.train(batches, RATES[:2])
    assert len(list(batches)) == 1
    assert log.count.tolist() == [4, 4]
    assert log.correct[0] == (logits.argmax(1) == batch_of(plan, seed=0).labels).sum()
    assert (log.loss.dtype, log.correct.dtype) == (np.float64, np.int64)


def test_blocks_to_be_computed_again_change_nothing():
    plan = plan_of(next(iter(NETWORKS)))
    again = rematerialised(plan, recipe_of(remat="all"))
    assert again.remat and not plan.remat
    states: list[State] = []
    for one in (plan, again):
        session = session_of(one, recipe_of())
        session.train(iter([batch_of(one)]), RATES[:1])
        states.append(session.state())
    assert_equal(*states)


def test_a_run_that_diverges_ends_in_its_losses_without_a_warning():
    plan = plan_of("basic")
    session = session_of(plan, recipe_of())
    log = session.train([batch_of(plan, seed=s) for s in range(6)], np.full(6, 1e200))
    assert not np.isfinite(log.loss).all()


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(BackendError) as caught:
        action()
    (line,) = caught.value.problems
    return line


def test_devices_and_precisions_that_cannot_be_had():
    plan = plan_of("basic")
    assert refused(lambda: Session(plan, device="cuda")) == (
        "device = cuda: is not one of numpy's; use auto, cpu"
    )
    wrong: Any = "float46"
    assert refused(lambda: Session(plan, precision=wrong)) == (
        "precision = float46: is not one of numpy's; did you mean 'float64'?"
    )


def test_noise_that_is_missing_or_misshapen():
    plan = plan_of("pre_activation")
    session, batch = session_of(plan, recipe_of()), batch_of(plan)
    names = ", ".join(op.name for op in plan.noises)
    silent = replace(batch, noise={})
    for action in (
        lambda: session.gradients(silent),
        lambda: session.activations(silent, train=True),
        lambda: session.train([silent], RATES[:1]),
    ):
        assert refused(action) == f"batch.noise: lacks {names}, which training needs"
    next(session.predict([silent]))
    short = replace(batch, noise={**batch.noise, "head.drop": np.ones((4, 3), np.float32)})
    assert refused(lambda: session.gradients(short)) == (
        "batch.noise['head.drop'] = [4, 3]: must have shape [4, 32]"
    )


def test_batches_that_do_not_fit():
    plan = plan_of("basic")
    session, batch = session_of(plan, RECIPES["accumulate"]), batch_of(plan)
    for label in (-1, 5):
        labels = np.array([0, label, 1, 2])
        wrong = replace(batch, labels=labels)
        line = f"batch.labels = {label}: must be in 0..4 in training"
        assert refused(lambda w=wrong: session.gradients(w)) == line
        next(session.predict([wrong]))
    assert "must have shape [4, 9, 9, 3]" in refused(
        lambda: next(session.predict([replace(batch, images=batch.images[:, 1:])]))
    )
    assert refused(lambda: session.train([batch_of(plan, 3)], RATES[:1])) == (
        "batch = 3: must be a multiple of accumulate = 2"
    )
    assert refused(lambda: session.train([batch], RATES)) == (
        "batches = 1: must hold one batch for each of 3 rates"
    )
    assert "needs one" in refused(lambda: session_of(plan).train([batch], RATES[:1]))
    tiny = plan_of("basic", size=1)
    assert "has no variance" in refused(lambda: session_of(tiny).gradients(batch_of(tiny, 1)))
