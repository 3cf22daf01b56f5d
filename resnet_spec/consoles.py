"""Where progress is shown: on terminals only, whatever the environment says of colours."""

from __future__ import annotations

import sys

from rich.console import Console


def progress_console(*, stderr: bool = True) -> Console:
    """Return a console for bars that move; not a terminal where the stream is a file or a pipe.

    Rich believes FORCE_COLOR, which notebooks set, and would write every frame to the page.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        force_terminal=None if stream.isatty() else False,
        soft_wrap=not stderr,
        highlight=False,
    )
