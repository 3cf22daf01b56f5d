"""The standard streams, so that no name, no terminal and no closed descriptor ends in a traceback.

Prepared once, as the command starts; everything that prints gains from it, `rich` included.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

ERRORS = "resnet-spec"
"""The name of the error handler: what a stream cannot encode is drawn in ASCII, or escaped."""

# One character for one, so that columns stay straight.
_DRAWN = str.maketrans(
    {
        **dict.fromkeys("─━╌╍┄┅═‐‑–—", "-"),
        **dict.fromkeys("│┃║┆┇", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╞╡╪╔╗╚╝╠╣╦╩╬╸╺", "+"),
        **dict.fromkeys("█▉▊▓", "#"),
        **dict.fromkeys("▋▌▐▒", "="),
        **dict.fromkeys("▍▎▏░", "-"),
        **dict.fromkeys("▁▂", "_"),
        **dict.fromkeys("▃▄", "="),
        **dict.fromkeys("▅▆", "*"),
        **dict.fromkeys("▇▀■", "#"),
        **dict.fromkeys("·•∙…", "."),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”", '"'),
        "×": "x",
        "−": "-",
        "→": ">",
        "←": "<",
        "≥": ">",
        "≤": "<",
        "±": "~",
        "●": "o",
        "○": "o",
        "✓": "+",
        "✗": "x",
    }
)


def _encodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stand in for `backslashreplace`, but that what only draws is drawn with ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    drawn = (one.translate(_DRAWN) for one in lost)
    text = "".join(one if one.isascii() else _escaped(one) for one in drawn)
    return text, error.end


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


def prepare() -> None:
    """Make the streams take every text, and see that none of their descriptors is free.

    A file that is opened later would else be given a closed stream's number, and with it whatever
    a library prints. Raises OSError when standard output is closed: what it is asked for is lost.
    """
    codecs.register_error(ERRORS, _encodable)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest number that is free: this one.
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        raise OSError("standard output is closed; to print nothing, use > /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def abandon(stream: TextIO) -> None:
    """Throw away what `stream` still holds, or Python complains of it once more at its end.

    For a reader that has had enough, as `head` has, and for a full disk.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
