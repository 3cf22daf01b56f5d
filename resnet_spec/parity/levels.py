"""The levels of a comparison: a table of functions from two sides to their differences.

A new level is a function and a line of the table. `exact` levels admit no difference. Levels that
are `derivative` compare slopes, which jump where a ReLU or a max-pool chooses: they are compared
with a reference that chooses alike (see `kink_choices`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.ops import Tensor
from resnet_spec.parity.comparison import Difference, apart, difference, differences
from resnet_spec.parity.side import Side
from resnet_spec.session_state import family

Compare = Callable[[Side, Side], list[Difference]]


class Level(NamedTuple):
    """compare(got, expected) lists what was compared, with the error of each.

    values: what of a side it compares, by the names of its properties.
    noise: the same between the reference and itself in another order of summation, where `compare`
        does not say how large rounding is.
    """

    about: str
    compare: Compare
    values: tuple[str, ...]
    exact: bool = False
    derivative: bool = False
    noise: Compare | None = None


def _names(got: Side, expected: Side) -> list[Difference]:
    wrong = sorted(got.state.keys() ^ expected.state.keys())
    if not wrong and list(got.state) != list(expected.state):
        wrong = ["order of names"]
    return [apart(name) for name in wrong]


def _shapes(got: Side, expected: Side) -> list[Difference]:
    common = [name for name in expected.state if name in got.state]
    return [apart(n) for n in common if got.state[n].shape != expected.state[n].shape]


def _counts(got: Side, expected: Side) -> list[Difference]:
    found: list[Difference] = []
    for what, statistic in (("parameters", False), ("statistics", True)):
        a, b = (_count(side, statistic) for side in (got, expected))
        if a != b:
            found.append(Difference(what, abs(a - b), abs(a - b) / max(b, 1)))
    return found


def _count(side: Side, statistic: bool) -> int:
    names = (t.name for t in side.setup.plan.tensors if t.is_statistic == statistic)
    return sum(math.prod(side.state[name].shape) for name in names)


def _init(got: Side, expected: Side) -> list[Difference]:
    """Compare the weights before the first step: those drawn, to the last bit."""
    names = [tensor.name for tensor in expected.setup.plan.tensors]
    dtype = np.float64 if got.precision == "float64" else np.float32
    drawn = {name: expected.setup.state[name].astype(dtype) for name in names}
    return differences(got.state, drawn, names)


def _logits(got: Side, expected: Side) -> list[Difference]:
    return [difference("logits", got.logits, expected.logits)]


def _activations(got: Side, expected: Side) -> list[Difference]:
    found: list[Difference] = []
    for mode in ("evaluated", "activations"):
        outputs: State = getattr(got, mode)
        wanted: State = getattr(expected, mode)
        suffix = " (eval)" if mode == "evaluated" else " (train)"
        for name, array in wanted.items():
            if name in outputs:
                found.append(difference(name + suffix, outputs[name], array))
    return found


def _train_logits(got: Side, expected: Side) -> list[Difference]:
    a, b = (next(reversed(side.activations.values())) for side in (got, expected))
    return [difference("logits", a, b)]


def _gradients(got: Side, expected: Side) -> list[Difference]:
    (loss, gradients), (expected_loss, expected_gradients) = got.gradients, expected.gradients
    inputs = (side.input_gradient for side in (got, expected))
    return [
        difference("loss", np.array(loss), np.array(expected_loss)),
        difference("input", *inputs),
        *differences(gradients, expected_gradients, expected.setup.plan.trainable),
    ]


def _statistics(got: Side, expected: Side) -> list[Difference]:
    names = [t.name for t in expected.setup.plan.tensors if t.is_statistic]
    return differences(got.stepped, expected.stepped, names)


def _update(got: Side, expected: Side) -> list[Difference]:
    slots = [name for name in expected.stepped if family(name)]
    weights = [t.name for t in expected.setup.plan.tensors if not t.is_statistic]
    names = [*weights, *slots]
    return differences(got.stepped, expected.stepped, names)


def _trajectory(got: Side, expected: Side) -> list[Difference]:
    """Compare two runs: the loss of every step, and where all that they keep ends."""
    (losses, end), (expected_losses, expected_end) = got.run, expected.run
    runs = losses, end, expected_losses, expected_end
    found = run_differences(expected.setup.plan.tensors, *runs)
    return [*found, *slot_differences(end, expected_end)]


def _processes(got: Side, expected: Side) -> list[Difference]:
    """Compare runs, slots and averages family by family; ranks that are apart are each an item."""
    return [*_trajectory(got, expected), *map(apart, got.torn)]


def slot_differences(end: State, expected_end: State) -> list[Difference]:
    """Compare where two runs leave each family of slots, the average among them."""
    names: dict[str, list[str]] = {}
    for name in filter(family, expected_end):
        names.setdefault(family(name), []).append(name)
    return [_distance(what, end, expected_end, own) for what, own in names.items()]


def run_differences(
    tensors: Iterable[Tensor],
    losses: Array,
    end: State,
    expected_losses: Array,
    expected_end: State,
) -> list[Difference]:
    """Compare two runs: the loss of every step; the distance of weights and of statistics."""
    found = [difference("loss", losses, expected_losses)]
    for what, statistic in (("weights", False), ("statistics", True)):
        names = [t.name for t in tensors if t.is_statistic == statistic]
        if names:
            found.append(_distance(what, end, expected_end, names))
    return found


def _distance(what: str, got: State, expected: State, names: list[str]) -> Difference:
    """Return the Euclidean distance of two states, and that over the length of the second."""
    if any(name not in got or got[name].shape != expected[name].shape for name in names):
        return apart(what)
    a = np.concatenate([got[name].ravel() for name in names]).astype(np.float64)
    b = np.concatenate([expected[name].ravel() for name in names]).astype(np.float64)
    distance, length = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if not math.isfinite(distance):
        return apart(what)
    return Difference(what, distance, distance / length if length else math.inf)


def _accuracy(got: Side, expected: Side) -> list[Difference]:
    """Compare predictions image by image: by how much the reference prefers its own.

    The largest difference between the logits of the reference's class and of the one predicted
    instead; zero where all predictions are equal. `index` is the image.
    """
    a, b = got.dataset_logits, expected.dataset_logits
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return [apart("predictions")]
    rows = np.arange(len(b))
    gaps = b.max(1) - b[rows, a.argmax(1)]
    image = int(gaps.argmax())
    gap = float(gaps[image])
    return [Difference("predictions", gap, gap / float(np.abs(b).max()), 0.0, 1.0, (image,))]


def _accuracy_noise(got: Side, expected: Side) -> list[Difference]:
    return [difference("predictions", got.dataset_logits, expected.dataset_logits)]


LEVELS: dict[str, Level] = {
    "names": Level(
        "names of weights, statistics and slots, and their order", _names, ("state",), exact=True
    ),
    "shapes": Level("their shapes", _shapes, ("state",), exact=True),
    "counts": Level(
        "how many values are trained, and how many kept", _counts, ("state",), exact=True
    ),
    "init": Level("weights and statistics before the first step", _init, ("state",), exact=True),
    "logits": Level("logits in evaluation mode", _logits, ("logits",)),
    "activations": Level(
        "every node's output, in evaluation and training mode",
        _activations,
        ("evaluated", "activations"),
    ),
    "train_logits": Level("logits in training mode", _train_logits, ("activations",)),
    "gradients": Level(
        "the loss and its gradient by every parameter and by the images",
        _gradients,
        ("gradients", "input_gradient", "outputs"),
        derivative=True,
    ),
    "statistics": Level("running mean and variance after one step", _statistics, ("stepped",)),
    "update": Level(
        "weights and the optimiser's slots after one step",
        _update,
        ("outputs", "stepped"),
        derivative=True,
    ),
    "trajectory": Level(
        "loss of every step of a short run, and where it ends", _trajectory, ("run",)
    ),
    "accuracy": Level(
        "predictions on a dataset, image by image",
        _accuracy,
        ("dataset_logits",),
        noise=_accuracy_noise,
    ),
}
PROCESSES = "processes"
OF_GROUPS: dict[str, Level] = {
    PROCESSES: Level(
        "a run in several processes: the loss of every step, and where weights, statistics, slots "
        "and averages end",
        _processes,
        ("run",),
    ),
}
"""Levels of processes that train together; a session by itself is not compared at them."""


def level_of(name: str) -> Level:
    """Return a level of either table by its name."""
    return OF_GROUPS[name] if name in OF_GROUPS else LEVELS[name]


def compute(side: Side, level: str) -> None:
    """Have `side` compute what `level` compares of it."""
    for value in level_of(level).values:
        getattr(side, value)
