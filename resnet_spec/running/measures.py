"""What is measured of predictions beside accuracy and loss. Arrays in, numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array

BINS = 15
"""Of the calibration error; as in Guo et al. 2017, section 4."""
TOP = 5
"""Classes of which the label must be one, for the second accuracy."""


def in_top(logits: Array, labels: NDArray[np.int64], k: int = TOP) -> NDArray[np.bool_]:
    """Return whether each label is among the `k` classes with the highest logits, bool [N].

    Of equal logits the class with the lower number comes first, as in a prediction. A label below 0
    is among none. The logits, [N, classes], must be finite.
    """
    classes: int = logits.shape[1]
    rows, numbers = np.arange(len(labels)), np.arange(classes)
    of_label: Array = logits[rows, labels].reshape(-1, 1)
    above: NDArray[np.bool_] = np.asarray(logits > of_label)
    before: NDArray[np.bool_] = np.less.outer(labels, numbers)
    alike: NDArray[np.bool_] = np.asarray(logits == of_label)
    ranks: NDArray[np.int64] = np.count_nonzero(above | (alike & ~before), axis=1) - 1
    return np.asarray((ranks < k) & (labels >= 0))


def calibration_error(
    confidences: NDArray[np.float64], is_right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return the expected calibration error of Guo et al. 2017, in 0..1.

    The images are parted by the probability of their prediction into `bins` intervals of one width,
    ((m - 1) / bins, m / bins]; it is the mean distance of accuracy and mean confidence in them,
    weighted by their images. confidences: float64 [N] in 0..1. is_right: [N].
    """
    places = np.clip(np.ceil(confidences * bins).astype(np.int64) - 1, 0, bins - 1)
    difference = np.bincount(places, is_right - confidences, minlength=bins)
    return float(np.abs(difference).sum() / len(confidences))


def class_accuracies(
    predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Return the share of each class's images told right, [classes]; NaN for one without images."""
    known = labels >= 0
    right = np.bincount(labels[known & (predictions == labels)], minlength=classes)
    counts = np.bincount(labels[known], minlength=classes)
    with np.errstate(invalid="ignore"):
        return right / counts
