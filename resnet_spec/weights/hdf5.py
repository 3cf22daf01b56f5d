"""HDF5, as far as weights need it: hard links, plain arrays inside the file, nothing else.

The format can name other files (external links, external and virtual data); all of that is refused.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from resnet_spec.errors import CheckpointError
from resnet_spec.weights.arrays import STORED, array, count, settled
from resnet_spec.weights.source import Source, needed, shown
from resnet_spec.weights.tree import Opaque, Tensor

MAGIC = b"\x89HDF\r\n\x1a\n"
_CODES = {dtype.str[1:]: name for name, dtype in STORED.items() if name != "bfloat16"}
_MOST_ENTRIES = 100_000
_MOST_PACKING = 1032


class Hdf5:
    """An HDF5 file that stands in `data`, a part of `source`."""

    def __init__(self, source: Source, data: memoryview) -> None:
        self.source, self.data = source, data
        self._library = needed("h5py", source.path)
        self._seen = 0
        source.packed(len(data))

    @contextmanager
    def opened(self) -> Generator[Any]:
        """Give the root group; what the library cannot read becomes a CheckpointError."""
        try:
            with self._library.File(_Window(self.data), "r") as root:
                yield root
        except CheckpointError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError):
            raise self.damaged() from None

    def damaged(self) -> CheckpointError:
        """Return the refusal of a file that the library cannot read."""
        return self.source.refused("is truncated or a damaged HDF5 file", "get it again")

    def children(self, group: Any) -> dict[str, Any]:
        """Return {name: group or dataset} of the members that are in this very file."""
        found: dict[str, Any] = {}
        for name in group:
            self._seen += 1
            if self._seen > _MOST_ENTRIES:
                raise self.source.refused(f"holds more than {_MOST_ENTRIES} entries")
            link = group.get(name, getlink=True)
            if not isinstance(link, self._library.HardLink):
                raise self.source.refused(
                    f"{shown(str(name))} is a link to elsewhere; refused", "do not use this file"
                )
            found[str(name)] = group[name]
        return found

    def is_group(self, item: Any) -> bool:
        """Whether `item` is a group."""
        return isinstance(item, self._library.Group)

    def attribute(self, item: Any, name: str) -> object:
        """Return an attribute's value, or None; an attribute larger than the file is refused."""
        if name not in item.attrs:
            return None
        described = item.attrs.get_id(name)
        entries = count(described.shape or (), self.source, name)
        if not entries:
            return ()
        if entries > _MOST_ENTRIES or described.get_storage_size() > len(self.data):
            raise self.damaged()
        return item.attrs[name]

    def leaf(self, dataset: Any, name: str) -> object:
        """Return the tensor of a dataset: a view where its bytes stand in one piece."""
        source = self.source
        if not isinstance(dataset, self._library.Dataset):
            return Opaque("group")
        if dataset.external or dataset.is_virtual:
            raise source.refused(
                f"{shown(name)} has its data in another file; refused", "do not use this file"
            )
        element = "bfloat16" if self._is_bfloat16(dataset) else _CODES.get(dataset.dtype.str[1:])
        if element is None or dataset.shape is None:
            return Opaque(f"numpy.ndarray of {dataset.dtype.str}")
        shape = tuple(int(size) for size in dataset.shape)
        size = count(shape, source, name) * dataset.dtype.itemsize
        stored, offset = dataset.id.get_storage_size(), dataset.id.get_offset()
        little = dataset.dtype.str[0] != ">"
        if offset is not None and stored == size and little and element != "bfloat16":
            raw = self.data[offset : offset + size]
            return Tensor(element, partial(array, raw, element, shape, source, name))
        if size > _MOST_PACKING * stored + 4096:
            raise self.damaged()
        source.budget.take(size)
        wanted = np.dtype(np.float32) if element == "bfloat16" else STORED[element]
        found = np.asarray(dataset[()], dtype=wanted)
        return Tensor(element, lambda: settled(found, "float32", source))

    def _is_bfloat16(self, dataset: Any) -> bool:
        return self.attribute(dataset, "dtype") in ("bfloat16", b"bfloat16")


class _Window(io.RawIOBase):
    """A part of the map as a file."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def readable(self) -> bool:
        """Answer as the library asks."""
        return True

    def seekable(self) -> bool:
        """Answer as the library asks."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move within the file."""
        self._at = max(0, offset + (0, self._at, len(self._data))[whence])
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`, as far as the file reaches."""
        target = memoryview(buffer).cast("B")
        found = self._data[self._at : self._at + len(target)]
        target[: len(found)] = found
        self._at += len(found)
        return len(found)
