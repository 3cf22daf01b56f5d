"""Keras's files: `.weights.h5` and `.keras` of Keras 3, and the `.h5` of Keras 2.

Keras 3 names its groups after the class of a layer and a counter, and numbers the variables; the
layer's own name stands in an attribute (since 3.4) or in the configuration beside it. Keras 2 names
everything. Tensors come out as `LAYER.VARIABLE`, such as `conv1_bn.moving_mean`.
Source: keras/src/saving/saving_lib.py and keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from resnet_spec.weights.hdf5 import MAGIC, Hdf5
from resnet_spec.weights.keras_layers import VARIABLES, Layer, layers_of, variables_of
from resnet_spec.weights.source import Source, shown
from resnet_spec.weights.tree import Opaque
from resnet_spec.weights.zip_members import Member, stored, zip_members

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_LARGEST_CONFIG = 64 << 20
_DEEPEST = 32
_NO_LAYERS = re.compile(r"optimizer|seed_generator.*|_?.*metrics?|.*_tracker|_metrics.*")


def is_keras_zip(members: Mapping[str, Member]) -> bool:
    """Whether an archive is a `.keras` file."""
    return _CONFIG in members and any(name.startswith("model.weights.") for name in members)


def read_keras_zip(source: Source) -> object:
    """Return {LAYER.VARIABLE: tensor} of a `.keras` file; its code is not looked at."""
    members = zip_members(source)
    if _WEIGHTS not in members:
        raise source.refused(f"has no {_WEIGHTS}", "save it with Keras's default format")
    data, text = stored(members[_WEIGHTS], source), stored(members[_CONFIG], source)
    damaged = source.refused("has a damaged config.json", "get it again")
    if len(text) > _LARGEST_CONFIG:
        raise damaged
    try:
        layers = layers_of(json.loads(bytes(text)))
    except (ValueError, RecursionError):
        raise damaged from None
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise source.refused(f"has a damaged {_WEIGHTS}", "get it again")
    return _read(Hdf5(source, data), layers)


def read_keras_hdf5(source: Source) -> object:
    """Return {LAYER.VARIABLE: tensor} of a `.weights.h5` or `.h5` file."""
    return _read(Hdf5(source, source.data), {})


def is_keras_2(source: Source) -> bool:
    """Whether an HDF5 file has the layout of Keras 2."""
    file = Hdf5(source, source.data)
    with file.opened() as root:
        weights = file.children(root).get("model_weights", root)
        return file.is_group(weights) and _names(file, weights, "layer_names") is not None


def _read(file: Hdf5, layers: dict[str, Layer]) -> object:
    with file.opened() as root:
        children = file.children(root)
        weights = children.get("model_weights", root)
        if file.is_group(weights) and _names(file, weights, "layer_names") is not None:
            return _keras_2(file, weights)
        if not children.keys() & {"layers", "vars", "_layer_checkpoint_dependencies"}:
            raise file.source.refused(
                "is an HDF5 file that is not laid out as Keras does it",
                "save it with model.save_weights",
            )
        found: dict[str, object] = {}
        _keras_3(file, root, "", layers, found)
        return found


def _keras_2(file: Hdf5, weights: Any) -> dict[str, object]:
    """Read groups that name their layers and variables: `conv1_conv/kernel:0`."""
    found: dict[str, object] = {}
    groups = file.children(weights)
    for layer in _names(file, weights, "layer_names") or ():
        if not file.is_group(groups.get(layer)):
            raise file.source.refused(f"lacks the layer {shown(layer)}", "get it again")
        for path in _names(file, groups[layer], "weight_names") or ():
            item = groups[layer]
            for part in path.split("/"):
                item = file.children(item).get(part) if file.is_group(item) else None
            if item is None:
                raise file.source.refused(f"lacks the weight {shown(path)}", "get it again")
            variable = re.sub(r":\d+$", "", path).replace("/", ".")
            # The first versions of Keras 3 leave the layer out of a variable's name.
            _put(file, found, variable if "." in variable else f"{layer}.{variable}", item)
    return found


def _names(file: Hdf5, group: Any, attribute: str) -> list[str] | None:
    """Return a list of names, which may stand in pieces: `layer_names0`, `layer_names1`, ..."""
    value = file.attribute(group, attribute)
    pieces = [] if value is None else [value]
    while (piece := file.attribute(group, f"{attribute}{len(pieces)}")) is not None:
        pieces.append(piece)
    if not pieces:
        return None
    entries = [entry for piece in pieces for entry in np.atleast_1d(cast(Any, piece)).tolist()]
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]


def _keras_3(
    file: Hdf5, group: Any, path: str, layers: dict[str, Layer], found: dict[str, object]
) -> None:
    """Walk groups named after classes; those with variables are layers."""
    if path.count("/") > _DEEPEST:
        raise file.source.refused("is nested too deeply for weights", "get it again")
    for name, item in file.children(group).items():
        inner = f"{path}/{name}" if path else name
        if not file.is_group(item):
            continue
        if _NO_LAYERS.fullmatch(name):
            found[inner] = Opaque("state of training")
        elif name == "vars":
            _variables(file, item, path, layers, found)
        else:
            _keras_3(file, item, inner, layers, found)


def _variables(
    file: Hdf5, group: Any, path: str, layers: dict[str, Layer], found: dict[str, object]
) -> None:
    items = file.children(group)
    if not items:
        return
    layer = layers.get(path) or Layer("", re.sub(r"_\d+$", "", path.rpartition("/")[2]), {})
    named = file.attribute(group, "name")
    name = named.decode() if isinstance(named, bytes) else str(named or layer.name)
    if not name:
        raise file.source.refused(
            f"does not say the name of the layer {shown(path)} (Keras before 3.4)",
            "use the .keras file, or save the weights again with a newer Keras",
        )
    variables = variables_of(layer, len(items))
    if variables is None or sorted(items) != sorted(str(n) for n in range(len(items))):
        raise file.source.refused(
            f"does not say which {len(items)} variables {shown(name)} has, "
            f"a layer of the class {shown(layer.kind)}",
            f"the classes that are known: {', '.join(VARIABLES)}",
        )
    for number, variable in enumerate(variables):
        _put(file, found, f"{name}.{variable}", items[str(number)])


def _put(file: Hdf5, found: dict[str, object], name: str, item: Any) -> None:
    if name in found:
        raise file.source.refused(f"has two tensors named {shown(name)}", "rename the layers")
    found[name] = file.leaf(item, name)
