"""Whether this process keeps the memory that it frees, so that a step finds it where it lay.

glibc's malloc gives large arrays back to the system as soon as they are freed, and every step takes
them anew, which the system fills with zeros, page by page, once for every step on a CPU. It can be
told to keep them. That is one setting of the whole process, and memory that is freed is no longer
any other program's.

Called by a session on a CPU whose framework has no pool of its own; the earlier the better, for
threads that have a heap of their own keep it. mallopt(3) has the parameters.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from functools import cache
from typing import Literal

from resnet_spec.errors import BackendError, did_you_mean, problem

VARIABLE = "RESNET_SPEC_FREED_MEMORY"
WORDS = ("kept", "returned")

Freed = Literal["kept", "returned"]

_OWN = (
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
)
"""glibc's own variables: whoever sets one has decided."""

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_SETTINGS = (
    (_MMAP_MAX, 0),  # Nothing outside the heap, where freeing is giving back.
    (_TRIM_THRESHOLD, -1),  # Never give the heap's end back.
    (_ARENA_MAX, 1),  # One heap for all threads: what one frees another finds.
)


def keep_freed_memory() -> Freed:
    """Have malloc keep what is freed from now on, where that can be; return what it does.

    "returned": the variable says so, one of glibc's own or another allocator is there, or the
    system's is not glibc's. Raises BackendError for a word of the variable that is none.
    """
    return _kept(wish(os.environ))


@cache
def _kept(wished: Freed) -> Freed:
    if wished == "kept" and is_glibc() and all(_set(*one) for one in _SETTINGS):
        return "kept"
    return "returned"


def wish(environment: Mapping[str, str]) -> Freed:
    """Return what is to be done with freed memory by the variables. Raises BackendError."""
    given = environment.get(VARIABLE, "")
    if given and given not in WORDS:
        rule = f"must be {' or '.join(WORDS)}"
        raise BackendError(problem(VARIABLE, given, rule, did_you_mean(given, WORDS)))
    if given:
        return "kept" if given == "kept" else "returned"
    is_own = any(name in environment for name in _OWN)
    is_tuned = "glibc.malloc" in environment.get("GLIBC_TUNABLES", "")
    is_another = "malloc" in environment.get("LD_PRELOAD", "")
    return "returned" if is_own or is_tuned or is_another else "kept"


def is_glibc() -> bool:
    """Return whether this process's C library is glibc."""
    return platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"


def _set(parameter: int, value: int) -> bool:
    return ctypes.CDLL(None).mallopt(parameter, value) == 1
