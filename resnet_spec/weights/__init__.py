"""Weight files of every framework, read and written with NumPy alone.

`read_weights` finds the kind from a file's bytes; nothing in a file is ever executed, and no
size that it claims is believed. One small module per kind; `KINDS` is their table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.errors import CheckpointError, OutputError, did_you_mean, problem
from resnet_spec.files.destinations import check_destination
from resnet_spec.files.writing import replacing
from resnet_spec.weights.files.arrays import plain
from resnet_spec.weights.files.flax_msgpack import is_msgpack, read_msgpack, write_msgpack
from resnet_spec.weights.files.folders import replacing_folder
from resnet_spec.weights.files.hdf5 import MAGIC as HDF5_MAGIC
from resnet_spec.weights.files.in_folders import weights_at
from resnet_spec.weights.files.keras import is_keras_zip, read_keras_hdf5, read_keras_zip
from resnet_spec.weights.files.keras_writing import refuse_keras_zip, write_keras_2, write_keras_3
from resnet_spec.weights.files.mindspore_ckpt import is_mindspore, read_mindspore, write_mindspore
from resnet_spec.weights.files.not_weights import stranger
from resnet_spec.weights.files.npz import is_npz, read_npz, write_npz
from resnet_spec.weights.files.orbax import ORBAX_FILES, read_orbax, write_orbax
from resnet_spec.weights.files.safetensors_file import (
    is_safetensors,
    read_safetensors,
    write_safetensors,
)
from resnet_spec.weights.files.separators import nested
from resnet_spec.weights.files.shards import is_index, read_shards
from resnet_spec.weights.files.source import Origin, Source, refused
from resnet_spec.weights.files.torch_legacy import MAGIC as LEGACY_MAGIC
from resnet_spec.weights.files.torch_legacy import read_torch_legacy, write_torch_legacy
from resnet_spec.weights.files.torch_zip import is_torch_zip, read_torch_zip, write_torch_zip
from resnet_spec.weights.files.training_state import refuse_state_alone
from resnet_spec.weights.files.unwrapping import loaded, unwrapped
from resnet_spec.weights.files.weight_file import WeightFile, finite_problems
from resnet_spec.weights.files.zip_members import Member, zip_members

__all__ = [
    "KINDS",
    "Kind",
    "WeightFile",
    "finite_problems",
    "kind_to_write",
    "read_weights",
    "weight_tree",
    "write_weights",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of weight file. endings: the names that ask for it when writing; the longest wins.

    is_folder: a folder of files.
    """

    name: str
    words: str
    endings: tuple[str, ...]
    write: Callable[[Path, Mapping[str, Array]], None]
    is_folder: bool = False


_ALL = [
    Kind("torch", "torch, a zip archive", (".pth", ".pt", ".th", ".bin"), write_torch_zip),
    Kind("torch-legacy", "torch before 1.6", (), write_torch_legacy),
    Kind("safetensors", "safetensors", (".safetensors",), write_safetensors),
    Kind("mindspore", "MindSpore", (".ckpt",), write_mindspore),
    Kind("msgpack", "Flax", (".msgpack",), write_msgpack),
    Kind("orbax", "Orbax, a folder", (".orbax",), write_orbax, is_folder=True),
    Kind("keras", "Keras 3 with the model's configuration", (".keras",), refuse_keras_zip),
    Kind("keras-weights", "Keras 3", (".weights.h5",), write_keras_3),
    Kind("keras-h5", "Keras 2", (".h5", ".hdf5"), write_keras_2),
    Kind("npz", "NumPy", (".npz",), write_npz),
]
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


def read_weights(path: Path, part: str | None = None) -> WeightFile:
    """Read the tensors of a weight file of any kind; its bytes tell the kind.

    part: the key of the part to take where a file holds several, such as "ema"; None takes the
    model. Raises CheckpointError, one line, for a file that is missing, damaged, hostile or of no
    known kind. NaN is read as it is: see `finite_problems`.
    """
    kind, origin, tree = weight_tree(path)
    tensors, notes = unwrapped(tree, origin, part)
    arrays = loaded(tensors, origin, notes)
    return WeightFile(path, kind, arrays, (*origin.notes, *notes))


