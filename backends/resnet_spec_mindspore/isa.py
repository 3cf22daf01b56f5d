"""The instruction set of MindSpore's own oneDNN: AVX2 on a CPU with AVX-512; imported first.

There MindSpore 2.10's oneDNN (3.10) takes *reference* convolutions for the plain NCHW tensors it is
handed (DNNL_VERBOSE=1 shows them), which are many times slower: `resnet-spec bench` measures it, as
docs/performance.md says. Capped at AVX2 it takes its own kernels; AVX-512 without its
extensions is no better.

oneDNN takes a cap before its first use and not after. The library is MindSpore's alone: torch's is
another, inside torch's own.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms

from resnet_spec_mindspore.conditions import SWITCH, has_avx512, user_cap

AVX2 = 0x7

# dnnl_cpu_isa_t of oneDNN's C interface.
_NAMES = {
    0x1: "SSE4.1",
    0x3: "AVX",
    0x7: "AVX2",
    0xF: "AVX2 with VNNI",
    0x1F: "AVX2 with VNNI 2",
    0x27: "AVX-512",
    0x67: "AVX-512 with VNNI",
    0xE7: "AVX-512 with bfloat16",
    0x1EF: "AVX-512 with float16",
    0xFEF: "AVX-512 with AMX",
    0x1FEF: "AVX-512 with AMX, float16",
}


@cache
def onednn() -> Any:
    """Return MindSpore's oneDNN, which MindSpore has loaded; None where there is none to call."""
    for file in sorted((Path(ms.__file__).parent / "lib").glob("libdnnl.so*")):
        try:
            library = ctypes.CDLL(str(file))
        except OSError:
            continue
        if hasattr(library, "dnnl_set_max_cpu_isa"):
            return library
    return None


def cap() -> str:
    """Cap MindSpore's oneDNN where that helps; return what came of it, "" where it does not."""
    if not has_avx512():
        return ""
    if given := user_cap():
        return given
    if os.environ.get(SWITCH) == "default":
        return f"{SWITCH} = default; convolutions are slow"
    library = onednn()
    if library is None:
        return "not capped, for MindSpore's oneDNN is not found; convolutions may be slow"
    if library.dnnl_set_max_cpu_isa(AVX2) != 0:
        return "not capped, for MindSpore ran before this backend was loaded; convolutions are slow"
    return "capped, for convolutions are slow with AVX-512"


OUTCOME = cap()
"""What came of the cap when the backend was loaded."""


def describe() -> str:
    """Return the instruction set in force, and why; "" where MindSpore runs on something else."""
    if ms.get_context("device_target") != "CPU":
        return ""
    library = onednn()
    number = 0 if library is None else library.dnnl_get_effective_cpu_isa()
    name = _NAMES.get(number, hex(number) if number else "unknown")
    return f"{name} ({OUTCOME})" if OUTCOME else name
