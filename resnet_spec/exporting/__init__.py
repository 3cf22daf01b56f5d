"""A trained network as a file that other programs run: written by a framework, checked, then kept.

The file is read back and run before it gets its name, and its logits are compared with the float64
reference's in multiples of the noise floor, as in a parity report.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.errors import BackendError, ResnetSpecError, did_you_mean, problem
from resnet_spec.files.destinations import check_destination
from resnet_spec.files.json_text import json_text
from resnet_spec.files.writing import beside, replacing, writing
from resnet_spec.loader import export_formats, load_backend
from resnet_spec.manifest import Format
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.functions import OnnxFunction, normalised
from resnet_spec.parity.limits import LIMITS
from resnet_spec.parity.setup import make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan
from resnet_spec.planning.folding import Folded, fold_norms
from resnet_spec.planning.lowering import lower
from resnet_spec.printing.cards import Card, Shown

Images = Literal["normalised", "uint8"]
"""What the exported model takes: float32 images that are normalised already, or uint8 images
[N, H, W, C] that it normalises itself."""


LIMIT = LIMITS["logits"].multiples
"""How many noise floors a logit may be off, as in a parity report."""


class Exporter(Protocol):
    """The module `export` of a backend's package (see `contract`)."""

    def write(
        self,
        path: Path,
        plan: Plan,
        state: Mapping[str, Array],
        kind: str,
        *,
        batch: int | None,
        raw: bool,
        metadata: str,
    ) -> str:
        """Write a file of the format `kind`; return a few words about it."""
        ...

    def read(self, path: Path, kind: str) -> Callable[[Array], Array]:
        """Return the function in such a file, from images to logits."""
        ...


@dataclass(frozen=True, repr=False)
class Exported(Shown):
    """What was written and how it was checked.

    about: the format's version. batches: how many images at a time it was run on. multiples: the
    largest error of a logit, in noise floors. size: of the file, in bytes. folded: which norms are
    in convolutions; None where that was not asked for.
    """

    path: Path
    format: str
    about: str
    batches: tuple[int, ...]
    multiples: float
    size: int
    folded: Folded | None

    @property
    def is_kept(self) -> bool:
        """Whether the error is rounding; otherwise there is no file."""
        return self.multiples <= LIMIT

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [
            ("format", f"{self.format}, {self.about}"),
            ("size", _size(self.size)),
            ("batches", ", ".join(map(str, self.batches))),
            ("logits", f"{self.multiples:.3g} noise floors from the reference"),
            ("folded norms", None if self.folded is None else len(self.folded.folded)),
        ]
        return Card(f"{self.path}: {'kept' if self.is_kept else 'not kept'}", rows)

    @property
    def line(self) -> str:
        """What was written and how far from the reference it is."""
        *some, last = map(str, self.batches)
        images = f"batches of {', '.join(some)} and {last}" if some else f"batches of {last}"
        start = f"{self.path}: {self.format}, {self.about}, {_size(self.size)}, {images}"
        if self.is_kept:
            rule = f"within {max(self.multiples, 0.1):.1f} noise floors of the reference"
            return f"{start}: logits {rule}"
        rule = f"{self.multiples:.3g} noise floors from the reference"
        return f"{start}: logits {rule}, and {LIMIT:g} is the limit; no file is kept"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} kB"


