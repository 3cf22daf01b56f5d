"""What a command says besides its results: notes and progress. `--quiet` leaves both out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from resnet_spec.printing.activity import Pulse, heard

_quiet = False
_rank = 0


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add --quiet."""
    what = "print results and errors alone: no progress, no notes"
    parser.add_argument("--quiet", action="store_true", help=what)


def listen(quiet: bool) -> AbstractContextManager[None]:
    """Set how much is said from here on; in the block long silences are broken."""
    global _quiet
    _quiet = quiet
    return nullcontext() if quiet else Pulse(_pulse).running()


def hush(rank: int) -> None:
    """Say nothing from here on but errors: the first of several processes speaks for all.

    rank: this one's, with which its errors begin.
    """
    global _quiet, _rank
    _quiet, _rank = True, rank


def speaker() -> int:
    """Return the rank of this process among several."""
    return _rank


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
    if not _quiet:
        print(line, file=sys.stderr, flush=True)
