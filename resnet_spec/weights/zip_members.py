"""Where the members of a zip archive lie in a mapped file; nothing is unpacked, nothing written."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass

from resnet_spec.weights.source import Source, shown

DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    OverflowError,
    struct.error,
    zlib.error,
)
_LARGEST_INDEX = 32 << 20
_MOST_MEMBERS = 100_000
_LOCAL = struct.Struct("<4s22xHH")


@dataclass(frozen=True, slots=True)
class Member:
    """A member's bytes as they stand in the file, at `begin`. size: what they take unpacked."""

    name: str
    begin: int
    raw: memoryview
    size: int
    stored: bool


def zip_members(source: Source) -> dict[str, Member]:
    """Return the archive's members by name. Raises CheckpointError when it is no sound archive."""
    try:
        with zipfile.ZipFile(_Index(source.data)) as archive:
            entries = archive.infolist()
    except DAMAGE:
        raise source.refused("is not a whole zip archive", "get it again") from None
    if len(entries) > _MOST_MEMBERS:
        raise source.refused(f"has more than {_MOST_MEMBERS} members", "get it again")
    members: dict[str, Member] = {}
    for entry in entries:
        member = _member(entry, source)
        if member.name in members:
            raise source.refused(f"has two members {shown(member.name)}", "get it again")
        members[member.name] = member
    return members


def stored(member: Member, source: Source) -> memoryview:
    """Return the bytes of a member that must not be compressed."""
    if not member.stored:
        raise source.refused(
            f"its member {shown(member.name)} is compressed", "pack it again without compression"
        )
    return member.raw


def _member(entry: zipfile.ZipInfo, source: Source) -> Member:
    start, data = entry.header_offset, source.data
    damaged = source.refused(f"its member {shown(entry.filename)} is damaged", "get it again")
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or entry.filename.startswith("/"):
        raise source.refused(
            f"has a member outside its folder, {shown(entry.filename)}", "do not use this file"
        )
    if start < 0 or start + _LOCAL.size > len(data) or entry.flag_bits & 1:
        raise damaged
    magic, name, extra = _LOCAL.unpack_from(data, start)
    begin = start + _LOCAL.size + name + extra
    end = begin + entry.compress_size
    plain = entry.compress_type == zipfile.ZIP_STORED
    if magic != b"PK\x03\x04" or end > len(data) or plain != (entry.compress_type != 8):
        raise damaged
    if plain and entry.file_size != entry.compress_size:
        raise damaged
    return Member(entry.filename, begin, data[begin:end], entry.file_size, plain)


class _Index(io.RawIOBase):
    """The file as `zipfile` wants it, which would read an index of any size at once."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def seekable(self) -> bool:
        """Answer as `zipfile` asks."""
        return True

    def readable(self) -> bool:
        """Answer as `zipfile` asks."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move within the file."""
        target = offset + (0, self._at, len(self._data))[whence]
        if target < 0:
            raise OSError("before the start")
        self._at = target
        return target

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, refusing an index of impossible size."""
        end = len(self._data) if size < 0 else min(self._at + size, len(self._data))
        if end - self._at > _LARGEST_INDEX:
            raise OSError("the index is too large")
        found = bytes(self._data[self._at : end])
        self._at = max(self._at, end)
        return found
