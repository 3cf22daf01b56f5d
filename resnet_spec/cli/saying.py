"""What a command says besides its results: notes and progress. `--quiet` leaves both out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from resnet_spec.printing.activity import Pulse, heard

_quiet = False


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add --quiet."""
    what = "print results and errors alone: no progress, no notes"
    parser.add_argument("--quiet", action="store_true", help=what)


def listen(quiet: bool) -> AbstractContextManager[None]:
    """Set how much is said from here on; in the block long silences are broken."""
    global _quiet
    _quiet = quiet
    return nullcontext() if quiet else Pulse(_pulse).running()


def is_quiet() -> bool:
    """Return whether results and errors alone are printed."""
    return _quiet


def say(line: str) -> None:
    """Print a line that is no result."""
    if not _quiet:
        print(line, flush=True)
    heard()


def tell(lines: Iterable[str], *, errors: bool = False) -> None:
    """Print what was assumed, left out or found on the way, a line each.

    errors: to the error stream, where standard output is for another program.
    """
    for line in () if _quiet else lines:
        print(f"note: {line}", file=sys.stderr if errors else sys.stdout)


def _pulse(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
