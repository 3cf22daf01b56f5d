"""A backend of another distribution: NumPy, differentiated by a tape of closures.

Shares no code with the reference, and sums in other orders. docs/backends.md walks through it.
"""

from __future__ import annotations

from .modules import build
from .session import PRECISIONS, Session

__all__ = ["PRECISIONS", "Session", "build"]
