"""Top-5 accuracy, calibration error and accuracies of classes, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_not_finite import Saying, Split, said

from resnet_spec.group import Group
from resnet_spec.running.evaluate import evaluate
from resnet_spec.running.measures import calibration_error, class_accuracies, in_top
from resnet_spec.running.together import Together


def test_the_label_is_among_the_five_highest_and_equal_ones_go_by_number() -> None:
    falling = np.array([[6.0, 5, 4, 3, 2, 1]])
    assert [bool(in_top(falling, np.array([i]))[0]) for i in range(6)] == [True] * 5 + [False]
    alike = np.zeros((6, 6))
    assert in_top(alike, np.arange(6)).tolist() == [True] * 5 + [False]
    assert in_top(alike, np.full(6, -1)).tolist() == [False] * 6
    assert in_top(alike, np.arange(6), 1).tolist() == [True] + [False] * 5
    for row in np.random.default_rng(0).integers(0, 3, (50, 8)).astype(float):
        order = (-row).argsort(kind="stable").tolist()
        found = in_top(np.stack([row] * 8), np.arange(8), 3)
        assert np.flatnonzero(found).tolist() == sorted(order[:3])


def test_the_calibration_error_is_the_gap_in_each_bin() -> None:
    # (0.9, 1]: mean confidence 0.95, of 4 images 3 right; (0.4, 0.5]: 0.5 and 1 of 1.
    confidences = np.array([0.95, 0.95, 0.95, 0.95, 0.5])
    right = np.array([True, True, True, False, True])
    expected = (4 * abs(0.75 - 0.95) + abs(1 - 0.5)) / 5
    assert calibration_error(confidences, right, 10) == pytest.approx(expected, abs=1e-12)
    # 0.5 ends a bin of ten, (0.4, 0.5], and is in the middle of one of fifteen.
    pair, mixed = np.array([0.5, 0.51]), np.array([False, True])
    assert calibration_error(pair, mixed, 10) == pytest.approx((0.5 + 0.49) / 2, abs=1e-12)
    assert calibration_error(pair, mixed, 15) == pytest.approx(abs(1 - 1.01) / 2, abs=1e-12)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0
    assert calibration_error(np.array([0.0]), np.array([False])) == 0.0


def test_a_class_without_images_has_no_accuracy() -> None:
    predictions, labels = np.array([0, 0, 1, 2]), np.array([0, 1, 1, -1])
    found = class_accuracies(predictions, labels, 4)
    assert found[:2].tolist() == [1.0, 0.5] and np.isnan(found[2:]).all()


def test_an_evaluation_has_them() -> None:
    logits = [[9.0, 0, 0, 0, 0, -1], [0, 0, 0, 0, 0, -1], [0, 0, 0, 0, 0, 9]]
    found = said(logits, [0, 5, 5])
    assert found.top5 == pytest.approx(2 / 3) and found.accuracy == pytest.approx(2 / 3)
    assert found.class_accuracies[[0, 5]].tolist() == [1.0, 0.5]
    sure = [np.exp(9) / (np.exp(9) + 4 + np.exp(-1)), np.exp(9) / (np.exp(9) + 5)]
    unsure = 1 / (5 + np.exp(-1))
    assert found.confidences == pytest.approx([sure[0], unsure, sure[1]], abs=1e-12)
    gap = abs(2 - sum(sure)) + unsure
    assert found.calibration_error == pytest.approx(gap / 3, abs=1e-12)


def test_five_classes_have_no_top_5_and_one_class_is_always_right() -> None:
    assert said([[1.0, 2, 3, 4, 5]], [0]).top5 is None
    one = said([[1.0], [2.0]], [0, 0])
    assert (one.top5, one.calibration_error, one.accuracy) == (None, 0.0, 1.0)
    assert one.class_accuracies.tolist() == [1.0]


def test_logits_that_are_not_finite_leave_no_measure() -> None:
    found = said([[0.0] * 6, [float("nan")] + [0.0] * 5], [0, 0])
    assert (found.top5, found.calibration_error) == (None, None)
    assert not len(found.class_accuracies) and np.isnan(found.confidences).tolist() == [False, True]


class Heard(Exception):
    """A rank has said its numbers."""


@pytest.mark.parametrize("size", [2, 5])
def test_processes_measure_what_one_does_to_the_bit(size: int) -> None:
    """Also where there are more processes than batches."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(7, 9)).astype(np.float32)
    saying: Any = Saying(logits)
    split: Any = Split(random.integers(0, 9, 7).tolist())
    alone = evaluate(saying, split, 2)
    rows = list[Any]()

    class Members:
        """Hears each rank's numbers in turn, and answers the last one."""

        def gather(self, values: Any) -> Any:
            rows.append(values)
            if len(rows) < size:
                raise Heard
            return np.stack(rows)

    members: Any = Members()
    for rank in range(size - 1):
        with pytest.raises(Heard):
            evaluate(saying, split, 2, together=Together(Group(rank, size), members))
    found = evaluate(saying, split, 2, together=Together(Group(size - 1, size), members))
    for name in ("accuracy", "loss", "top5", "calibration_error"):
        assert getattr(found, name) == getattr(alone, name), name
    assert np.array_equal(found.class_accuracies, alone.class_accuracies, equal_nan=True)
    assert np.array_equal(found.confidences, alone.confidences)
