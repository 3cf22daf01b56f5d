"""What is benched, for whoever brings a contestant: the case that it is given, what it gives back.

A backend's module of peers imports this, and so does a person's own factory
(`resnet-spec bench SPEC --against package.module:factory`):

    def factory(case: Case) -> Turn | Contestant

A turn is called with a number of steps, takes them, and waits until the device is done. How many
they are is known only once every contestant's first turns have been timed, and is the same for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Precision, State
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

Mode = Literal["train", "predict"]
Key = TypeVar("Key", bound=Hashable)

Turn = Callable[[int], object]
"""Takes so many training steps, or predicts so many batches, and waits; what it returns is dropped.
"""

RATE, MOMENTUM, DECAY = 1e-3, 0.9, 1e-4
"""Of everybody's SGD, on the mean cross-entropy of the labels."""


@dataclass(frozen=True, eq=False)
class Case:
    """What every contestant does: the same network, images, batch and precision.

    plan: the network as this project computes it, `state` its initial weights (see
        `contract.State`), which a contestant need not take.
    preset: the preset that the plan is of, whatever its classes and size; "" where it is none.
    device: as `Session` takes it, "auto" for the best. threads: how many a CPU's work may take.
    file: an exported model, for a peer whose row in a manifest names a `format`; else None.
    """

    plan: Plan
    preset: str
    mode: Mode
    batch: int
    precision: Precision = "float32"
    device: str = "auto"
    threads: int = 1
    state: State = field(default_factory=dict[str, Array], repr=False)
    file: Path | None = None

    @property
    def trains(self) -> bool:
        """Whether a step is one of training."""
        return self.mode == "train"

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.plan.classes

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of the steps of training that everybody takes; None for prediction."""
        if not self.trains:
            return None
        optimizer = {"kind": "sgd", "momentum": MOMENTUM, "weight_decay": DECAY}
        numbers = {"steps": 1, "batch": self.batch, "precision": self.precision}
        return Recipe.from_dict({**numbers, "optimizer": optimizer}, "bench")

    def check_known(self, whose: str, known: Collection[str]) -> None:
        """Raise BackendError where there is no network of the preset's name among `known`."""
        if not self.preset:
            rule = f"is no preset as it is, and {whose} knows networks by name"
            raise BackendError(problem("network", self.plan.name, rule))
        if self.preset not in known:
            rule, hint = f"is no network of {whose}", did_you_mean(self.preset, known)
            raise BackendError(problem("network", self.preset, rule, hint))

    def images(self) -> NDArray[np.uint8]:
        """Return the images [N, H, W, C], the same in every process."""
        given = self.plan.input
        shape = (self.batch, given.height, given.width, given.channels)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def labels(self) -> NDArray[np.int64]:
        """Return the labels [N]."""
        return np.random.default_rng(1).integers(0, self.classes, self.batch)

    def normalised(self) -> NDArray[np.float32]:
        """Return the images as float32 [N, H, W, C], with the plan's mean and deviation."""
        given = self.plan.input
        scale, shift = np.array(given.scale), np.array(given.shift)
        return (self.images() * scale + shift).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Contestant:
    """A turn, and what else there is to say of who takes it.

    params: how many trainable values the network has; where it is not what the plan has, another
        network would be timed, and the contestant is left out. None: unknown.
    info: what a reader of the numbers should know, as the versions of packages and "device".
    """

    turn: Turn
    params: int | None = None
    info: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, eq=False)
class Product:
    """A framework's product of two square matrices, against which achieved speed is held.

    size: of a side; a product is 2 size^3 floating-point operations. turn: takes so many products.
    """

    size: int
    turn: Turn
    info: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def flops(self) -> int:
        """Floating-point operations of a product."""
        return 2 * self.size**3


TimedKind = Literal["", "images", "loss", "optimizer", "copies"]
"""What time went into: "" for what a node is, or for nothing that is known; normalising images; the
loss; the optimiser; copies, casts and changes of layout."""
Direction = Literal["", "forward", "backward", "update"]


@dataclass(frozen=True, slots=True)
class Timing:
    """What one op, or several, took in all the steps of a profile.

    node: the plan's name of the node that it is of, "" where it is of none or that is unknown.
    direction: "" where that is unknown.
    """

    node: str
    seconds: float
    direction: Direction = ""
    kind: TimedKind = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a framework's profiler tells of some steps.

    notes: what a reader of the table should know of how ops were told apart, a line each.
    """

    timings: Sequence[Timing]
    notes: tuple[str, ...] = ()


def time_shared(spans: Iterable[tuple[Key, float, float]]) -> dict[Key, float]:
    """Return the time of each key, of spans (key, begin, end), in their unit.

    Those that are under way at once have equal shares of that time.
    """
    every = list(spans)
    found: dict[Key, float] = defaultdict(float)
    marks = [(begin, True, i) for i, (_, begin, _) in enumerate(every)]
    marks += [(end, False, i) for i, (_, _, end) in enumerate(every)]
    under_way, before = set[int](), 0.0
    for when, begins, i in sorted(marks):
        for other in under_way:
            found[every[other][0]] += (when - before) / len(under_way)
        before = when
        if begins:
            under_way.add(i)
        else:
            under_way.discard(i)
    return dict(found)
