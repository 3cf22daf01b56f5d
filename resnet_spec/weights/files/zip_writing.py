"""Write members into a zip archive so that their bytes can be mapped as arrays."""

from __future__ import annotations

import zipfile
from typing import IO

_ALIGNED = 64


def opened_member(archive: zipfile.ZipFile, name: str, size: int) -> IO[bytes]:
    """Open a member of about `size` bytes for writing; its bytes begin at a multiple of 64."""
    info = zipfile.ZipInfo(name)
    info.file_size = size
    assert archive.fp is not None
    begin = archive.fp.tell() + 30 + len(name.encode()) + 4
    padding = -begin % _ALIGNED
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    return archive.open(info, "w")
