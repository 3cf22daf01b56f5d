"""MindSpore's own oneDNN is capped on a CPU with AVX-512, and no other.

A cap is taken once in a process, so each case has its own, and /proc/cpuinfo is faked: any machine
shows that the call is made, what it answers, and that torch's oneDNN keeps its kernels.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

pytest.importorskip("mindspore")

AVX512 = "avx avx2 avx512f avx512bw avx512vl avx512dq"

# What the process is told, and what is written down of it; CAP takes the place of AVX2's number.
PREPARE = """
import ctypes, json, os, pathlib
flags, cap, calls = os.environ["FLAGS"], int(os.environ["CAP"]), []
real_text, real_library = pathlib.Path.read_text, ctypes.CDLL

def read_text(self, *args, **more):
    is_it = str(self) == "/proc/cpuinfo"
    return f"flags : {flags}\\n" if is_it else real_text(self, *args, **more)

class Recorder:
    def __init__(self, library):
        self.dnnl_get_effective_cpu_isa = library.dnnl_get_effective_cpu_isa
        self.library = library
    def dnnl_set_max_cpu_isa(self, number):
        calls.append([number, self.library.dnnl_set_max_cpu_isa(cap or number)])
        return calls[-1][1]

def load(name, *args, **more):
    library = real_library(name, *args, **more)
    return Recorder(library) if "libdnnl" in str(name) else library

pathlib.Path.read_text, ctypes.CDLL = read_text, load
"""
LOAD = """
from resnet_spec.loader import load_backend
load_backend("mindspore")
import resnet_spec_mindspore.isa as isa
"""
TELL = """
number = isa.onednn().dnnl_get_effective_cpu_isa() if isa.onednn() else 0
print(json.dumps({"calls": calls, "isa": isa.describe(), "effective": number}))
"""
RUN_BEFORE = """
import mindspore
image = mindspore.ops.ones((1, 1, 3, 3), mindspore.float32)
mindspore.ops.conv2d(image, image).asnumpy()
"""
IN_TORCH = """
import torch
with torch.no_grad():
    torch.nn.functional.conv2d(torch.ones(4, 16, 32, 32), torch.ones(16, 16, 3, 3))
"""


def run(code: str, flags: str = AVX512, cap: int = 0, **environment: str) -> str:
    """Return what a process of its own prints."""
    without = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "RESNET_SPEC_MINDSPORE_ISA")
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "FLAGS": flags, "CAP": str(cap), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def told(code: str, flags: str = AVX512, **environment: str) -> dict[str, Any]:
    return json.loads(run(PREPARE + code + TELL, flags, 0, **environment).splitlines()[-1])


@cache
def capped() -> dict[str, Any]:
    """Return what is told where the CPU has AVX-512; a session is asked, too."""
    code = LOAD + (
        "from resnet_spec import session\n"
        "made = session('resnet20_cifar', 'mindspore', input_size=8)\n"
        "assert made.info['isa'] == isa.describe() != ''\n"
    )
    return told(code)


@pytest.mark.xdist_group("mindspore_isa")
def test_it_is_capped_where_the_cpu_has_avx512() -> None:
    found = capped()
    assert found["calls"] == [[0x7, 0]]
    assert found["effective"] <= 0x7
    assert found["isa"].endswith(" (capped, for convolutions are slow with AVX-512)")


@pytest.mark.parametrize(
    "flags",
    ["avx avx2 avx512f", *(pytest.param(f, marks=pytest.mark.thorough) for f in ("avx avx2", ""))],
)
def test_it_is_left_alone_elsewhere(flags: str) -> None:
    found = told(LOAD, flags)
    assert found["calls"] == [] and "(" not in found["isa"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RESNET_SPEC_MINDSPORE_ISA", "default", "RESNET_SPEC_MINDSPORE_ISA = default"),
        *(
            pytest.param(name, "AVX", f"{name} = AVX", marks=pytest.mark.thorough)
            for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
        ),
    ],
)
def test_the_environment_decides(name: str, value: str, said: str) -> None:
    found = told(LOAD, **{name: value})
    assert found["calls"] == [] and said in found["isa"]
    assert (found["effective"] == 0x3) == (value == "AVX")


def test_too_late_is_said() -> None:
    found = told(RUN_BEFORE + LOAD)
    assert [answer for _, answer in found["calls"]] != [0]
    assert "not capped, for MindSpore ran before" in found["isa"]


def test_a_library_that_is_not_there_is_said() -> None:
    code = LOAD.replace(
        "from resnet_spec.loader",
        "pathlib.Path.glob = lambda self, pattern: iter(())\nfrom resnet_spec.loader",
    )
    found = told(code)
    assert found["calls"] == []
    assert found["isa"].startswith("unknown (not capped, for MindSpore's oneDNN is not found")


@pytest.mark.xdist_group("mindspore_isa")
def test_a_session_says_it() -> None:
    assert "capped" in capped()["isa"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_torch_keeps_its_instruction_set_and_its_kernels() -> None:
    """MindSpore's is capped at SSE4.1 here, which any machine shows."""

    def kernels(text: str) -> list[str]:
        lines = [line.split(",") for line in text.splitlines() if "onednn_verbose" in line]
        # ..., exec, cpu, convolution, implementation, ...
        return [line[line.index("convolution") + 1] for line in lines if "convolution" in line]

    alone = run(IN_TORCH, ONEDNN_VERBOSE="1")
    beside = run(PREPARE + LOAD + TELL + IN_TORCH, cap=0x1, ONEDNN_VERBOSE="1")
    (said,) = [json.loads(line) for line in beside.splitlines() if line.startswith("{")]
    assert said["calls"] == [[0x7, 0]] and said["effective"] == 0x1
    assert said["isa"].startswith("SSE4.1 (capped")
    assert kernels(alone) and kernels(beside) == kernels(alone)
    assert not any("sse41" in kernel for kernel in kernels(beside))
