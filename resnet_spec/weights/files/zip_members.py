"""The members of a zip archive in a mapped file: where they lie, and their bytes, verified.

A member that is not compressed is a view of the file; one that is deflated is unpacked, within the
budget of its file. Either is compared with the CRC that the archive has of it.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass

from resnet_spec.errors import CheckpointError
from resnet_spec.weights.files.source import Source, shown

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
_MOST_DEFLATION = 1032
"""No deflated byte stands for more."""
_MOST_MEMBERS = 100_000
_LOCAL = struct.Struct("<4s22xHH")


@dataclass(frozen=True, slots=True)
class Member:
    """A member's bytes as they stand in the file, at `begin`.

    size, crc: of the bytes when they are unpacked, as the archive says. is_stored: not compressed.
    """

    name: str
    begin: int
    raw: memoryview
    size: int
    crc: int
    is_stored: bool


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
        if entry.filename.endswith("/") or entry.filename.startswith("__MACOSX/"):
            continue
        member = _member(entry, source)
        if member.name in members:
            raise source.refused(f"has two members {shown(member.name)}", "get it again")
        members[member.name] = member
    return members


def content(member: Member, source: Source, *, has_crc: bool = True) -> memoryview:
    """Return a member's bytes, unpacked where they are deflated, and verified.

    has_crc: False for an archive whose writer left the CRCs out.
    """
    found = member.raw if member.is_stored else _unpacked(member, source)
    if has_crc and zlib.crc32(found) != member.crc:
        rule = f"its member {shown(member.name)} does not have the CRC that the archive names"
        raise source.refused(rule, "the file is damaged; get it again")
    return found


def start(member: Member, source: Source, size: int) -> bytes:
    """Return the first `size` bytes of a member, which are not verified."""
    if member.is_stored:
        return bytes(member.raw[:size])
    try:
        return zlib.decompressobj(-15).decompress(member.raw, size)
    except zlib.error:
        raise _damaged(member.name, source) from None


def stored(member: Member, source: Source) -> memoryview:
    """Return the bytes of a member that must not be compressed, verified."""
    if not member.is_stored:
        raise source.refused(
            f"its member {shown(member.name)} is compressed", "pack it again without compression"
        )
    return content(member, source)


def _unpacked(member: Member, source: Source) -> memoryview:
    """Return a deflated member's bytes, unpacked in pieces into their final place."""
    damaged = _damaged(member.name, source)
    if member.size > _MOST_DEFLATION * len(member.raw) + 1024:
        raise damaged
    source.budget.take(member.size)
    out = bytearray(member.size)
    unpacker, at, left = zlib.decompressobj(-15), 0, member.raw
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(left, 1 << 20)
            left = unpacker.unconsumed_tail
            if at + len(piece) > len(out) or not (piece or left or unpacker.eof):
                raise damaged
            out[at : at + len(piece)] = piece
            at += len(piece)
    except zlib.error:
        raise damaged from None
    if at != len(out):
        raise damaged
    return memoryview(out)


def _damaged(name: str, source: Source) -> CheckpointError:
    return source.refused(f"its member {shown(name)} is damaged", "get it again")


def _member(entry: zipfile.ZipInfo, source: Source) -> Member:
    at, data = entry.header_offset, source.data
    damaged = _damaged(entry.filename, source)
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or entry.filename.startswith("/"):
        raise source.refused(
            f"has a member outside its folder, {shown(entry.filename)}", "do not use this file"
        )
    if entry.flag_bits & 1:
        raise source.refused(f"its member {shown(entry.filename)} is encrypted", "unpack it first")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        rule = f"its member {shown(entry.filename)} is compressed in a way that is not read"
        raise source.refused(rule, "pack it again without compression")
    if at < 0 or at + _LOCAL.size > len(data):
        raise damaged
    magic, name, extra = _LOCAL.unpack_from(data, at)
    begin = at + _LOCAL.size + name + extra
    end = begin + entry.compress_size
    if magic != b"PK\x03\x04" or end > len(data):
        raise damaged
    is_stored = entry.compress_type == zipfile.ZIP_STORED
    if is_stored and entry.file_size != entry.compress_size:
        raise damaged
    return Member(entry.filename, begin, data[begin:end], entry.file_size, entry.CRC, is_stored)


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
