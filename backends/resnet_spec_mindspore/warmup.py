"""Make MindSpore, built against NumPy 1, usable beside NumPy 2; imported before anything else.

Its first operation between a tensor and a Python object raises SystemError, once per process and
with a notice on the process's error stream. It is raised here, and the notice kept off the screen.
"""

from __future__ import annotations

import os
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


# A sum with a plain object is refused before an operation runs, so that the user can still choose
# a device. TypeError is what it should raise, and does from then on.
with silenced(), suppress(SystemError, ImportError, TypeError):
    Tensor([1.0]) + object()  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
