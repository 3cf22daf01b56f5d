"""What on this machine makes MindSpore slow, wrong or impossible; imports no framework.

Read by the core as a file, when backends are listed (`contract`, "conditions").
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

NEWEST_PYTHON = (3, 12)
"""The newest Python that MindSpore has packages for."""

SWITCH = "RESNET_SPEC_MINDSPORE_ISA"
"""Environment variable: "default" leaves MindSpore's library as it is."""

ONEDNN_SWITCHES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""oneDNN's own, which reach every oneDNN of the process."""

_QUICK = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
"""Their values with which MindSpore takes its quick convolutions."""

CPUINFO = Path("/proc/cpuinfo")


def conditions(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what is known to be slow or wrong here, a line each."""
    lines: list[str] = []
    if sys.version_info[:2] > NEWEST_PYTHON:
        here, newest = (".".join(map(str, v)) for v in (sys.version_info[:2], NEWEST_PYTHON))
        lines.append(f"Python = {here}: MindSpore has packages up to {newest}; use Python {newest}")
    if find_spec("mindspore") is None:
        return lines
    given = environment.get(SWITCH, "avx2")
    if given not in ("avx2", "default"):
        lines.append(f"{SWITCH} = {given}: must be avx2 or default; unset it")
    user = user_cap(environment)
    if has_avx512() and (given == "default" if not user else user.rpartition(" ")[2] not in _QUICK):
        rule = "MindSpore's convolutions are many times slower with AVX-512"
        lines.append(f"{user or f'{SWITCH} = {given}'}: {rule}; unset it")
    lines += filter(None, [wrong_cache(environment)])
    if environment.get("MS_JIT") == "0":
        lines.append("MS_JIT = 0: switches graph mode off, in which sessions run; unset it")
    return lines


def wrong_cache(environment: Mapping[str, str] = os.environ) -> str:
    """Return the line on MindSpore's cache of compiled graphs where it is switched on, else "".

    It finds a graph by its number among those of a process. Found by running (MindSpore 2.10, CPU):
    the same run started again moves no running statistics, and one with another batch fails.
    """
    if environment.get("MS_COMPILER_CACHE_ENABLE") != "1":
        return ""
    rule = "MindSpore takes the graphs of an earlier start, whatever they compute"
    return f"MS_COMPILER_CACHE_ENABLE = 1: {rule}; unset it"


def user_cap(environment: Mapping[str, str] = os.environ) -> str:
    """Return the variable by which the user caps every oneDNN, and its value; "" for none."""
    found = (name for name in ONEDNN_SWITCHES if environment.get(name))
    return next((f"{name} = {environment[name].upper()}" for name in found), "")


def has_avx512(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the CPU has what oneDNN means by AVX-512; False but on Linux, which tells."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= set(flags)
