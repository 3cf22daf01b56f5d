"""Where text and progress are shown: how wide, and whether anything may move there."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PAGE = 100
"""Characters of a line of text where there is no terminal: files and pipes."""
_NARROWEST = 40


def table_width() -> int | None:
    """Return the characters of a line of standard output; None where it is no terminal.

    Without a terminal a table takes what it needs, so that no text is lost in a file. $COLUMNS goes
    before both.
    """
    if _columns() is None and not is_terminal(sys.stdout):
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def text_width() -> int:
    """Return the characters of a line of text: those of the terminal, or `PAGE`."""
    return table_width() or PAGE


def _columns() -> int | None:
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else None


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person sees `stream` as it is written."""
    try:
        return stream.isatty()
    except ValueError:  # It is closed.
        return False


def progress_console(*, stderr: bool = True) -> Console:
    """Return a console for bars that move; not a terminal where the stream is a file or a pipe.

    Rich believes FORCE_COLOR, which notebooks set, and would write every frame to the page.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        force_terminal=None if is_terminal(stream) else False,
        soft_wrap=not stderr,
        highlight=False,
    )
