"""The gradient by every node's output, which the localiser walks back along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pairs import Pair

# Of the tensor's largest magnitude; at most 3.2e-6 and 4.3e-15 were measured.
CLOSE = {"float32": 3e-5, "float64": 4e-14}


def worst(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Return the largest error over its tensor's magnitude; absolute where that is all zeros."""
    assert list(found) == list(expected)
    assert all(found[name].shape == array.shape for name, array in expected.items())
    sizes = {name: float(np.abs(array).max()) or 1.0 for name, array in expected.items()}
    return max(float(np.abs(found[n] - a).max()) / sizes[n] for n, a in expected.items())


def test_node_gradients(pair: Pair) -> None:
    got, expected = pair.got, pair.expected.node_gradients
    assert tuple(got.node_gradients) == ("input", *pair.expected.setup.plan.observed)
    assert worst(got.node_gradients, expected) < CLOSE[pair.precision]


def test_other_labels_give_others_and_nothing_changes(pair: Pair) -> None:
    got = pair.got
    session, batch = got.session, got.batch
    before = session.state()
    moved = replace(batch, labels=np.roll(batch.labels, 1))
    assert worst(dict(session.node_gradients(moved)), pair.expected.node_gradients) > 1e-3
    after = session.state()
    assert all(np.array_equal(after[name], array) for name, array in before.items())
