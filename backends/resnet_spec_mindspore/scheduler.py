"""MindSpore's scheduler, by which the workers of a cluster find each other; run as a program.

It must not outlive rank 0, which started it, and must outlive a rank 0 that ended well: a worker
that cannot take its leave of it ends with an error. Nor must it outlive who started rank 0, as
`launch`, with whom all workers have ended. MindSpore keeps Python from running beside it, so that
it is watched from here, a process that imports no framework.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

BEGIN, GOODBYE = b"!", b"."
"""What rank 0 says when the workers are there, and before it ends well."""

_LOOK_S = 0.1
_LEAVE_S = 30.0
"""How long the other workers may take to leave after rank 0."""

_SERVE = "import sys, mindspore; sys.stdin.read(1) and mindspore.communication.init()"
"""What takes long is done before rank 0 has met the others."""


def start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the scheduler of `environment`, which ends when `stdin` closes: with this process.

    It serves once it hears `BEGIN`.
    """
    return subprocess.Popen(
        [sys.executable, "-P", __file__, str(os.getppid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**environment, "MS_ROLE": "MS_SCHED"},
        start_new_session=True,  # Ctrl-C is for the workers, which save first.
    )


def _watch(launcher: int) -> int:
    served = subprocess.Popen([sys.executable, "-P", "-c", _SERVE], stdin=subprocess.PIPE)
    threading.Thread(target=_end_with_rank_0, args=(served, launcher), daemon=True).start()
    return served.wait()


def _end_with_rank_0(served: subprocess.Popen[bytes], launcher: int) -> None:
    begin = sys.stdin.buffer.read(len(BEGIN))
    if served.stdin is not None and begin:
        with suppress(OSError), served.stdin as listening:
            listening.write(begin)
    if sys.stdin.buffer.read():
        until = time.monotonic() + _LEAVE_S
        while served.poll() is None and _is_there(launcher) and time.monotonic() < until:
            time.sleep(_LOOK_S)
    served.kill()


def _is_there(process: int) -> bool:
    """Return whether a process exists, of whomever it is."""
    with suppress(PermissionError):  # It is somebody else's.
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


if __name__ == "__main__":
    sys.exit(_watch(int(sys.argv[1])))
