"""Make MindSpore, built against NumPy 1, usable beside NumPy 2; imported before anything else.

Its first operation between a tensor and a Python object raises SystemError, once per process and
with a notice on the process's error stream. It is raised here, and the notice kept off the screen.
"""

from __future__ import annotations

import os
from contextlib import redirect_stderr, suppress
from io import StringIO

from mindspore import Tensor


def _warm_up() -> None:
    screen = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        # TypeError is what a sum with a plain object should raise, and does from then on.
        with redirect_stderr(StringIO()), suppress(SystemError, ImportError, TypeError):
            Tensor([1.0]) + object()  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


_warm_up()
