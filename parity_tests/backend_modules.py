"""Modules of a backend, which tests reach through the loader, as everybody does."""

from __future__ import annotations

import importlib
from typing import Any

from resnet_spec.loader import load_backend


def module_of(backend: str, name: str) -> Any:
    """Return the module `name` of a backend's package."""
    package = load_backend(backend).__name__  # type: ignore[attr-defined]
    return importlib.import_module(f"{package}.{name}")
