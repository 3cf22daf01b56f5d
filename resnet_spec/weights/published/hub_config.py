"""What the `config.json` beside a hub's weights says that tensors cannot: the names of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from resnet_spec.data.imagenet_names import IMAGENET

_CONFIG = "config.json"
_LARGEST = 16 << 20


def class_names_beside(weights: Path, classes: int) -> tuple[str, ...]:
    """Return the names in the `config.json` in the folder of `weights`; () where it has none.

    `id2label` of transformers, or `label_names` of timm. Names that only count, `LABEL_0`, and
    names that are not those of `classes` classes, each another, are none.
    """
    try:
        path = weights.parent / _CONFIG
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return ()
        config: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    names = _named(cast("dict[str, Any]", config)) if isinstance(config, dict) else []
    texts = [name for name in names if isinstance(name, str) and name.strip()]
    is_sound = len(texts) == len(names) == len(set(texts)) == classes
    if not is_sound or all(name == f"LABEL_{index}" for index, name in enumerate(texts)):
        return ()
    return IMAGENET if _is_imagenet(texts) else tuple(texts)


def _is_imagenet(names: list[str]) -> bool:
    """Whether these are the classes of ImageNet-1k in their order, whoever wrote the words.

    The hub has all synonyms of a class, "tench, Tinca tinca", and a few in other words than here.
    """
    if len(names) != len(IMAGENET):
        return False
    pairs = zip(names, IMAGENET, strict=True)
    return sum(name.partition(",")[0].lower() == ours.lower() for name, ours in pairs) > 700


def _named(config: dict[str, Any]) -> list[Any]:
    """Return the names in the order of the classes, which `id2label` has as texts of numbers."""
    names = config.get("label_names")
    if isinstance(names, list):
        return cast("list[Any]", names)
    labels = config.get("id2label")
    if not isinstance(labels, dict):
        return []
    found = cast("dict[str, Any]", labels)
    return [found.get(str(index)) for index in range(len(found))]
