"""torch's files since 1.6: a zip archive with one pickle and one member per storage."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from resnet_spec.contract import Array
from resnet_spec.weights.arrays import element_of, raw_bytes
from resnet_spec.weights.pickle_machine import PickleRefused, read_pickle
from resnet_spec.weights.source import Source
from resnet_spec.weights.torch_names import TorchNames, refusal
from resnet_spec.weights.torch_pickle import STORAGE_NAMES, state_dict_pickle
from resnet_spec.weights.zip_members import Member, stored
from resnet_spec.weights.zip_writing import opened_member

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
    order = members.get(f"{folder}byteorder")
    if order is not None and bytes(order.raw) != b"little":
        raise source.refused("is not little-endian", "save it on a little-endian machine")
    content = stored(members[pickles[0]], source)
    if len(content) > _LARGEST_PICKLE:
        raise source.refused("has a pickle that is too large for weights", "save tensors alone")
    data = {
        name.removeprefix(f"{folder}data/"): stored(member, source)
        for name, member in members.items()
        if name.startswith(f"{folder}data/")
    }
    try:
        return read_pickle(io.BytesIO(content), TorchNames(source, data))
    except PickleRefused as error:
        raise refusal(error, source) from None


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
