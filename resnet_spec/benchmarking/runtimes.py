"""Programs that run exported models, as peers in prediction: ONNX Runtime and OpenVINO.

They are the engines of `predict` and `evaluate`, and belong to no backend: the file is written and
checked before their process starts (`exported`). Each takes float32 images [N, C, H, W] that are
normalised, as its own documentation has it. Imported by the worker alone, but for the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_spec.bench import Case, Contestant
from resnet_spec.manifest_bench import Peer
from resnet_spec.running.engines import ENGINES, FORMAT, check_device, read_program

RUNTIMES = {
    name: Peer(
        backend="",
        make=f"{__name__}:{name}",
        needs=engine.needs,
        install=engine.install,
        modes=("predict",),
        format=FORMAT,
    )
    for name, engine in ENGINES.items()
}


def onnxruntime(case: Case) -> Contestant:
    """Return the exported network in ONNX Runtime on the CPU."""
    return _contestant("onnxruntime", case)


def openvino(case: Case) -> Contestant:
    """Return the exported network in OpenVINO on the CPU, computing in float32."""
    return _contestant("openvino", case)


def _contestant(name: str, case: Case) -> Contestant:
    check_device(name, case.device)
    assert case.file is not None, "a peer whose row names a format is given a file"
    program = read_program(name, case.file, case.threads)
    images: Any = np.ascontiguousarray(case.normalised().transpose(0, 3, 1, 2))

    def predict(steps: int) -> None:
        for _ in range(steps):
            program.run(images)

    same = {"device": "cpu", "precision": case.precision, "threads": str(case.threads)}
    return Contestant(predict, info={name: program.info["version"], **same})