def weight_tree(path: Path) -> tuple[str, Origin, object]:
    """Return a weight file's kind, the file, and its tree, of which no tensor is loaded yet.

    Of a folder: of the weights that it means, see `in_folders`.
    """
    place = weights_at(path)
    kind, origin, tree = _tree(place.path)
    origin.notes.extend(place.notes)
    tree = nested(tree, origin)
    refuse_state_alone(tree, origin)
    return kind, origin, tree


def write_weights(path: Path, tensors: Mapping[str, Array], kind: str | None = None) -> None:
    """Write tensors to `path`, whole or not at all.

    kind: one of `KINDS`; None takes the one whose ending the path has. Raises CheckpointError for
    an unknown kind, a type of tensor that the kind cannot hold, a folder that has something in it,
    or what cannot be written.
    """
    chosen = kind_to_write(path, kind)
    for name in tensors:
        if not name or not name.isprintable():
            raise CheckpointError(problem("tensor", ascii(name), "must have a printable name"))
    if not tensors:
        raise refused(path, "would hold no tensors")
    given = path
    arrays = {name: plain(np.asarray(value)) for name, value in tensors.items()}
    try:
        if chosen.is_folder:
            check_destination(path, overwrite=False, folder=ORBAX_FILES)
        with (replacing_folder if chosen.is_folder else replacing)(path) as given:
            chosen.write(given, arrays)
    except CheckpointError as error:  # The writers know no name but the temporary one.
        lines = (line.replace(str(given), str(path)) for line in error.problems)
        raise CheckpointError(*lines) from None
    except OutputError as error:
        raise CheckpointError(*error.problems) from error


def kind_to_write(path: Path, name: str | None) -> Kind:
    """Return the kind called `name`, or the one whose ending `path` has. Raises CheckpointError."""
    if name is None:
        return _by_ending(path)
    if name not in KINDS:
        hint = did_you_mean(name, KINDS)
        raise CheckpointError(problem("kind", name, "is no kind of weight file", hint))
    return KINDS[name]


def _tree(path: Path) -> tuple[str, Origin, object]:
    """Return the file's kind, the file, and its tree."""
    if path.is_dir():
        return "orbax", *read_orbax(path)
    source = Source(path)
    if is_index(source):
        kind, tree = read_shards(source, _file_tree)
        return kind, source, tree
    return _file_tree(path)


def _file_tree(path: Path) -> tuple[str, Source, object]:
    source = Source(path)
    if source.starts_with(HDF5_MAGIC):
        kind, tree = read_keras_hdf5(source)
        return kind, source, tree
    kind, read = _reader(source)
    return kind, source, read(source)


def _reader(source: Source) -> tuple[str, Callable[[Source], object]]:
    """Find the kind from the first bytes, and for an archive from its members."""
    if source.starts_with(b"PK\x03\x04"):
        return _zip_reader(source, zip_members(source))
    if source.starts_with(LEGACY_MAGIC):
        return "torch-legacy", read_torch_legacy
    if is_safetensors(source):
        return "safetensors", read_safetensors
    what = stranger(source)
    if what is not None:
        raise source.refused(*what)
    if is_mindspore(source):
        return "mindspore", read_mindspore
    if is_msgpack(source):
        return "msgpack", read_msgpack
    raise source.refused("is no weight file of a known kind", f"known: {', '.join(KINDS)}")


def _zip_reader(
    source: Source, members: Mapping[str, Member]
) -> tuple[str, Callable[[Source], object]]:
    if is_torch_zip(members):
        return "torch", partial(read_torch_zip, members=members)
    if is_keras_zip(members):
        return "keras", partial(read_keras_zip, members=members)
    if is_npz(members):
        return "npz", partial(read_npz, members=members)
    raise source.refused("is a zip archive without weights of a known kind", "unpack it first")


def _by_ending(path: Path) -> Kind:
    endings = {ending: kind for kind in _ALL for ending in kind.endings}
    found = [ending for ending in endings if path.name.endswith(ending)]
    if not found:
        raise refused(path, "does not say its kind", f"end its name in one of {' '.join(endings)}")
    return endings[max(found, key=len)]
