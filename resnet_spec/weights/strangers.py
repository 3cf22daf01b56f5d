"""Files that people hand in for weights: what they are, and what to do about it."""

from __future__ import annotations

from resnet_spec.weights.source import Source

_STARTS: list[tuple[bytes, str, str]] = [
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file", "run: git lfs pull"),
    (b"<", "is a web page or XML", "download the file itself"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first"),
    (b"BZh", "is compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first"),
    (b"PK", "is an empty or damaged zip archive", "get it again"),
    (b"GGUF", "is a GGUF file", "get the original weights"),
]


def stranger(source: Source) -> tuple[str, str] | None:
    """Return (what the file is, what to do) for well-known kinds that hold no weights for us."""
    for start, what, remedy in _STARTS:
        if source.starts_with(start):
            return what, remedy
    if bytes(source.data[257:262]) == b"ustar":
        return "is a tar archive", "unpack it first"
    if source.data[0] == 0x80 and len(source.data) > 1 and source.data[1] <= 5:
        return "is a bare pickle", "save it with torch.save or as safetensors"
    return None
