"""torch's training step for GPUs, on a machine without one: on fake tensors, which know no values.

Seen are devices, types, and every wait for the device; memory formats are not modelled.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from several import environments

torch = pytest.importorskip("torch")

HERE = Path(__file__).parent
PRECISIONS = ("float32", "bfloat16", "float16")
COMPILED_WITH = "2.13"
"""The torch whose headers the shim is written against; others may have other interfaces."""

pytestmark = [
    pytest.mark.xdist_group("torch_fake_cuda"),
    pytest.mark.skipif(sys.platform != "linux", reason="the shim is preloaded as on Linux"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="the shim needs g++"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA itself"),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program saw, by precision."""
    library = tmp_path_factory.mktemp("shim") / "fake_cuda.so"
    root = Path(torch.__file__).parent
    command = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{root}/include"]
    command += [str(HERE / "fake_cuda.cpp"), "-o", str(library)]
    command += [f"-L{root}/lib", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{root}/lib"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    if built.returncode and not torch.__version__.startswith(COMPILED_WITH):
        pytest.skip(f"the shim does not compile with torch {torch.__version__}")
    assert built.returncode == 0, built.stderr
    (environment,) = environments(1)
    paths = os.pathsep.join([str(HERE), environment["PYTHONPATH"], *sys.path])
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "torch_fake_cuda.py"), library, *PRECISIONS],
        env={**environment, "PYTHONPATH": paths, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_stays_on_the_device(precision: str, seen: dict[str, Any]) -> None:
    found = seen[precision]
    assert found["held"] == ["torch.float32 on cuda:0"]
    assert found["computed"] == [f"torch.{precision} on cuda:0"]
    assert found["optimizer"] == "sgd, fused"
    assert found["scales"] == (precision == "float16")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_chunk_is_fetched_once(precision: str, seen: dict[str, Any]) -> None:
    """The losses and the hits of all steps, and nothing else."""
    steps = seen[precision]["steps"]
    assert steps > 1 and seen[precision]["fetched"] == [[steps], [steps]]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("labels_on_the_host", "FakeTensorDeviceMismatchError: "),
        ("shift_on_the_host", "FakeTensorDeviceMismatchError: "),
        ("a_wait_in_every_step", "DataDependentOutputException: aten._local_scalar_dense"),
    ],
)
def test_a_fault_is_seen(fault: str, error: str, seen: dict[str, Any]) -> None:
    for precision in PRECISIONS:
        assert seen[precision]["faults"][fault].startswith(error), precision
