"""The formats of exported models: who writes one, what it takes, and how failures are told."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from resnet_spec.contract import Array
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, ResnetSpecError, did_you_mean, not_one_of, problem
from resnet_spec.loader import (
    export_formats,
    load_backend,
    not_installed,
    refused_writers,
    writers_of,
)
from resnet_spec.manifest import Format
from resnet_spec.plan import Plan

Images = Literal["normalised", "uint8"]
"""What the exported model takes: float32 images that are normalised already, or uint8 images
[N, H, W, C] that it normalises itself."""


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


def format_of(name: str) -> Format:
    """Return the format called `name`.

    Raises BackendError, with the nearest name, or with what keeps its backend from being used.
    """
    known = export_formats()
    if name not in known:
        for backend, why in refused_writers(name).items():
            rule = f"is written by {backend}, which cannot be used"
            raise BackendError(problem("--to", name, rule, why))
        hint = did_you_mean(name, known)
        raise BackendError(problem("--to", name, "is no format of exported models", hint))
    writers = writers_of(name)
    if len(writers) > 1:
        rule = f"is written by several backends, {' and '.join(writers)}"
        raise BackendError(problem("--to", name, rule, "uninstall all but one of them"))
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


def exporter_of(format: str) -> Exporter:
    """Return the module that writes `format`. Raises BackendError where a package is missing."""
    chosen = format_of(format)
    missing = not_installed(chosen.needs)
    if missing:
        rule = f"needs {' and '.join(missing)}, not installed"
        raise BackendError(problem("--to", format, rule, f"run: {chosen.install}"))
    package: Any = load_backend(chosen.backend)
    return cast(Exporter, importlib.import_module(f"{package.__name__}.export"))


def check_images(spec: Spec, images: Images) -> None:
    """Raise BackendError for no `Images`, and for uint8 ones of unknown mean and deviation."""
    wrong = not_one_of("--input", images, get_args(Images))
    if wrong is not None:
        raise BackendError(wrong)
    if images == "uint8" and not (spec.input.mean and spec.input.std):
        rule = "needs the mean and deviation of the images, which the weights come without"
        remedy = "say --set input.mean=[...] --set input.std=[...]"
        raise BackendError(problem("--input", images, rule, remedy))


@contextmanager
def failures_of(format: str, asked: tuple[str, str] | None = None) -> Generator[None]:
    """Turn what a framework raises into one line, and keep its warnings off the screen.

    asked: the option, and its value, that the line begins with; None: that of `export`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ResnetSpecError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        rule = f"{format_of(format).backend} fails: {type(error).__name__}: {first}"
        raise BackendError(problem(*(asked or ("--to", format)), rule)) from error
