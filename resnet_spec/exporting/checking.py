"""An exported file, run and held against the reference, in multiples of the noise floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.errors import BackendError, problem
from resnet_spec.exporting.formats import Images, exporter_of, failures_of, format_of
from resnet_spec.manifest import Format
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.functions import OnnxFunction, normalised
from resnet_spec.parity.setup import make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan


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
    setup = make_setup(plan, make_recipe(steps=1, batch=min(max(batches), _PROBE)), state=state)
    expected = Side("numpy", setup, "float64")
    with np.errstate(over="ignore", invalid="ignore"):
        floor = Floors(expected, "float32").of("logits")["logits"]
    if not math.isfinite(floor) or not np.isfinite(expected.logits).all():
        rule = "the network's logits are NaN or infinite, and no file can be checked against them"
        raise BackendError(problem("--to", format, rule, "its weights are not sound"))
    probe = setup.batches[0].images
    errors: list[float] = []
    with failures_of(format):
        run = _reader(path, format, plan)
        for count in batches:
            rows = np.arange(count) % len(probe)
            got = run(_given(probe[rows], plan, format_of(format), images))
            errors.append(difference("logits", got, expected.logits[rows]).max_rel)
    return max(errors) / floor


_PROBE = 3
"""Images that the reference computes; larger batches repeat them."""


def _reader(path: Path, format: str, plan: Plan) -> Callable[[Array], Array]:
    if format != "onnx":
        return exporter_of(format).read(path, format)
    # By the runtime that others use, not by the framework that wrote it.
    session = OnnxFunction(path, plan, "float32").native
    return lambda images: session.run(["logits"], {"images": images})[0]


def _given(images: Array, plan: Plan, format: Format, wanted: Images) -> Array:
    """Return uint8 images [N, H, W, C] as the exported model takes them."""
    if wanted == "uint8":
        return images
    planes = normalised(images, plan.input, "float32")
    if format.layout == "NCHW":
        return planes
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
