"""What a source's code fixes beyond names and shapes, put into a spec or held against one.

A converter applies them to the spec of what it reads, so that the logits stay the source's, and
asks for the conflicts of what it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

from resnet_spec.describing.from_text import Fields, merge
from resnet_spec.describing.spec import Spec
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming.names import Scheme


class Conflict(NamedTuple):
    """A field in which a spec and a project's code differ.

    changes: what depends on it: the logits of trained weights, training alone, or the images that
        the network is given.
    """

    field: str
    value: object
    theirs: object
    changes: Literal["logits", "training", "images"]


def applied(scheme: Scheme, spec: Spec) -> Spec:
    """Return `spec` with all that the code of the scheme's project fixes."""
    return _changed(spec, dict(_fitting(scheme, spec)))


def conflicts(scheme: Scheme, spec: Spec) -> list[Conflict]:
    """Return where `spec` differs from what the code of the scheme's project fixes.

    A field that changes nothing in this network (the padding of a pool that it has not) is none.
    """
    found: list[Conflict] = []
    for path, theirs in _fitting(scheme, spec):
        value, kind = _value(spec, path), _changes(path)
        if value == theirs:
            continue
        if kind != "logits" or not _computes_the_same(spec, _changed(spec, {path: theirs})):
            found.append(Conflict(".".join(path), value, theirs, kind))
    return found


_Path = tuple[str, ...]


def _fitting(scheme: Scheme, spec: Spec) -> Iterator[tuple[_Path, object]]:
    """Yield the conventions, less those that a network of these blocks cannot have."""
    for path, value in _leaves(scheme.conventions):
        if path != ("stride_position",) or spec.block == "bottleneck":
            yield path, value


def _leaves(table: Mapping[str, Any], path: _Path = ()) -> Iterator[tuple[_Path, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(cast(Mapping[str, Any], value), (*path, key))
        else:
            yield (*path, key), value


def _changed(spec: Spec, values: Mapping[_Path, object]) -> Spec:
    fields = spec.to_dict()
    for path, value in values.items():
        change: Any = value
        for key in reversed(path):
            change = {key: change}
        fields = merge(fields, cast(Fields, change))
    return Spec.from_dict(fields)


def _value(spec: Spec, path: _Path) -> object:
    value: Any = spec.to_dict()
    for key in path:
        value = value[key]
    return value


def _changes(path: _Path) -> Literal["logits", "training", "images"]:
    if path[0] == "input":
        return "images"
    return "training" if path in (("norm", "decay"), ("norm", "variance")) else "logits"


def _computes_the_same(one: Spec, other: Spec) -> bool:
    """Whether both compute the same function, at an even and at an odd size."""
    size = one.input.size
    return all(lower(one, n) == lower(other, n) for n in (size, size + 1))


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""For RGB images scaled to 0..1, as `Spec.input` has them."""

EXPLICIT: Fields = {"padding": "explicit", "stem": {"padding": None, "pool_padding": None}}
"""Every convolution, and the pool, padded by (k-1)/2 on each side."""
IMAGENET_STEM: Fields = {"stem": {"stride": 2, "pool": True}}
STRIDE_ON_3X3: Fields = {"stride_position": "3x3"}
TORCH_NORM: Fields = {"norm": {"eps": 1e-5, "decay": 0.9, "variance": "unbiased"}}
"""The defaults of torch.nn.BatchNorm2d, which writes 0.1 for the decay."""
BIASED_NORM: Fields = {"norm": {"eps": 1e-5, "decay": 0.9, "variance": "biased"}}
"""The running variance as Flax and Keras update it."""
MINDSPORE_NORM: Fields = {"norm": {"eps": 1e-5, "decay": 0.9}}
"""Which variance it keeps is the kernel's affair: on a CPU the biased one in old versions, the
unbiased one in 2.10. That matters to training alone, and is left as the spec has it."""


def together(*tables: Fields) -> Fields:
    """Return several conventions as one; the last one wins."""
    merged: Fields = {}
    for table in tables:
        merged = merge(merged, table)
    return merged
