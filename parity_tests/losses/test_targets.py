"""What logits are compared with: labels, mixed, smoothed, cut at a threshold, weighted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch, Mix
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.errors import BackendError, RecipeError
from resnet_spec.losses import Loss, native_loss, targets_of
from resnet_spec.recipe import Recipe
from resnet_spec.session_steps import compared_with, shares_of

IMAGES = np.zeros((2, 4, 4, 3), np.uint8)
MIXED = Batch(
    IMAGES,
    labels=np.array([0, 2]),
    indices=np.arange(2),
    mix=Mix(labels=np.array([1, 2]), share=np.array([0.25, 0.25])),
)
PLAIN = replace(MIXED, mix=None)


def recipe(**fields: Any) -> Recipe:
    return Recipe(**{"steps": 1, "batch": 2, **fields})


def targets(batch: Batch, **fields: Any) -> list[list[float]]:
    found = compared_with(batch, recipe(**fields), 3)[1]
    assert found is not None
    return found.tolist()


def test_a_mixed_image_is_of_both_classes() -> None:
    assert targets(MIXED, augment={"mixup": 0.2}) == [[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]
    assert shares_of(MIXED, 3).sum(1).tolist() == [1.0, 1.0]


def test_smoothing_comes_after_mixing() -> None:
    found = np.array(targets(MIXED, augment={"cutmix": 1.0}, label_smoothing=0.3))
    assert found == pytest.approx(np.array([[0.275, 0.625, 0.1], [0.1, 0.1, 0.8]]))


def test_a_threshold_makes_targets_of_0_and_1() -> None:
    loss = {"kind": "binary_cross_entropy", "threshold": 0.2}
    more = {"augment": {"mixup": 0.2}, "label_smoothing": 0.3}
    assert targets(MIXED, loss=loss, **more) == [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    # Above, not at: 0.25 is not above 0.25.
    equal = {"kind": "binary_cross_entropy", "threshold": 0.25}
    assert targets(MIXED, loss=equal, augment={"mixup": 0.2})[0] == [0.0, 1.0, 0.0]


def test_class_weights_are_factors_on_targets() -> None:
    loss = {"class_weights": [1.0, 2.0, 0.5]}
    assert targets(MIXED, loss=loss, augment={"mixup": 0.2}) == [[0.25, 1.5, 0.0], [0.0, 0.0, 0.5]]


def test_a_recipe_of_labels_has_no_targets() -> None:
    assert compared_with(PLAIN, recipe(), 3)[1] is None
    assert compared_with(PLAIN, None, 3)[1] is None
    assert targets(PLAIN, augment={"mixup": 0.2}) == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


def test_the_label_of_a_mixed_image_is_that_of_its_greater_part() -> None:
    assert compared_with(MIXED, recipe(augment={"mixup": 0.2}), 3)[0].tolist() == [1, 2]


@pytest.mark.parametrize("given", [None, recipe(), recipe(label_smoothing=0.1)])
def test_mixed_images_are_refused_by_a_recipe_of_labels(given: Recipe | None) -> None:
    with pytest.raises(BackendError, match=r"batch\.mix: is given, and the session's recipe"):
        compared_with(MIXED, given, 3)


@pytest.mark.parametrize(
    ("mix", "line"),
    [
        (Mix(np.array([1, 3]), np.array([0.5, 0.5])), "batch.mix.labels = 3: must be in 0..2"),
        (Mix(np.array([1]), np.array([0.5, 0.5])), "batch.mix.labels = int64 [1]: must be whole"),
        (Mix(np.array([1, 1]), np.array([0.5])), "batch.mix.share: must be 2 numbers in 0..1"),
        (Mix(np.array([1, 1]), np.array([0.5, 1.5])), "batch.mix.share: must be 2 numbers"),
        (Mix(np.array([1, 1]), np.array([0.5, np.nan])), "batch.mix.share: must be 2 numbers"),
    ],
)
def test_what_is_mixed_in_is_checked(mix: Mix, line: str) -> None:
    with pytest.raises(BackendError) as error:
        compared_with(replace(MIXED, mix=mix), recipe(augment={"mixup": 0.2}), 3)
    assert str(error.value).startswith(line)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["loss.kind=focal"], "loss.kind = \"focal\": must be 'cross_entropy' or 'binary"),
        (["loss.threshold=0.2"], "loss.threshold = 0.2: cross_entropy has no threshold"),
        (
            ["loss.kind=binary_cross_entropy", "loss.class_weights=[1.0, 2.0]"],
            "loss.class_weights = [1.0, 2.0]: binary_cross_entropy has no class weights",
        ),
        (["loss.class_weights=[0.0, 0.0]"], "loss.class_weights = [0.0, 0.0]: must not all be 0"),
        (["loss.class_weights=[-1.0]"], "loss.class_weights[0] = -1.0: must be >= 0"),
        (["augment.mixup=5.0"], "augment.mixup = 5.0: must be <= 4"),
        (["augment.mixup=1e-300"], "augment.mixup = 1e-300: must be 0 or at least 0.001"),
        (["augment.cutmix=0.0009"], "augment.cutmix = 0.0009: must be 0 or at least 0.001"),
        (["loss.class_weights=[1e30]"], "loss.class_weights[0] = 1e+30: must be <= 1000000.0"),
        (["augment.cutmix=-0.1"], "augment.cutmix = -0.1: must be >= 0"),
        (["augment.mix_probability=1.5"], "augment.mix_probability = 1.5: must be <= 1"),
        (["augment.mixupp=0.2"], "augment.mixupp = 0.2: unknown"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: list[str], line: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe("demo", settings)
    assert str(error.value).startswith(line)


def test_as_many_class_weights_as_classes() -> None:
    assert Loss(class_weights=(1.0, 2.0)).problem_with(2) is None
    wrong = Loss(class_weights=(1.0, 2.0)).problem_with(3)
    assert wrong == "loss.class_weights = 2 numbers: must be 3, one for each class"


@pytest.mark.parametrize(
    ("threshold", "smoothing", "line"),
    [
        (0.01, 0.1, None),
        (0.0099, 0.1, "every target would be 1, for all are 0.01 or more by label_smoothing"),
        (0.909, 0.1, None),
        (0.911, 0.1, "no target would be 1, for all are 0.91 or less by label_smoothing; lower it"),
        (0.0, 0.0, None),
        (0.999, 0.0, None),
    ],
)
def test_a_threshold_that_tells_no_class_from_others_is_refused(
    threshold: float, smoothing: float, line: str | None
) -> None:
    loss = Loss(kind="binary_cross_entropy", threshold=threshold)
    told = targets_of(loss, smoothing, np.eye(1, 10))[0]
    wrong = loss.problem_with(10, smoothing)
    assert (wrong is None) == (told.tolist() == [1.0] + [0.0] * 9)
    assert line is None or (wrong is not None and line in wrong)
    assert Loss(kind="binary_cross_entropy", threshold=0.2).problem_with(1, 0.5) is None


def test_a_kind_that_a_backend_lacks_is_named() -> None:
    with pytest.raises(
        BackendError, match=r"loss\.kind = cross_entropy: is not one of x's; choose from a"
    ):
        native_loss(Loss(), {"a": lambda: 0}, "x")


def test_recipes_come_back_from_dicts() -> None:
    made = recipe(
        loss={"kind": "binary_cross_entropy", "threshold": 0.2},
        augment={"mixup": 0.1, "cutmix": 1.0, "switch_probability": 0.25},
    )
    assert Recipe.from_dict(made.to_dict()) == made
    assert made.needs_targets
    assert not recipe(augment={"mixup": 0.1, "mix_probability": 0.0}).needs_targets
