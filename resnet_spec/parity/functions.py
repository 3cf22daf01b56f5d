"""Models that are functions and no more: an ONNX file, or a plain callable. They predict."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.contract import Array, Batch, Precision
from resnet_spec.errors import BackendError
from resnet_spec.plan import Input, Plan
from resnet_spec.running.engines import read_program


class PlainFunction:
    """A callable from normalised images [N, C, H, W] to logits [N, classes], both NumPy."""

    def __init__(self, function: Callable[[Array], Any], plan: Plan, precision: Precision) -> None:
        self.native: Any = function
        self._input = plan.input
        self._precision: Precision = precision
        self.info: Mapping[str, str] = {
            "framework": "callable",
            "version": platform.python_version(),
            "device": "unknown",
            "precision": precision,
            "math": "unknown",
        }

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield the logits of each batch."""
        for batch in batches:
            yield np.asarray(self.native(normalised(batch.images, self._input, self._precision)))


class OnnxFunction:
    """An ONNX file, run by onnxruntime on the CPU."""

    def __init__(self, path: Path, plan: Plan, precision: Precision) -> None:
        """Open `path`. Raises BackendError for a file that cannot be run, in one line."""
        _check_runtime()
        if not path.is_file():
            raise BackendError(f"{path}: is no file; give the path of an ONNX file")
        program = read_program("onnxruntime", path)
        session = program.native
        images = session.get_inputs()
        if len(images) != 1:
            raise BackendError(f"{path}: must have one input, not {len(images)}")
        self.native: Any = session
        self._name: str = images[0].name
        shape = images[0].shape
        self._is_nhwc = len(shape) == 4 and shape[3] == plan.input.channels != shape[1]
        self._precision: Precision = precision
        self._input = plan.input
        self.info: Mapping[str, str] = {**program.info, "precision": precision}

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield the logits of each batch: the file's first output."""
        for batch in batches:
            images = normalised(batch.images, self._input, self._precision)
            if self._is_nhwc:
                images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            yield self.native.run(None, {self._name: images})[0]


def normalised(images: Array, image: Input, precision: Precision) -> Array:
    """Return [N, H, W, C], uint8 or normalised, as normalised and C-contiguous [N, C, H, W]."""
    dtype = np.dtype("float64" if precision == "float64" else "float32")
    moved = images.astype(dtype)
    if images.dtype == np.uint8:
        moved = moved * np.array(image.scale, dtype) + np.array(image.shift, dtype)
    return np.ascontiguousarray(moved.transpose(0, 3, 1, 2))


def _check_runtime() -> None:
    try:
        import onnxruntime  # noqa: F401  # pyright: ignore
    except ImportError:
        remedy = "run: pip install 'resnet-spec[export]'"
        raise BackendError(
            f"model: an ONNX file needs onnxruntime, not installed; {remedy}"
        ) from None
