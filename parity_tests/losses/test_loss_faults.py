"""Faults in losses and mixed labels, planted in one side: each is found, and named."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from backend_modules import module_of
from changes import recipe

from resnet_spec.describing.spec import Spec
from resnet_spec.loader import installed_backends
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise import search
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.planning.lowering import lower

BACKEND = "torch" if "torch" in installed_backends() else "numpy"
MIXED: dict[str, Any] = {"augment": {"mixup": 0.8}}
BINARY: dict[str, Any] = {
    "augment": {"mixup": 0.8},
    "loss": {"kind": "binary_cross_entropy", "threshold": 0.15},
    "label_smoothing": 0.0,
}
WEIGHTED: dict[str, Any] = {"loss": {"class_weights": [0.5, 1.0, 3.0]}}
TAUGHT: dict[str, Any] = {
    "augment": {"mixup": 0.8},
    "loss": {"teacher": "nobody", "teacher_weight": 0.7, "temperature": 4.0},
}
RECIPES = {"mixed": MIXED, "binary": BINARY, "weighted": WEIGHTED, "taught": TAUGHT}


@cache
def setup(name: str) -> Setup:
    spec = Spec(
        name="tiny",
        classes=3,
        block="basic",
        stem={"widths": [4], "kernel": 3, "stride": 1, "pool": False},
        stages=[{"width": 4, "blocks": 1}],
    )
    return make_setup(lower(spec, 8), make_recipe(1, 4, **RECIPES[name]))


@cache
def floors(name: str) -> Floors:
    return Floors(reference_of(setup(name)), "float32")


def named(name: str, changed: Setup) -> tuple[str, str]:
    """Return the cause that is named of a side with another setup, and its detail."""
    finding = search("backward", Side(BACKEND, changed), floors(name))
    assert finding is not None
    assert finding.node == "loss"
    return finding.cause, finding.detail.partition(": ")[2]


def remixed(given: Setup, change: Any) -> Setup:
    """Change what the first batch says of its mixed images."""
    first, *rest = given.batches
    assert first.mix is not None
    return replace(given, batches=(replace(first, mix=change(first.mix)), *rest))


def retaught(change: Any) -> Any:
    """Change the teacher's logits of the first batch."""

    def changed(given: Setup) -> Setup:
        first, *rest = given.batches
        assert first.teacher is not None
        return replace(given, batches=(replace(first, teacher=change(first.teacher)), *rest))

    return changed


@pytest.mark.parametrize("name", ["mixed", "binary", "taught"])
def test_a_sound_side_has_no_finding(name: str) -> None:
    assert search("backward", Side(BACKEND, setup(name)), floors(name)) is None


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            lambda mix: replace(mix, share=1.0 - mix.share),
            "the two labels of an image are swapped",
        ),
        (lambda mix: None, "the label of an image's own part alone"),
        (
            lambda mix: replace(mix, share=np.full_like(mix.share, 0.5)),
            "both labels count the same",
        ),
    ],
)
def test_labels_that_are_mixed_otherwise_are_named(change: Any, detail: str) -> None:
    assert named("mixed", remixed(setup("mixed"), change)) == ("mixed labels", detail)


