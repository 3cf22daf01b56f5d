"""torch's tensors: views of storages with an offset and strides, checked before they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.weights.files.arrays import STORED, count, elements, settled
from resnet_spec.weights.files.source import Source, shown


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `size` elements in the file, called `key`; the first `base` of them are skipped."""

    key: str
    element: str
    size: int
    base: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """A tensor in a storage; offset and stride count elements. is_negative: its bit is set."""

    storage: Storage
    element: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    is_negative: bool = False


def strided(view: View, storages: Mapping[str, memoryview], source: Source) -> Array:
    """Return a tensor as an array: a view of the file where the tensor is contiguous.

    Raises CheckpointError when it reaches outside its storage.
    """
    if not view.is_negative:
        return _placed(view, storages, source)
    found = _placed(view, storages, source)
    source.budget.take(found.nbytes)
    return np.negative(found)


def _placed(view: View, storages: Mapping[str, memoryview], source: Source) -> Array:
    element, shape, stride = view.element, view.shape, view.stride
    name = f"storage {shown(view.storage.key)}"
    raw = storages.get(view.storage.key)
    if raw is None:
        raise source.refused(f"lacks the {name} that a tensor names", "get it again")
    whole = view.storage.size * STORED[view.storage.element].itemsize
    if whole > len(raw):
        raise source.refused(f"has fewer bytes in its {name} than it says", "get it again")
    size = count(shape, source, name)
    if not size:
        return settled(np.empty(shape, STORED[element]), element, source)
    first = view.storage.base + view.offset
    last = first + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    item = STORED[element].itemsize
    if min(first, *stride, 0) < 0 or (last + 1) * item > len(raw):
        raise source.refused(f"has a tensor that reaches outside its {name}", "get it again")
    flat = elements(raw[first * item : (last + 1) * item], element)
    if last - first + 1 == size and _row_major(shape, stride):
        return settled(flat.reshape(shape), element, source)
    steps = tuple(step * item for step in stride)
    return settled(np.lib.stride_tricks.as_strided(flat, shape, steps), element, source)


def _row_major(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True
