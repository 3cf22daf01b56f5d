"""How much main memory this process has held at once."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory_mb() -> float | None:
    """Return the process's largest resident size so far in 10^6 bytes; None where unknown."""
    # Linux's getrusage keeps the peak of the process that this one was started from; this does not.
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return _by_rusage()
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 / 1e6 if peaks else _by_rusage()


def _by_rusage() -> float | None:
    try:
        import resource
    except ImportError:  # Windows.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage(2): KiB on Linux and the BSDs, bytes on macOS.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
