"""What a teacher adds to a loss: its settings, its targets, and its equation in every backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_modules import module_of
from cases import CASES

from resnet_spec.contract import Batch
from resnet_spec.data.batches import share_of, taken
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.errors import BackendError, RecipeError
from resnet_spec.group import Group
from resnet_spec.loader import installed_backends
from resnet_spec.losses import Loss, soft_targets
from resnet_spec.parity.setup import make_recipe, make_setup
from resnet_spec.recipe import Recipe
from resnet_spec.running import opening
from resnet_spec.running.opening import check_trains
from resnet_spec.session_steps import Intake, Part, compared_with

FRAMEWORKS = [name for name in installed_backends() if name in ("torch", "flax", "mindspore")]
EVERYWHERE = [*FRAMEWORKS, "numpy"]
DRAW = np.random.default_rng(0)
LOGITS, TEACHER = (2.0 * DRAW.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
BATCH = Batch(np.zeros((4, 4, 4, 3), np.uint8), np.array([0, 2, 1, 1]), np.arange(4))
TAUGHT = replace(BATCH, teacher=TEACHER)


def recipe(**loss: Any) -> Recipe:
    return Recipe(steps=1, batch=4, loss=Loss(teacher="t", **loss))


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["loss.temperature=4.0"], "loss.temperature = 4.0: there is no teacher; give loss.teach"),
        (["loss.teacher_weight=0.9"], "loss.teacher_weight = 0.9: there is no teacher; give loss"),
        ([f"loss.teacher_digest=xxh3-128:{'0' * 32}"], "loss.teacher_digest = xxh3-128:00000"),
        (["loss.teacher=t", "loss.temperature=0"], "loss.temperature = 0: must be >= 0.01"),
        (["loss.teacher=t", "loss.temperature=-2"], "loss.temperature = -2: must be >= 0.01"),
        (["loss.teacher=t", "loss.temperature=inf"], "loss.temperature = Infinity: must be a fin"),
        (["loss.teacher=t", "loss.teacher_weight=1.5"], "loss.teacher_weight = 1.5: must be <= 1"),
        (["loss.teacher=t", "loss.teacher_weight=-1"], "loss.teacher_weight = -1: must be >= 0"),
        (["loss.teacher=t", "loss.teacher_digest=1"], "loss.teacher_digest = 1: must be a text"),
        (["loss.teacher=t", "loss.teacher_digest=a"], 'loss.teacher_digest = "a": must be '),
        (["loss.teacher=3"], "loss.teacher = 3: must be a text in quotes"),
        (["loss.teachers=t"], "loss.teachers = \"t\": unknown key; did you mean 'teacher'?"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: list[str], line: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe("demo", settings)
    assert str(error.value).startswith(line)


def test_recipes_come_back_and_compare_with_targets() -> None:
    made = load_recipe("demo", ["loss.teacher=runs/a", "loss.temperature=4"])
    assert Recipe.from_dict(made.to_dict()) == made
    assert made.needs_targets and not load_recipe("demo").needs_targets
    assert (made.loss.teacher, made.loss.teacher_weight, made.loss.temperature) == (
        "runs/a",
        0.5,
        4,
    )


def test_another_teacher_leaves_the_digest_of_the_one_before() -> None:
    known = load_recipe("demo", ["loss.teacher=a", f"loss.teacher_digest=xxh3-128:{'0' * 32}"])
    assert load_recipe(known, ["loss.temperature=2"]).loss.teacher_digest is not None
    other = load_recipe(known, ["loss.teacher=b"])
    assert (other.loss.teacher, other.loss.teacher_digest) == ("b", None)


# --- What logits are compared with ----------------------------------------------------------------


def test_soft_targets_are_the_teacher_s_probabilities_at_the_temperature() -> None:
    found = soft_targets(recipe(temperature=4.0).loss, TEACHER)
    powers = np.exp(TEACHER.astype(np.float64) / 4.0)
    assert found.dtype == np.float64
    assert found == pytest.approx(powers / powers.sum(1, keepdims=True), rel=1e-14)
    large = soft_targets(recipe().loss, np.array([[1e30, -1e30, 0.0]], np.float32))
    assert large.tolist() == [[1.0, 0.0, 0.0]]


def test_soft_targets_stand_beside_those_of_the_labels() -> None:
    labels, targets, soft = compared_with(TAUGHT, recipe(temperature=2.0), 3)
    assert labels.tolist() == [0, 2, 1, 1]
    assert targets is not None and targets.tolist() == np.eye(3)[labels].tolist()
    assert soft is not None
    assert np.array_equal(soft, soft_targets(recipe(temperature=2.0).loss, TEACHER))
    assert compared_with(BATCH, Recipe(steps=1, augment={"mixup": 0.2}), 3).soft is None


@pytest.mark.parametrize(
    ("batch", "given", "line"),
    [
        (TAUGHT, None, "batch.teacher: is given, and the session's recipe has none; set loss.t"),
        (TAUGHT, Recipe(steps=1), "batch.teacher: is given, and the session's recipe has none"),
        (BATCH, recipe(), "batch.teacher: is missing, and the session's recipe has a teacher"),
        (
            replace(BATCH, teacher=TEACHER[:3]),
            recipe(),
            "batch.teacher = float32 [3, 3]: must be floating point of shape [4, 3]",
        ),
        (
            replace(BATCH, teacher=TEACHER.astype(np.int64)),
            recipe(),
            "batch.teacher = int64 [4, 3]: must be floating point of shape [4, 3]",
        ),
    ],
)
def test_a_teacher_s_logits_are_checked(batch: Batch, given: Recipe | None, line: str) -> None:
    with pytest.raises(BackendError) as error:
        compared_with(batch, given, 3)
    assert str(error.value).startswith(line)


def test_parts_and_processes_have_the_logits_of_their_own_images() -> None:
    two = taken(TAUGHT, np.array([3, 1])).teacher
    assert two is not None and np.array_equal(two, TEACHER[[3, 1]])
    shares = [share_of(TAUGHT, Group(rank, 2)).teacher for rank in range(2)]
    assert np.array_equal(np.concatenate(shares), TEACHER)  # pyright: ignore
    setup = make_setup(CASES["plain"].plan, make_recipe(1, loss={"teacher": "t"}))
    (batch,) = setup.batches
    assert batch.teacher is not None and batch.teacher.dtype == np.float32
    parts = Intake(setup.plan, recipe=setup.recipe).parts(batch, 3)
    whole = soft_targets(setup.recipe.loss, batch.teacher)
    assert [len(part.soft) for part in parts] == [2, 2, 2]  # pyright: ignore
    assert np.array_equal(np.concatenate([part.soft for part in parts]), whole)  # pyright: ignore


# --- The equation ---------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"teacher_weight": 0.9, "temperature": 4.0},
    "weighted": {"class_weights": (0.5, 1.0, 3.0), "temperature": 0.5},
    "binary_cross_entropy": {"kind": "binary_cross_entropy", "teacher_weight": 0.25},
    "the teacher alone": {"teacher_weight": 1.0, "temperature": 2.0},
}


def by_torch(logits: Any, loss: Loss) -> Any:
    """Return the loss by torch's own functions, of labels and of probabilities."""
    import torch
    import torch.nn.functional as F

    labels, heat = torch.from_numpy(BATCH.labels), loss.temperature
    if loss.kind == "binary_cross_entropy":
        hard = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels).to(logits.dtype))
    else:
        weights = torch.tensor(loss.class_weights or (1.0, 1.0, 1.0), dtype=logits.dtype)
        hard = F.cross_entropy(logits, labels, weights, reduction="none").mean()
    soft = F.softmax(torch.from_numpy(TEACHER).to(logits.dtype) / heat, dim=1)
    # Hinton et al. 2015, section 2: both cross-entropies, the soft one times T^2.
    by_teacher = F.cross_entropy(logits / heat, soft)
    return (1.0 - loss.teacher_weight) * hard + loss.teacher_weight * heat**2 * by_teacher


