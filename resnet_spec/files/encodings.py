"""Text that a person gives, in the encodings that editors and shells write.

UTF-8 with or without a byte order mark, and UTF-16 or UTF-32 with one. Nothing is guessed: bytes
that are none of these are refused by a line that names the likely encoding and the remedy.
"""

from __future__ import annotations

import codecs

from resnet_spec.errors import ResnetSpecError

# The marks of UTF-32 begin or end as those of UTF-16 do, and are looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_REMEDY = "save it as UTF-8"


def decoded(content: bytes, where: str, error: type[ResnetSpecError]) -> str:
    """Return `content` as text, without its byte order mark.

    Raises `error`, in one line that begins with `where`, for bytes in any other encoding.
    """
    for mark, encoding, name in _MARKS:
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                rule = f"has the byte order mark of {name} and is not {name} text"
                raise error(f"{where}: {rule}; {_REMEDY}") from None
    if b"\0" in content:
        rule = "holds zero bytes, as UTF-16 without a byte order mark does"
        raise error(f"{where}: {rule}; {_REMEDY}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as cause:
        line = content.count(b"\n", 0, cause.start) + 1
        byte = content[cause.start]
        rule = f"is not UTF-8 text (byte 0x{byte:02x} in line {line}; perhaps Latin-1)"
        raise error(f"{where}: {rule}; {_REMEDY}") from None


def shown(text: str, limit: int = 80) -> str:
    """Return text out of a file as it may be printed: one line, no control characters, not long."""
    safe = text if text.isprintable() else ascii(text)[1:-1]
    return safe if len(safe) <= limit else f"{safe[: limit - 3]}..."
