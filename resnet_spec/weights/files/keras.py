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

from resnet_spec.files.stand_ins import Opaque
from resnet_spec.weights.files.hdf5 import MAGIC, Node, read_hdf5
from resnet_spec.weights.files.keras_layers import VARIABLES, Layer, layers_of, variables_of
from resnet_spec.weights.files.source import Source, shown
from resnet_spec.weights.files.zip_members import Member, stored

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_LARGEST_CONFIG = 64 << 20
_NO_LAYERS = re.compile(r"optimizer|seed_generator.*|_?.*metrics?|.*_tracker|_metrics.*")


def is_keras_zip(members: Mapping[str, Member]) -> bool:
    """Whether an archive is a `.keras` file."""
    return _CONFIG in members and any(name.startswith("model.weights.") for name in members)


def read_keras_zip(source: Source, members: Mapping[str, Member]) -> object:
    """Return {LAYER.VARIABLE: tensor} of a `.keras` file; its code is not looked at."""
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
    root = read_hdf5(source, members[_WEIGHTS].begin, len(data))
    return _Reader(source, layers).read(root)[1]


def read_keras_hdf5(source: Source) -> tuple[str, object]:
    """Return the kind and {LAYER.VARIABLE: tensor} of a `.weights.h5` or `.h5` file."""
    return _Reader(source, {}).read(read_hdf5(source))


class _Reader:
    """Finds the layers of a model in an HDF5 file. layers: see `keras_layers.layers_of`."""

    def __init__(self, source: Source, layers: dict[str, Layer]) -> None:
        self._source, self._layers = source, layers
        self._found: dict[str, object] = {}

    def read(self, root: Node) -> tuple[str, dict[str, object]]:
        """Return the kind and the tensors."""
        weights = root.children.get("model_weights", root)
        if _names(weights, "layer_names") is not None:
            self._keras_2(weights)
            return "keras-h5", self._found
        if not root.children.keys() & {"layers", "vars", "_layer_checkpoint_dependencies"}:
            raise self._source.refused(
                "is an HDF5 file that is not laid out as Keras does it",
                "save it with model.save_weights",
            )
        self._keras_3(root, "")
        return "keras-weights", self._found

    def _keras_2(self, weights: Node) -> None:
        """Read groups that name their layers and variables: `conv1_conv/kernel:0`."""
        for layer in _names(weights, "layer_names") or ():
            group = weights.children.get(layer)
            if group is None:
                raise self._source.refused(f"lacks the layer {shown(layer)}", "get it again")
            for path in _names(group, "weight_names") or ():
                item: Node | None = group
                for part in path.split("/"):
                    item = None if item is None else item.children.get(part)
                if item is None:
                    raise self._source.refused(f"lacks the weight {shown(path)}", "get it again")
                variable = re.sub(r":\d+$", "", path).replace("/", ".")
                # The first versions of Keras 3 leave the layer out of a variable's name.
                self._put(variable if "." in variable else f"{layer}.{variable}", item)

    def _keras_3(self, group: Node, path: str) -> None:
        """Walk groups named after classes; those with variables are layers."""
        for name, item in group.children.items():
            inner = f"{path}/{name}" if path else name
            if item.leaf is not None:
                continue
            if _NO_LAYERS.fullmatch(name):
                self._found[inner] = Opaque("state of training")
            elif name == "vars":
                self._variables(item, path)
            else:
                self._keras_3(item, inner)

    def _variables(self, group: Node, path: str) -> None:
        items = group.children
        if not items:
            return
        kind = re.sub(r"_\d+$", "", path.rpartition("/")[2])
        layer = self._layers.get(path) or Layer("", kind, {})
        name = (group.attributes.get("name") or [layer.name])[0]
        if not name:
            raise self._source.refused(
                f"does not say the name of the layer {shown(path)} (Keras before 3.4)",
                "use the .keras file, or save the weights again with a newer Keras",
            )
        variables = variables_of(layer, len(items))
        if variables is None or sorted(items) != sorted(str(n) for n in range(len(items))):
            raise self._source.refused(
                f"does not say which {len(items)} variables {shown(name)} has, "
                f"a layer of the class {shown(layer.kind)}",
                f"the classes that are known: {', '.join(VARIABLES)}",
            )
        for number, variable in enumerate(variables):
            self._put(f"{name}.{variable}", items[str(number)])

    def _put(self, name: str, item: Node) -> None:
        if name in self._found:
            raise self._source.refused(
                f"has two tensors named {shown(name)}", "rename the model's layers"
            )
        self._found[name] = Opaque("group") if item.leaf is None else item.leaf


def _names(group: Node, attribute: str) -> list[str] | None:
    """Return a list of names, which may stand in pieces: `layer_names0`, `layer_names1`, ..."""
    pieces = [group.attributes[attribute]] if attribute in group.attributes else []
    while f"{attribute}{len(pieces)}" in group.attributes:
        pieces.append(group.attributes[f"{attribute}{len(pieces)}"])
    return [name for piece in pieces for name in piece] if pieces else None