def export(
    spec: Source,
    state: Mapping[str, Array],
    format: str,
    path: Path,
    *,
    batch: int | None = None,
    fold: bool = False,
    images: Images = "normalised",
    class_names: tuple[str, ...] = (),
    dataset: Fingerprint | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the network with the weights `state` to `path`, and keep the file if it computes them.

    spec: a preset name, a `.toml` or `.json` file, a dict or a spec. format: a
    name of `loader.export_formats()`.
    batch: images at a time; None: any number, chosen at each call. fold: put norms into the
    convolutions before them (see `folding`). class_names, dataset: what it was trained on, for the
    file's metadata, which also hold the spec. overwrite: replace what is at `path`.

    Raises BackendError for an unknown format, a framework that is not there or that fails, uint8
    images of unknown statistics, and a network whose logits are not finite; OutputError where the
    file cannot be written, or is there and not to be replaced.
    """
    chosen = format_of(format)
    check_destination(path, overwrite=overwrite)
    spec = load_spec(spec)
    _check_images(spec, images)
    exporter = _exporter(format)
    plan = lower(spec)
    folded = fold_norms(plan, state) if fold else None
    network, weights = (plan, state) if folded is None else (folded.plan, folded.state)
    metadata = _metadata(spec, chosen, images, fold, class_names, dataset)
    batches = (1, 2, 3) if batch is None else (batch,)
    with beside(path) as temporary:
        file = temporary.with_name(f"network{chosen.ending}")
        with _failures_of(format), writing(path):
            about = exporter.write(
                file,
                network,
                weights,
                format,
                batch=batch,
                raw=images == "uint8",
                metadata=metadata,
            )
        exported = Exported(
            path=path,
            format=format,
            about=about,
            batches=batches,
            multiples=check(file, format, plan, state, batches=batches, images=images),
            size=file.stat().st_size,
            folded=folded,
        )
        if exported.is_kept:
            with replacing(path) as kept:
                file.replace(kept)
    return exported


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
    with _failures_of(format):
        run = _reader(path, format, plan)
        for count in batches:
            rows = np.arange(count) % len(probe)
            got = run(_given(probe[rows], plan, format_of(format), images))
            errors.append(difference("logits", got, expected.logits[rows]).max_rel)
    return max(errors) / floor


_PROBE = 3
"""Images that the reference computes; larger batches repeat them."""


def format_of(name: str) -> Format:
    """Return the format called `name`. Raises BackendError, with the nearest name."""
    known = export_formats()
    if name not in known:
        hint = did_you_mean(name, known)
        raise BackendError(problem("--to", name, "is no format of exported models", hint))
    return known[name]


def takes(spec: Spec, format: str, batch: int | None, images: Images) -> str:
    """Return in words what an exported model takes."""
    image, planes = spec.input, [spec.input.size, spec.input.size]
    is_raw = images == "uint8"
    layout = "NHWC" if is_raw else format_of(format).layout
    sizes = [image.channels, *planes] if layout == "NCHW" else [*planes, image.channels]
    shape = f"[{', '.join(map(str, ['batch' if batch is None else batch, *sizes]))}]"
    if is_raw:
        return f"uint8 {shape}, {layout}"
    how = "as in training, which the weights do not show"
    if image.mean and image.std:
        how = f"(x / 255 - {list(image.mean)}) / {list(image.std)}"
    return f"float32 {shape}, {layout}, normalised: {how}"


def _exporter(format: str) -> Exporter:
    """Return the module that writes `format`. Raises BackendError where a package is missing."""
    chosen = format_of(format)
    missing = [package for package in chosen.needs if importlib.util.find_spec(package) is None]
    if missing:
        rule = f"needs {' and '.join(missing)}, not installed"
        raise BackendError(problem("--to", format, rule, f"run: {chosen.install}"))
    package: Any = load_backend(chosen.backend)
    return cast(Exporter, importlib.import_module(f"{package.__name__}.export"))


def _reader(path: Path, format: str, plan: Plan) -> Callable[[Array], Array]:
    if format != "onnx":
        return _exporter(format).read(path, format)
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


def _check_images(spec: Spec, images: Images) -> None:
    if images == "uint8" and not (spec.input.mean and spec.input.std):
        rule = "needs the mean and deviation of the images, which the weights come without"
        remedy = "say --set input.mean=[...] --set input.std=[...]"
        raise BackendError(problem("--input", images, rule, remedy))


def _metadata(
    spec: Spec,
    format: Format,
    images: Images,
    folded: bool,
    class_names: tuple[str, ...],
    dataset: Fingerprint | None,
) -> str:
    """Return what a file carries: the spec, what it takes, its classes and its data's identity."""
    takes = f"float32 {format.layout}, normalised" if images == "normalised" else "uint8 NHWC"
    fields = {
        "spec": spec.to_dict(),
        "images": takes,
        "norms_folded": folded,
        "class_names": list(class_names),
        **({} if dataset is None else {"dataset": dataset.to_dict()}),
    }
    return json_text(fields, sort_keys=True, compact=True)


@contextmanager
def _failures_of(format: str) -> Generator[None]:
    """Turn what a framework raises into one line, and keep its warnings off the screen."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ResnetSpecError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        rule = f"{format_of(format).backend} fails: {type(error).__name__}: {first}"
        raise BackendError(problem("--to", format, rule)) from error
