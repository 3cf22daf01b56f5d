"""Names that are joined with '/', as in `params/conv1/kernel:0`, to the tree that they stand for.

`flax.traverse_util.flatten_dict(sep="/")`, the `.npz` files of several projects on JAX, and
TensorFlow's variables are kept so.
"""

from __future__ import annotations

import re
from typing import cast

from resnet_spec.weights.files.source import Origin, shown
from resnet_spec.weights.files.tree import Tensor, as_dict

_OUTPUT = re.compile(r":0$")
"""TensorFlow calls a variable after the operation that gives it, and its output."""
_Tree = dict[object, object]


def nested(tree: object, origin: Origin) -> object:
    """Return `tree` with the names of its top that have a '/' as branches, and note that.

    Raises CheckpointError where two tensors come to one name.
    """
    top = as_dict(tree)
    if top is None or not any(_is_joined(name, leaf) for name, leaf in top.items()):
        return tree
    grown: _Tree = {}
    for name, leaf in cast(_Tree, top).items():
        parts = _parts(name) if isinstance(name, str) else [name]
        _put(grown, parts, leaf, origin)
    origin.notes.append("names are joined with '/', and are read as with '.'")
    return grown


def _is_joined(name: object, leaf: object) -> bool:
    return isinstance(name, str) and "/" in name and isinstance(leaf, Tensor)


def _parts(name: str) -> list[object]:
    return list(_OUTPUT.sub("", name).strip("/").split("/"))


def _put(tree: _Tree, path: list[object], leaf: object, origin: Origin) -> None:
    node = tree
    for part in path[:-1]:
        inner = node.setdefault(part, {})
        if not isinstance(inner, dict):
            raise _twice(path, origin)
        node = cast(_Tree, inner)
    if path[-1] in node:
        raise _twice(path, origin)
    # A copy, since the branches below may be added to.
    node[path[-1]] = dict(cast(_Tree, leaf)) if isinstance(leaf, dict) else leaf


def _twice(path: list[object], origin: Origin) -> Exception:
    name = "/".join(map(str, path))
    return origin.refused(f"has two tensors named {shown(name)}", "rename one of them")
