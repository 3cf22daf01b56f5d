"""Programs that run exported models, as peers in prediction: ONNX Runtime and OpenVINO.

They belong to no backend: the file is written and checked before their process starts
(`exported`). Each takes float32 images [N, C, H, W] that are normalised, as its own documentation
has it. Imported by the worker alone, but for the table.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from resnet_spec.bench import Case, Contestant
from resnet_spec.errors import BackendError, problem
from resnet_spec.manifest_bench import Peer

RUNTIMES = {
    "onnxruntime": Peer(
        backend="",
        make=f"{__name__}:onnxruntime",
        needs=("onnxruntime",),
        install="pip install 'resnet-spec[export]'",
        modes=("predict",),
        format="onnx",
    ),
    "openvino": Peer(
        backend="",
        make=f"{__name__}:openvino",
        needs=("openvino",),
        install="pip install openvino",
        modes=("predict",),
        format="onnx",
    ),
}


def onnxruntime(case: Case) -> Contestant:
    """Return the exported network in ONNX Runtime on the CPU."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = case.threads  # It does not heed OMP_NUM_THREADS.
    providers = ["CPUExecutionProvider"]
    _check_cpu("onnxruntime", case)
    session = runtime.InferenceSession(str(case.file), options, providers=providers)
    images = _images(case)
    name = session.get_inputs()[0].name

    def predict(steps: int) -> None:
        for _ in range(steps):
            session.run(None, {name: images})

    info = {"onnxruntime": str(runtime.__version__), **_same(case)}
    return Contestant(predict, info=info)


def openvino(case: Case) -> Contestant:
    """Return the exported network in OpenVINO on the CPU, computing in float32."""
    package: Any = importlib.import_module("openvino")
    _check_cpu("openvino", case)
    settings = {
        "INFERENCE_NUM_THREADS": case.threads,
        "PERFORMANCE_HINT": "LATENCY",
        # It would take bfloat16 by itself on a CPU that has it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = package.Core().compile_model(str(case.file), "CPU", settings)
    images = _images(case)

    def predict(steps: int) -> None:
        for _ in range(steps):
            compiled(images)

    return Contestant(predict, info={"openvino": str(package.__version__), **_same(case)})


def _images(case: Case) -> Any:
    return np.ascontiguousarray(case.normalised().transpose(0, 3, 1, 2))


def _same(case: Case) -> dict[str, str]:
    return {"device": "cpu", "precision": case.precision, "threads": str(case.threads)}


def _check_cpu(name: str, case: Case) -> None:
    if case.device not in ("auto", "cpu"):
        rule = f"{name} is set up on the CPU here"
        raise BackendError(problem("device", case.device, rule, "use auto, or cpu"))
