"""A process whose files cannot grow: what a full disk does, where nobody has to fill one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_LIMITED = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
"""
_COMMAND = "from resnet_spec.cli.main import main\nsys.exit(main(sys.argv[1:]))"


def limited(
    code: str, folder: Path, *arguments: str, room: int = 20_000
) -> subprocess.CompletedProcess[str]:
    """Run `code` in `folder`; each file that it writes ends at `room` bytes. `Path` is imported.

    -B: half a compiled module would be left for every later process.
    """
    command = [sys.executable, "-B", "-c", _LIMITED.format(room=room) + code, *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


def limited_command(
    folder: Path, *arguments: str, room: int = 20_000
) -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder`; each file that it writes ends at `room` bytes."""
    return limited(_COMMAND, folder, *arguments, room=room)
