"""An exported file, run and held against the reference, in multiples of the noise floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.errors import BackendError, problem
from resnet_spec.exporting.formats import Images, exporter_of, failures_of, format_of
from resnet_spec.manifest import Format
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.functions import normalised
from resnet_spec.parity.setup import make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan
from resnet_spec.running.engines import FORMAT, read_program


def check(
    path: Path,
    format: str,
    plan: Plan,
    state: Mapping[str, Array],
    *,
    batches: tuple[int, ...],
    images: Images = "normalised",
) -> float:
    """Run the file at `path` and return its largest error of a logit, in noise floors.

    plan, state: the network it should compute, with its norms. batches: how many images at a time.

    Raises BackendError for a file that cannot be run, and for a network whose logits are not
    finite: no file can be right or wrong about them.
    """
    reference = Reference(plan, state, max(batches), ("--to", format))
    chosen = format_of(format)
    with failures_of(format):
        run = _reader(path, format)
        return reference.multiples(
            lambda raw: run(_given(raw, plan, chosen, images)), batches=batches
        )


class Reference:
    """The float64 reference of a few images, and what rounding to float32 does to their logits.

    Computed as it is made; of a large network that takes a while.
    """

    def __init__(
        self, plan: Plan, state: Mapping[str, Array], most: int, asked: tuple[str, str]
    ) -> None:
        """most: the largest batch that will be run. asked: the option and its value, for errors.

        Raises BackendError for a network whose logits are not finite.
        """
        setup = make_setup(plan, make_recipe(steps=1, batch=min(most, PROBE)), state=state)
        side = Side("numpy", setup, "float64")
        with np.errstate(over="ignore", invalid="ignore"):
            floor = Floors(side, "float32").of("logits")["logits"]
        if not math.isfinite(floor) or not np.isfinite(side.logits).all():
            rule = "the network's logits are NaN or infinite, and no file can be held against them"
            raise BackendError(problem(*asked, rule, "its weights are not sound"))
        self._logits, self._floor = side.logits, floor
        self._images = setup.batches[0].images

    def multiples(self, run: Callable[[Array], Array], *, batches: Iterable[int]) -> float:
        """Return the largest error of a logit that `run` computes, in noise floors.

        run: uint8 images [N, H, W, C] to logits. batches: how many of them at a time; where they
        are more than the reference has, it repeats.
        """
        errors: list[float] = []
        for count in batches:
            rows = np.arange(count) % len(self._images)
            got = run(self._images[rows])
            errors.append(difference("logits", got, self._logits[rows]).max_rel)
        return max(errors) / self._floor


PROBE = 3
"""Images that the reference computes."""


def _reader(path: Path, format: str) -> Callable[[Array], Array]:
    if format == FORMAT:
        # By the runtime that others use, not by the framework that wrote it.
        return read_program("onnxruntime", path).run
    return exporter_of(format).read(path, format)


def _given(images: Array, plan: Plan, format: Format, wanted: Images) -> Array:
    """Return uint8 images [N, H, W, C] as the exported model takes them."""
    if wanted == "uint8":
        return images
    planes = normalised(images, plan.input, "float32")
    if format.layout == "NCHW":
        return planes
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
