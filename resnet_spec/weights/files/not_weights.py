"""Files that people hand in for weights: what they are, and what to do about it."""

from __future__ import annotations

from resnet_spec.weights.files.source import Source

_STARTS: list[tuple[bytes, str, str]] = [
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file", "run: git lfs pull"),
    (b"<", "is a web page or XML", "download the file itself"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first"),
    (b"BZh", "is compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first"),
    (b"PK", "is an empty or damaged zip archive", "get it again"),
    (b"GGUF", "is a GGUF file", "get the original weights"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it first"),
    (b"Rar!", "is a RAR archive", "unpack it first"),
    (b"\x93NUMPY", "is one array of NumPy without a name", "save all of them with numpy.savez"),
    (b"%PDF", "is a PDF", "name the weight file"),
    (b"{", "is JSON, no weights", "name the weight file beside it, or their folder"),
    *(
        (bytes([first]) + b"^:\x7f", "is encrypted by MindSpore", "save it without enc_key")
        for first in range(0xD8, 0xDC)
    ),
]
_TEXTS = (b"<", b"{", b"version https://git-lfs")
"""Before these, blanks and a byte order mark may stand."""
_TABLE = (0xDB4775248B80FB57).to_bytes(8, "little")
"""How a table of LevelDB ends, as which TensorFlow keeps the index of a checkpoint."""


def stranger(source: Source) -> tuple[str, str] | None:
    """Return (what the file is, what to do) for well-known kinds that hold no weights for us."""
    text = bytes(source.data[:512]).removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, what, remedy in _STARTS:
        if source.starts_with(start) or (start in _TEXTS and text.startswith(start)):
            return what, remedy
    if bytes(source.data[4:8]) == b"TFL3":
        return "is a model of TensorFlow Lite", "get the original weights"
    if bytes(source.data[-8:]) == _TABLE:
        return "is a checkpoint of TensorFlow", "save the weights as .weights.h5 or .h5"
    if bytes(source.data[257:262]) == b"ustar":
        return "is a tar archive", "unpack it first"
    if source.data[0] == 0x80 and len(source.data) > 1 and source.data[1] <= 5:
        return "is a bare pickle", "save it with torch.save or as safetensors"
    return None