@pytest.mark.parametrize(
    ("name", "change", "cause", "detail"),
    [
        ("mixed", recipe(label_smoothing=0.0), "label smoothing form", "smoothing 0 instead"),
        (
            "mixed",
            recipe(loss={"kind": "binary_cross_entropy"}),
            "loss kind",
            "binary cross-entropy, not cross-entropy",
        ),
        ("binary", recipe(loss={"threshold": None}), "loss threshold", "targets are taken as"),
        ("weighted", recipe(loss={"class_weights": []}), "class weights", "all classes count"),
        ("taught", recipe(loss={"temperature": 1.0}), "temperature", "1 in the place of 4"),
        (
            "taught",
            recipe(loss={"teacher_weight": 0.3}),
            "teacher's weight",
            "0.7 is the labels' part, not the teacher's",
        ),
        ("taught", recipe(loss={"teacher_weight": 0.0}), "teacher's weight", "the labels alone"),
        ("taught", retaught(lambda it: it[::-1]), "teacher's logits", "those of another image"),
        (
            "taught",
            retaught(lambda it: np.roll(it, 1, axis=0)),
            "teacher's logits",
            "those of another image",
        ),
        ("taught", recipe(label_smoothing=0.0), "label smoothing form", "smoothing 0 instead"),
        (
            "taught",
            recipe(loss={"kind": "binary_cross_entropy"}),
            "loss kind",
            "binary cross-entropy, not cross-entropy",
        ),
    ],
)
def test_a_setting_that_is_otherwise_is_named(
    name: str, change: Any, cause: str, detail: str
) -> None:
    found = named(name, change(setup(name)))
    assert found[0] == cause
    assert found[1].startswith(detail)


def test_binary_cross_entropy_as_cross_entropy_is_named() -> None:
    change = recipe(loss={"kind": "cross_entropy", "threshold": None})
    assert named("binary", change(setup("binary"))) == (
        "loss kind",
        "cross-entropy, not binary cross-entropy",
    )


@pytest.mark.parametrize(
    ("name", "factor", "cause", "detail"),
    [
        ("binary", 3.0, "loss summed", "the sum over the classes, not the mean"),
        ("binary", 4.0, "loss summed", "the sum over the batch, not the mean"),
    ],
)
def test_a_sum_in_the_place_of_a_mean_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, factor: float, cause: str, detail: str
) -> None:
    losses = module_of("numpy", "losses")

    right = losses.LOSSES["binary_cross_entropy"]

    def summed(*given: Any) -> tuple[float, Any]:
        loss, gradient = right(*given)
        return factor * loss, factor * gradient

    expected = Floors(reference_of(setup(name)), "float32")
    assert search("backward", Side("numpy", setup(name)), expected) is None
    monkeypatch.setitem(losses.LOSSES, "binary_cross_entropy", summed)
    finding = search("backward", Side("numpy", setup(name)), expected)
    assert finding is not None
    assert (finding.cause, finding.detail) == (cause, f"{cause}: {detail}")


def test_a_mean_over_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = module_of("numpy", "losses")

    given = replace(setup("weighted"), recipe=recipe(label_smoothing=0.0)(setup("weighted")).recipe)
    right = losses.LOSSES["cross_entropy"]
    expected = Floors(reference_of(given), "float32")
    assert search("backward", Side("numpy", given), expected) is None

    def weighted(logits: Any, targets: Any) -> tuple[float, Any]:
        loss, gradient = right(logits, targets)
        return loss * len(targets) / targets.sum(), gradient * len(targets) / targets.sum()

    monkeypatch.setitem(losses.LOSSES, "cross_entropy", weighted)
    finding = search("backward", Side("numpy", given), expected)
    assert finding is not None
    assert finding.detail == (
        "class weights: the mean is over the weights of the images, not over the images"
    )


def test_a_square_that_is_left_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = module_of("numpy", "losses")

    def unsquared(logits: Any, hard: Any, soft: Any, loss: Any) -> tuple[float, Any]:
        weight, heat = loss.teacher_weight, loss.temperature
        value, gradient = losses.cross_entropy(logits / heat, soft)
        total = (1.0 - weight) * hard[0] + weight * value
        return total, (1.0 - weight) * hard[1] + weight / heat * gradient

    expected = floors("taught")
    assert search("backward", Side("numpy", setup("taught")), expected) is None
    monkeypatch.setattr(losses, "distilled", unsquared)
    finding = search("backward", Side("numpy", setup("taught")), expected)
    assert finding is not None
    detail = "the teacher's part is not multiplied by the square of 4"
    assert (finding.cause, finding.detail) == ("temperature", f"temperature: {detail}")
