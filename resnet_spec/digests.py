"""Digests of named arrays, which tell a damaged file from a sound one.

They are no defence against forgery: whoever writes a file writes its digest. So they are XXH3 (Y.
Collet), which reads as quickly as memory gives, where SHA-256 would take
longer than everything else that loading a file takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import xxhash

from resnet_spec.contract import Array


def digest(arrays: Mapping[str, Array]) -> str:
    """Return the digest of all names, types, shapes and bytes, `xxh3-128:` and 32 hex digits."""
    whole = xxhash.xxh3_128()
    for name in sorted(arrays):
        whole.update(_described(name, arrays[name]))
        whole.update(_bytes(arrays[name]))
    return f"xxh3-128:{whole.hexdigest()}"


def matches(text: object, arrays: Mapping[str, Array]) -> bool:
    """Whether `text` is the digest of `arrays`, of this version or an earlier one."""
    is_early = isinstance(text, str) and text.startswith("sha256:")
    return text == (_sha256 if is_early else digest)(arrays)


def _sha256(arrays: Mapping[str, Array]) -> str:
    """Return the digest that earlier versions wrote."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        whole.update(_described(name, arrays[name]))
        whole.update(_bytes(arrays[name]))
    return f"sha256:{whole.hexdigest()}"


def _described(name: str, array: Array) -> bytes:
    return f"{name} {array.dtype.str} {array.shape}\n".encode()


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
