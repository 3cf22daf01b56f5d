"""What on this machine makes torch slow, wrong or impossible; imports no framework.

Read by the core as a file, when backends are listed (`contract`, "conditions").
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NVIDIA = Path("/proc/driver/nvidia/version")
"""Where Linux tells of the CPU, and of a driver for NVIDIA's GPUs."""

# By what each of oneDNN's instruction sets, weakest first, is known among the CPU's flags.
_SETS = {"SSE41": "sse4_1", "AVX": "avx", "AVX2": "avx2", "AVX512_CORE": "avx512f"}


def conditions(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what is known to be slow or wrong here, a line each; nothing without the framework."""
    if find_spec("torch") is None:
        return []
    lines = [*_capped(environment), *_hidden(environment)]
    if environment.get("ATEN_CPU_CAPABILITY") == "default":
        lines.append("ATEN_CPU_CAPABILITY = default: torch uses no vector instructions; unset it")
    return lines


def _capped(environment: Mapping[str, str]) -> list[str]:
    """Name a cap on oneDNN that is below what the CPU has."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        given = environment.get(name, "").upper()
        order = list(_SETS)
        if given in order and any(_has(_SETS[isa]) for isa in order[order.index(given) + 1 :]):
            rule = "keeps torch's convolutions below the CPU's instruction sets"
            return [f"{name} = {given}: {rule}; unset it"]
    return []


def _hidden(environment: Mapping[str, str]) -> list[str]:
    """Name what keeps torch from an NVIDIA GPU that is there."""
    if not NVIDIA.exists():
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return [f"CUDA_VISIBLE_DEVICES = {visible!r}: hides the GPU; unset it"]
    installed = version("torch")
    if installed.endswith("+cpu"):
        remedy = "install a build for CUDA, see pytorch.org/get-started"
        return [f"torch = {installed}: is built for CPUs, and a GPU is there; {remedy}"]
    return []


def _has(flag: str) -> bool:
    """Return whether the CPU has `flag`; False where nothing tells."""
    try:
        text = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return flag in line.split()


def of_framework() -> list[str]:
    """Return what torch, imported, says of itself that is slow, a line each."""
    import torch

    if not torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64"):
        rule = "is built without oneDNN, and its convolutions on a CPU are slow"
        return [f"torch = {torch.__version__}: {rule}; install a wheel of pytorch.org"]
    return []
