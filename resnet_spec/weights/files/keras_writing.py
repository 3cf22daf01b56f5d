"""Write Keras's HDF5 layouts out of tensors named `LAYER.VARIABLE`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.errors import CheckpointError
from resnet_spec.weights.files.arrays import STORED, element_of
from resnet_spec.weights.files.keras_layers import VARIABLES
from resnet_spec.weights.files.source import needed, refused, shown

_LARGEST_ATTRIBUTE = 60_000
_Layers = dict[str, dict[str, Array]]


def write_keras_2(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write the layout of `keras.applications`; `model.load_weights(by_name=True)` reads it."""
    layers = _layers(tensors)
    with _file(path) as file:
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.15.0"
        _set_names(file, "layer_names", list(layers))
        for layer, variables in layers.items():
            group = file.create_group(layer)
            paths = {f"{layer}/{variable}:0": value for variable, value in variables.items()}
            _set_names(group, "weight_names", list(paths))
            for name, value in paths.items():
                group.create_dataset(name, data=value)


def write_keras_3(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a `.weights.h5`, the tensors in the order of the model's layers.

    Keras finds a layer there by its class and its place among those of that class.
    """
    counts: dict[str, int] = {}
    with _file(path) as file:
        file.create_group("vars")
        for layer, variables in _layers(tensors).items():
            kind = _kind(layer, variables, path)
            number = counts[kind] = counts.get(kind, -1) + 1
            suffix = f"_{number}" if number else ""
            group = file.create_group(f"layers/{kind}{suffix}/vars")
            group.attrs["name"] = layer
            for place, value in enumerate(variables.values()):
                group.create_dataset(str(place), data=value)


def refuse_keras_zip(path: Path, tensors: Mapping[str, Array]) -> None:
    """Refuse: the format holds the model's own configuration, which weights do not give."""
    raise refused(
        path, "a .keras file needs the model's configuration", "write .weights.h5 or .h5 instead"
    )


@contextmanager
def _file(path: Path) -> Generator[Any]:
    """Give an HDF5 file in memory, and write it to `path` in one piece.

    The library would try again to write to a disk that is full as its objects are let go, with a
    traceback for each, and abort the process.
    """
    h5py = needed("h5py", path)
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def _layers(tensors: Mapping[str, Array]) -> _Layers:
    """Return {layer: {variable: value}}, the variables in Keras's order."""
    layers: _Layers = {}
    for name, value in tensors.items():
        element_of(value, tuple(STORED), name, ".h5")
        layer, dot, variable = name.rpartition(".")
        if not dot:
            raise CheckpointError(f"{shown(name)}: must be LAYER.VARIABLE in a file of Keras")
        layers.setdefault(layer, {})[variable] = value
    return {
        layer: dict(sorted(variables.items(), key=lambda item: _place(item[0])))
        for layer, variables in layers.items()
    }


def _place(variable: str) -> int:
    return next((known.index(variable) for known in VARIABLES.values() if variable in known), 99)


def _kind(layer: str, variables: Mapping[str, Array], path: Path) -> str:
    """Return the class of a layer from its variables."""
    kernel = variables.get("kernel")
    if set(variables) == set(VARIABLES["batch_normalization"]):
        return "batch_normalization"
    if kernel is not None and variables.keys() <= {"kernel", "bias"} and kernel.ndim in (2, 4):
        return "dense" if kernel.ndim == 2 else "conv2d"
    raise refused(path, f"{shown(layer)} is no convolution, norm or dense layer", "write .h5")


def _set_names(group: Any, attribute: str, names: list[str]) -> None:
    """Set a list of names, in pieces where it is larger than an attribute may be."""
    whole = np.array([name.encode() for name in names])
    if whole.nbytes <= _LARGEST_ATTRIBUTE:
        group.attrs[attribute] = whole
        return
    pieces = np.array_split(whole, -(-whole.nbytes // _LARGEST_ATTRIBUTE))
    for number, piece in enumerate(pieces):
        group.attrs[f"{attribute}{number}"] = piece
