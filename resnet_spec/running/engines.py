"""Engines: programs that run ONNX files, and so predict without a framework, on the CPU.

An engine is no backend: it does not train, and knows no plan but what a file says. Here one is
found by name and given a file; whoever gives it has held the file against the reference
(`exporting`). Imports an engine only where a file is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_spec.errors import BackendError, check_kind, did_you_mean, out_of_memory, problem
from resnet_spec.running.child_processes import threads_of_each

if TYPE_CHECKING:
    from resnet_spec.contract import Array

FORMAT = "onnx"
"""What engines read, a name of `loader.export_formats()`."""


@dataclass(frozen=True)
class Program:
    """A file that an engine has read.

    native: the engine's own object. run: normalised float32 images [N, C, H, W], C-contiguous, to
    logits [N, classes], an array of the caller's own. info: as `contract.Session.info`.
    """

    native: Any
    run: Callable[[Array], Array]
    info: Mapping[str, str]


@dataclass(frozen=True)
class Engine:
    """An engine by name.

    title: what its makers call it. needs: top-level packages. install: the command that installs
    them. open: reads a file, to compute with so many threads.
    """

    title: str
    needs: tuple[str, ...]
    install: str
    open: Callable[[Path, int], Program]


def check_device(name: str, device: str, where: str = "device") -> None:
    """Raise BackendError for a device on which no engine is set up here."""
    if device not in ("auto", "cpu"):
        rule = f"{name} is set up on the CPU here"
        raise BackendError(problem(where, device, rule, "use auto, or cpu"))


def engine_named(name: str) -> Engine:
    """Return the engine called `name`. Raises BackendError, with the nearest name."""
    check_kind(BackendError, "engine", name, [str], "must be an engine's name")
    if name not in ENGINES:
        hint = did_you_mean(name, ENGINES)
        raise BackendError(problem("engine", name, "does not exist", hint))
    return ENGINES[name]


def read_program(name: str, path: Path, threads: int | None = None) -> Program:
    """Return the file at `path` as the engine `name` runs it.

    threads: None: as many as OMP_NUM_THREADS says, or else as there are processors to be used.
    Raises BackendError for a file that cannot be run, in one line.
    """
    try:
        return ENGINES[name].open(path, threads_of_each(1) if threads is None else threads)
    except Exception as error:
        if out_of_memory(error) is not None:
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackendError(f"{path}: cannot be run by {name}: {first}") from error


def _onnxruntime(path: Path, threads: int) -> Program:
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads  # It does not heed OMP_NUM_THREADS.
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Array) -> Array:
        return session.run(None, {name: images})[0]

    return Program(session, run, _info("onnxruntime", runtime, threads))


def _openvino(path: Path, threads: int) -> Program:
    package: Any = importlib.import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # It would take bfloat16 by itself on a CPU that has it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = package.Core().compile_model(str(path), "CPU", settings)

    def run(images: Array) -> Array:
        return compiled(images)[0].copy()  # The next images' logits would be put in its place.

    return Program(compiled, run, _info("openvino", package, threads))


def _info(name: str, package: Any, threads: int) -> dict[str, str]:
    return {
        "framework": name,
        "version": str(package.__version__),
        "device": "cpu",
        "precision": "float32",
        "math": "strict",
        "threads": str(threads),
    }


ENGINES = {
    "onnxruntime": Engine(
        title="ONNX Runtime",
        needs=("onnxruntime",),
        install="pip install 'resnet-spec[export]'",
        open=_onnxruntime,
    ),
    "openvino": Engine(
        title="OpenVINO",
        needs=("openvino",),
        install="pip install openvino",
        open=_openvino,
    ),
}
