"""Where frameworks keep what they compile from one start of the program to the next.

One variable for all of them, RESNET_SPEC_CACHE. Without it each does as it does of itself: torch
keeps kernels in a folder of its own, JAX and MindSpore nothing. Read by a backend before it
compiles anything.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from resnet_spec.errors import BackendError, problem

VARIABLE = "RESNET_SPEC_CACHE"


def compile_cache(backend: str) -> Path | None:
    """Return the folder, made where it is not there, for what `backend` compiles; None for none.

    Whoever can write there can have this program run what they like, so a new one is the user's
    alone. Raises BackendError for a folder that cannot be made or written to.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    folder = Path(given).expanduser().absolute() / backend
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: a ~ of nobody.
        why = getattr(error, "strerror", None) or error
        rule = f"is no folder that compiled programs can be kept in ({why})"
        raise BackendError(problem(VARIABLE, given, rule, "name another, or unset it")) from None
    return folder