def of_reference(given: Recipe) -> tuple[float, Any]:
    part = Part(BATCH.images, *_compared(given))
    return module_of("numpy", "losses").loss_of(given)(LOGITS.astype(np.float64), part)


def _compared(given: Recipe) -> tuple[Any, ...]:
    labels, targets, soft = compared_with(TAUGHT, given, 3)
    return labels, {}, targets, soft


@pytest.mark.parametrize("name", KINDS)
def test_the_reference_is_torch_s_own_functions(name: str) -> None:
    torch = pytest.importorskip("torch")
    given = recipe(**KINDS[name])
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    expected = by_torch(logits, given.loss)
    loss, gradient = of_reference(given)
    assert loss == pytest.approx(expected.item(), rel=1e-14)
    (wanted,) = torch.autograd.grad(expected, logits)
    assert np.abs(gradient - wanted.numpy()).max() <= 1e-15


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_every_backend_s_loss_is_the_reference_s(backend: str, name: str) -> None:
    given = recipe(**KINDS[name])
    labels, _, targets, soft = _compared(given)
    losses, arrays = module_of(backend, "losses"), [it.astype(np.float32) for it in (targets, soft)]
    if backend == "torch":
        import torch

        given_to = [torch.from_numpy(it) for it in (LOGITS, labels, *arrays)]
        found = losses.loss_of(given)(*given_to).item()
    elif backend == "flax":
        found = float(losses.loss_of(given, 3, np.dtype("float32"))(LOGITS, labels, *arrays))
    else:
        import mindspore

        given_to = [mindspore.Tensor(it) for it in (LOGITS, *arrays)]
        found = float(losses.loss_of(given)(*given_to).asnumpy())
    # MindSpore's exponential is off by some twenty roundings.
    assert found == pytest.approx(of_reference(given)[0], rel=1e-5)


def test_without_weight_a_teacher_changes_nothing() -> None:
    plain = Recipe(steps=1, batch=4, augment={"mixup": 0.2})
    labels, targets, _ = compared_with(BATCH, plain, 3)
    part = Part(BATCH.images, labels, {}, targets)
    expected = module_of("numpy", "losses").loss_of(plain)(LOGITS.astype(np.float64), part)
    found = of_reference(recipe(teacher_weight=0.0, temperature=3.0))
    assert found[0] == expected[0] and np.array_equal(found[1], expected[1])


# --- Backends without -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_every_backend_learns_from_a_teacher(backend: str) -> None:
    check_trains(backend, recipe(), 3)


def test_a_backend_that_does_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = opening.manifest_of("numpy")
    assert found is not None
    line = "loss.teacher = t: numpy learns from no teacher; remove it, or use another backend"
    for without in (
        replace(found, teachers=False),
        replace(found, teachers=False, losses=()),
        None,
    ):
        monkeypatch.setattr(opening, "manifest_of", lambda name, told=without: told)
        with pytest.raises(BackendError) as error:
            check_trains("numpy", recipe(), 3)
        assert str(error.value) == line
