"""What Keras's layers are called and which variables they have, in Keras's order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from resnet_spec.weights.files.tree import as_dict, as_list

_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_LINEAR = ("kernel", "bias")
VARIABLES: dict[str, tuple[str, ...]] = {
    "conv2d": _LINEAR,
    "depthwise_conv2d": _LINEAR,
    "dense": _LINEAR,
    "batch_normalization": _NORM,
}
"""Class of a layer, as Keras writes it in a group's name -> its variables."""

_OPTIONAL = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer. name: "" if unknown. kind: the class as in a group's name. config: {} if unknown."""

    name: str
    kind: str
    config: Mapping[str, object]


def variables_of(layer: Layer, number: int) -> tuple[str, ...] | None:
    """Return the names of a layer's `number` variables, or None when they cannot be known."""
    known = VARIABLES.get(layer.kind)
    if known is None:
        return None
    if layer.config:
        known = tuple(v for v in known if layer.config.get(_OPTIONAL.get(v, ""), True))
    elif known is _LINEAR and number == 1:
        known = _LINEAR[:1]
    return known if len(known) == number else None


def layers_of(config: object) -> dict[str, Layer]:
    """Return {path of its group: layer} for the layers that a model's configuration lists."""
    found: dict[str, Layer] = {}
    _collect(config, "", found, 0)
    return found


def _collect(model: object, path: str, found: dict[str, Layer], depth: int) -> None:
    counts: dict[str, int] = {}
    for entry in _layer_list(model) if depth < _DEEPEST else ():
        described = as_dict(entry) or {}
        settings, class_name = as_dict(described.get("config")), described.get("class_name")
        if settings is None or not isinstance(class_name, str):
            continue
        kind = _snake_case(class_name)
        number = counts[kind] = counts.get(kind, -1) + 1
        inner = f"{path}layers/{kind}" + (f"_{number}" if number else "")
        found[inner] = Layer(str(settings.get("name", "")), kind, settings)
        _collect(entry, f"{inner}/", found, depth + 1)


def _layer_list(model: object) -> list[object]:
    config = as_dict((as_dict(model) or {}).get("config")) or {}
    return as_list(config.get("layers")) or []


def _snake_case(name: str) -> str:
    """Return a class's name as Keras puts it into a group's name."""
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()
