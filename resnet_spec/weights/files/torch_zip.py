"""torch's files since 1.6: a zip archive with one pickle and one member per storage."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from resnet_spec.contract import Array
from resnet_spec.files.pickle_machine import read_pickle
from resnet_spec.files.pickle_names import PickleRefused
from resnet_spec.weights.files.arrays import element_of, raw_bytes
from resnet_spec.weights.files.source import Source
from resnet_spec.weights.files.torch_names import TorchNames, refusal
from resnet_spec.weights.files.torch_pickle import STORAGE_NAMES, state_dict_pickle
from resnet_spec.weights.files.zip_members import Member, content
from resnet_spec.weights.files.zip_writing import opened_member

_LARGEST_PICKLE = 256 << 20


def is_torch_zip(members: Mapping[str, Member]) -> bool:
    """Whether an archive's members are those of torch."""
    return any(name.rpartition("/")[2] == "data.pkl" for name in members)


def read_torch_zip(source: Source, members: Mapping[str, Member]) -> object:
    """Return the tree of a file that `torch.save` wrote; the tensors are views of the map."""
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members:
        raise source.refused("is a TorchScript program", "save the network's state_dict")
    if len(pickles) > 1:
        raise source.refused("holds several files of torch", "unpack it, and name one")
    if not all(member.is_stored for member in members.values()):
        source.packed(len(source.data))
    archive = _Records(source, members, folder)
    if f"{folder}byteorder" in members and bytes(archive.record("byteorder")) != b"little":
        raise source.refused("is not little-endian", "save it on a little-endian machine")
    if members[pickles[0]].size > _LARGEST_PICKLE:
        raise source.refused("has a pickle that is too large for weights", "save tensors alone")
    pickled = io.BytesIO(archive.record("data.pkl"))
    try:
        return read_pickle(pickled, TorchNames(source, archive))
    except PickleRefused as error:
        raise refusal(error, source) from None


class _Records(Mapping[str, memoryview]):
    """The storages of an archive by their keys; each is unpacked and verified when it is used."""

    def __init__(self, source: Source, members: Mapping[str, Member], folder: str) -> None:
        self._source, self._members, self._folder = source, members, folder
        # torch.serialization.set_crc32_options(False) writes zero for every CRC.
        self._has_crc = any(member.crc for member in members.values())
        self._found: dict[str, memoryview] = {}

    def record(self, name: str) -> memoryview:
        """Return the bytes of the member `name` in torch's folder."""
        member = self._members[f"{self._folder}{name}"]
        return content(member, self._source, has_crc=self._has_crc)

    def __getitem__(self, key: str) -> memoryview:
        if key not in self._found:
            self._found[key] = self.record(f"data/{key}")
        return self._found[key]

    def __iter__(self) -> Iterator[str]:
        start = f"{self._folder}data/"
        return (name.removeprefix(start) for name in self._members if name.startswith(start))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def write_torch_zip(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a state dict that `torch.load(path, weights_only=True)` reads."""
    known = tuple(STORAGE_NAMES)
    kinds = {name: element_of(value, known, name, ".pth") for name, value in tensors.items()}
    with zipfile.ZipFile(path, "w") as archive:
        _add(archive, "data.pkl", state_dict_pickle(tensors, kinds))
        _add(archive, "byteorder", b"little")
        for number, value in enumerate(tensors.values()):
            _add(archive, f"data/{number}", raw_bytes(value))
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    with opened_member(archive, f"archive/{name}", len(content)) as file:
        file.write(content)
