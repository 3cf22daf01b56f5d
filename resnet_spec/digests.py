"""Digests of named arrays, which tell a damaged file from a sound one.

They are no defence against forgery: whoever writes a file writes its digest. So they are XXH3 (Y.
Collet), which reads as quickly as memory gives, where SHA-256 would take
longer than everything else that loading a file takes.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import numpy as np
import xxhash

from resnet_spec.contract import Array


def digest(arrays: Mapping[str, Array]) -> str:
    """Return the digest of all names, types, shapes and bytes, `xxh3-128:` and 32 hex digits."""
    names, whole = sorted(arrays), xxhash.xxh3_128()
    for name, found in zip(names, _hashes([arrays[name] for name in names]), strict=True):
        whole.update(_described(name, arrays[name]))
        whole.update(found)
    return f"xxh3-128:{whole.hexdigest()}"


def text_digest(text: str) -> str:
    """Return the digest of a text, in the same form."""
    return f"xxh3-128:{xxhash.xxh3_128_hexdigest(text.encode())}"


def _hashes(arrays: Sequence[Array]) -> list[bytes]:
    """Return each array's own digest; two threads take half of the bytes each."""
    ends = list(accumulate(array.nbytes for array in arrays))
    middle = bisect(ends, ends[-1] // 2) if ends else 0
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: [_hash(array) for array in arrays[middle:]])
        return [_hash(array) for array in arrays[:middle]] + second.result()


def _hash(array: Array) -> bytes:
    return xxhash.xxh3_128_digest(_bytes(array))


def _described(name: str, array: Array) -> bytes:
    return f"{name} {array.dtype.str} {array.shape}\n".encode()


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
