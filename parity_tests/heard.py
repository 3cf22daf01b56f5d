"""What a command said on stderr: on a slow machine it says in between that it is at work."""

from __future__ import annotations

import re

_BEAT = re.compile(r".+, \d+ (s|min)( \d+ s)?")


def heard(stderr: str) -> list[str]:
    """Return the lines of `stderr` but those that only say what is still being done."""
    return [line for line in stderr.splitlines() if not _BEAT.fullmatch(line)]
