"""A network in an engine: exported, held against the reference, and then it predicts.

What predicts with a session predicts with this in its place. Nothing else is done here: an engine
has no gradients, no state to be read, and takes no part in groups of processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.contract import Array, Batch
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.errors import BackendError, problem
from resnet_spec.exporting.checking import PROBE, Reference
from resnet_spec.exporting.exported import LIMIT
from resnet_spec.exporting.formats import exporter_of, failures_of, format_of
from resnet_spec.files.writing import writing
from resnet_spec.loader import manifest_of, not_installed
from resnet_spec.parity.functions import normalised
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.running.engines import ENGINES, FORMAT, Program, engine_named, read_program

AT_ONCE = 16
"""Images that an engine is given at once, whatever the batches."""

_CHECKED = (1, PROBE, AT_ONCE)
"""Batches that the logits are checked on: an engine may compute a large one in another way."""


class EngineSession:
    """A network in an engine: that part of `contract.Session` that predicts.

    native: the engine's own object. info: as a session's, with `threads`, and in `export` who wrote
    the file and how far from the reference it is.
    """

    def __init__(self, program: Program, plan: Plan, export: str) -> None:
        self.native: Any = program.native
        self.info: Mapping[str, str] = {**program.info, "export": export}
        self._run = _on_images(program, plan)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes], float32, per batch, in order.

        Images are taken as sessions take them: uint8 ones are normalised as the plan says.
        """
        for batch in batches:
            starts = range(0, len(batch), AT_ONCE)
            parts = [self._run(batch.images[start : start + AT_ONCE]) for start in starts]
            yield np.concatenate(parts)


def check_engine(name: str) -> None:
    """Raise BackendError for no engine, or where it, or what writes its file, is not installed."""
    engine, written = engine_named(name), format_of(FORMAT)
    writer = manifest_of(written.backend)
    parts = [] if writer is None else [(writer.requires, writer.install)]
    parts += [(written.needs, written.install), (engine.needs, engine.install)]
    lacking = [(not_installed(needs), install) for needs, install in parts]
    missing = dict.fromkeys(package for packages, _ in lacking for package in packages)
    if missing:
        remedies = dict.fromkeys(install for packages, install in lacking if packages)
        rule = f"needs {' and '.join(missing)}, not installed"
        raise BackendError(problem("engine", name, rule, f"run: {' && '.join(remedies)}"))


def engine_session(
    source: Source,
    state: Mapping[str, Array],
    engine: str,
    *,
    begin: Callable[[str], None] = lambda step: None,
) -> EngineSession:
    """Return the network with the weights `state` in `engine`, on the CPU, in float32.

    It is exported into a temporary file, which is gone when this returns, and its logits are held
    against the float64 reference's, as those of every export: ONNX Runtime's, and the engine's own.

    source: a preset name, a `.toml` or `.json` file, a dict or a spec.
    engine: "onnxruntime" or "openvino"; it computes with as many threads as OMP_NUM_THREADS says,
        or else as there are processors.
    begin: hears what is done next, in words, `STEPS` times.

    Raises BackendError for an unknown engine, a package that is not there, an exporter or engine
    that fails, and for logits that are not finite, or not within rounding of the reference's.
    """
    check_engine(engine)
    plan = lower(load_spec(source))
    asked = "engine", engine
    begin(f"computing {PROBE} images in float64")
    reference = Reference(plan, state, max(_CHECKED), asked)
    with tempfile.TemporaryDirectory(prefix="resnet-spec-engine-") as folder:
        file = Path(folder) / f"network{format_of(FORMAT).ending}"
        begin("exporting to ONNX")
        about = _written(file, plan, state, asked)
        begin(f"checking the logits of {ENGINES[engine].title}")
        if engine != _USUAL:  # Where it is the file that is wrong, both say so.
            _checked(_USUAL, file, plan, reference, asked)
        program, multiples = _checked(engine, file, plan, reference, asked)
    floors = f"within {max(multiples, 0.1):.1f} noise floors of the reference"
    return EngineSession(program, plan, f"{about}, {floors}")


STEPS = 3
"""How often `engine_session` says what it does."""


_USUAL = "onnxruntime"
"""The engine that every file is checked with."""


def _written(file: Path, plan: Plan, state: Mapping[str, Array], asked: tuple[str, str]) -> str:
    """Export; return who wrote the file, and its version, in a few words."""
    exporter = exporter_of(FORMAT)
    with failures_of(FORMAT, asked), writing(file):
        about = exporter.write(file, plan, state, FORMAT, batch=None, raw=False, metadata="")
    return f"by {format_of(FORMAT).backend} ({FORMAT}, {about})"


def _checked(
    engine: str, file: Path, plan: Plan, reference: Reference, asked: tuple[str, str]
) -> tuple[Program, float]:
    """Return the file in `engine`, and how many noise floors it is from the reference.

    Raises BackendError where that is no rounding.
    """
    program = read_program(engine, file)
    multiples = reference.multiples(_on_images(program, plan), batches=_CHECKED)
    if not multiples <= LIMIT:
        rule = f"the logits of {engine} are {multiples:.3g} noise floors from the reference"
        remedy = f"{LIMIT:g} is the limit, and nothing is computed; use a backend"
        raise BackendError(problem(*asked, rule, remedy))
    return program, multiples


def _on_images(program: Program, plan: Plan) -> Callable[[Array], Array]:
    """Return the program as a function of images [N, H, W, C], uint8 or normalised."""
    return lambda images: program.run(normalised(images, plan.input, "float32"))
