"""Where a benchmark ran: the processor and what it can, and what else it was doing."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resnet_spec.running.child_processes import usable_processors

_CPUINFO = Path("/proc/cpuinfo")
_SETS = (
    ("amx_tile", "AVX-512 with AMX"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
    ("avx", "AVX"),
    ("sve", "SVE"),
    ("asimd", "NEON"),
)
"""Flags of Linux, the best first, and what the instruction set is called."""
_PREFIXES = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "XLA_", "ATEN_"),
    *("RESNET_SPEC_", "CUDA_VISIBLE_", "MALLOC_"),
)
_BUSY = 0.5
"""Processors' worth of other work at the start, above which timings are doubted aloud."""


@dataclass(frozen=True)
class Machine:
    """What numbers depend on beside the contestants.

    isa: the widest instruction set of the CPU; "" where unknown. load: the mean number of processes
    that wanted a processor in the minute before; None where unknown. settings: variables of the
    environment that change how libraries compute.
    """

    cpu: str = ""
    isa: str = ""
    processors: int = 1
    system: str = ""
    python: str = ""
    load: float | None = None
    settings: dict[str, str] = field(default_factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @property
    def doubts(self) -> list[str]:
        """What speaks against the timings, a line each."""
        if self.load is None or self.load < _BUSY:
            return []
        rule = "timings are of what still runs, too; what has ended since does no harm"
        return [f"the load was {self.load:.1f} on {self.processors} processors before: {rule}"]


def this_machine() -> Machine:
    """Return what can be told of the one that this process runs on."""
    cpu, flags = _cpu()
    given = os.environ.items()
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        isa=next((name for flag, name in _SETS if flag in flags), ""),
        processors=usable_processors(),
        system=platform.system(),
        python=platform.python_version(),
        load=os.getloadavg()[0] if sys.platform != "win32" else None,
        settings={name: text for name, text in sorted(given) if _changes(name)},
    )


def _changes(name: str) -> bool:
    """Return whether a variable changes how libraries compute; contestants get threads of us."""
    return name.startswith(_PREFIXES) and not name.endswith("_NUM_THREADS")


def _cpu() -> tuple[str, set[str]]:
    """Return the CPU's model and its flags, from Linux; "" and none elsewhere."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", set()
    pairs = [line.partition(":") for line in lines]
    found = {key.strip().lower(): value.strip() for key, _, value in reversed(pairs)}
    flags = found.get("flags", found.get("features", ""))
    return found.get("model name", ""), set(flags.split())
