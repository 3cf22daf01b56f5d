"""Make MindSpore, built against NumPy 1, usable beside NumPy 2; imported before anything else.

Its first operation between a tensor and a Python object raises SystemError, once per process and
with a notice on the process's error stream. It is raised here, and the notice kept off the screen,
and out of what Python keeps of an error that ends a program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO

from mindspore import Tensor


@contextmanager
def silenced() -> Iterator[None]:
    """Keep what MindSpore's compiled parts write to the process's error stream off the screen."""
    screen = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


@contextmanager
def _no_last_error() -> Iterator[None]:
    """Keep errors that compiled parts print from standing as the program's last, uncaught one."""
    names = ("last_exc", "last_type", "last_value", "last_traceback")
    before = {name: getattr(sys, name) for name in names if hasattr(sys, name)}
    try:
        yield
    finally:
        for name in names:
            if name in before:
                setattr(sys, name, before[name])
            elif hasattr(sys, name):
                delattr(sys, name)


# A sum with a plain object is refused before an operation runs, so that the user can still choose
# a device. TypeError is what it should raise, and does from then on.
with silenced(), _no_last_error(), suppress(SystemError, ImportError, TypeError):
    Tensor([1.0]) + object()  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
