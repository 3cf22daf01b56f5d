"""List what an HDF5 file holds, as a program of its own: no other module imports this one.

    python hdf5_child.py FILE BEGIN SIZE MOST

The library that reads HDF5 can loop for ever in C on a damaged file (found by fuzzing: HDF5 2.0,
attributes with strings of variable length), where nothing in the process can stop it. So it runs
here, and the caller stops this process. Written to stdout: eight bytes of length, a JSON list of
entries, then the bytes of those arrays that do not stand in one piece in the file, MOST in all.
Exits with 3 and one line on stderr for what is refused by name.
"""

from __future__ import annotations

import importlib
import io
import json
import mmap
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

h5py: Any = importlib.import_module("h5py")

_MOST_ENTRIES = 100_000
_DEEPEST = 40
_MOST_PACKING = 1032
_ATTRIBUTES = ("name", "dtype", "layer_names", "weight_names")
_Entry = dict[str, Any]


class Refused(Exception):
    """The file is refused; the text says for what."""


class Listing:
    """The entries of a file in the order of a walk, and the arrays behind them."""

    def __init__(self, size: int, most: int) -> None:
        self.entries: list[_Entry] = []
        self.arrays: list[bytes] = []
        self._size, self._left = size, most

    def add_group(self, group: Any, path: list[str]) -> None:
        """Add a group and all that is in it. The format can name other files; that is refused."""
        if len(path) > _DEEPEST:
            raise Refused("is nested too deeply for weights")
        self._add({"path": path, "attributes": self._attributes(group)})
        for name in group:
            shown = "/".join([*path, name])
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Refused(f"has a link to elsewhere, {shown}; refused")
            item = group[name]
            if isinstance(item, h5py.Group):
                self.add_group(item, [*path, name])
            elif isinstance(item, h5py.Dataset):
                self._add_dataset(item, [*path, name], shown)

    def _add(self, entry: _Entry) -> None:
        self.entries.append(entry)
        if len(self.entries) > _MOST_ENTRIES:
            raise Refused(f"holds more than {_MOST_ENTRIES} entries")

    def _add_dataset(self, dataset: Any, path: list[str], shown: str) -> None:
        if dataset.external or dataset.is_virtual:
            raise Refused(f"has the data of {shown} in another file; refused")
        attributes = self._attributes(dataset)
        brain = attributes.get("dtype") == ["bfloat16"]
        dtype = dataset.dtype
        described = {"path": path, "attributes": attributes, "dtype": dtype.str[1:]}
        if dataset.shape is None or dtype.kind not in "fiub" or dtype.hasobject:
            self._add(described)
            return
        size = int(np.prod([int(n) for n in dataset.shape], dtype=object)) * dtype.itemsize
        stored, offset = dataset.id.get_storage_size(), dataset.id.get_offset()
        described |= {"shape": list(dataset.shape), "size": size}
        # Where the type in the file is not just NumPy's, the library has to convert the values.
        plain = dataset.id.get_type() == h5py.h5t.py_create(dtype.newbyteorder("<"), logical=True)
        if offset is not None and stored == size and plain and not brain:
            self._add({**described, "offset": offset})
            return
        self._left -= size
        if size > _MOST_PACKING * stored + 4096 or self._left < 0:
            raise Refused(f"claims far more data for {shown} than it holds")
        wanted = np.dtype(np.float32) if brain else dtype.newbyteorder("<")
        found = np.asarray(dataset[()], dtype=wanted).tobytes()
        self.arrays.append(found)
        self._add({**described, "dtype": wanted.str[1:], "size": len(found)})

    def _attributes(self, item: Any) -> dict[str, list[str]]:
        """Return the attributes that Keras writes, as lists of strings."""
        found: dict[str, list[str]] = {}
        for name in item.attrs:
            if name.rstrip("0123456789") not in _ATTRIBUTES:
                continue
            described = item.attrs.get_id(name)
            entries = int(np.prod([int(n) for n in described.shape or ()], dtype=object))
            if entries > _MOST_ENTRIES or (entries and described.get_storage_size() > self._size):
                raise Refused(f"has an attribute {name} of impossible size")
            values = np.atleast_1d(item.attrs[name]).ravel().tolist() if entries else []
            found[name] = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
        return found


class Window(io.RawIOBase):
    """A part of a mapped file, as a file."""

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


def listed(path: str, begin: int, size: int, most: int) -> bytes:
    """Return what stands on stdout in the end. Raises Refused, or what the library raises."""
    with Path(path).open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    listing = Listing(size, most)
    with h5py.File(Window(data[begin : begin + size]), "r") as root:
        listing.add_group(root, [])
    text = json.dumps(listing.entries).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *listing.arrays])


def limit_memory(size: int) -> None:
    """Let this process take no more than `size` bytes, where the system knows how."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main(arguments: list[str]) -> int:
    """List the file that the arguments name."""
    begin, size, most = (int(number) for number in arguments[1:])
    limit_memory(4 * most + (2 << 30))
    try:
        output = listed(arguments[0], begin, size, most)
    except Refused as error:
        sys.stderr.write(str(error))
        return 3
    except Exception:  # Whatever the library makes of a damaged file.
        return 1
    sys.stdout.buffer.write(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
