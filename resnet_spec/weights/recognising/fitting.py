"""The network at a place in a file: its body, its classifier wherever that is, and what is beside.

A classifier is one linear layer that takes the features: the scheme's own, or one beside the body
that is called as classifiers are. Where anything else takes them, the network has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from resnet_spec.describing.spec import Spec
from resnet_spec.ops import Shape
from resnet_spec.planning.classifier import classifier
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming.dialects import DIALECTS
from resnet_spec.weights.naming.lifting import foreign_shape
from resnet_spec.weights.naming.names import Scheme
from resnet_spec.weights.recognising.inference import Candidate, search, search_for
from resnet_spec.weights.recognising.prefixes import Subtree, is_of_optimiser, words

ShapeOf = Callable[[str], Shape]
COUNTERS = ("num_batches_tracked", "n_averaged")
"""What norms and averages count their steps in; nothing depends on it."""


@dataclass(frozen=True)
class Fit:
    """A network in a file.

    path: the prefix that its body has. candidate: the network. shapes: of its tensors, by the names
    that its scheme has for them. names: those names -> the file's. has_classifier: whether it has
    one; if not, the number of classes in its spec means nothing. head: where the classifier stands
    when it has not the scheme's own name. beside: the names in the file of layers that are none of
    its own.
    """

    path: str
    candidate: Candidate
    shapes: Mapping[str, Shape] = field(repr=False)
    names: Mapping[str, str] = field(repr=False)
    has_classifier: bool
    head: str
    beside: tuple[str, ...]


def fit(
    subtree: Subtree,
    around: Sequence[str],
    shape_of: ShapeOf,
    schemes: Sequence[Scheme],
    spec: Spec | None = None,
) -> Fit | None:
    """Return the network of `subtree`, whole or without a classifier; None where there is none.

    around: the names in the file of what is near it, where its classifier may be.
    spec: the network it must be; None: any.
    """
    shapes = shapes_in(subtree, shape_of)
    outer = {name: shape_of(name) for name in around if not is_harmless(name)}
    whole = _search(shapes, schemes, spec, whole=True)
    if whole is not None and whole.is_fit and not _is_followed(whole, outer):
        return _fit(subtree, whole, shapes, tuple(outer))
    body = _search(shapes, schemes, spec, whole=False)
    if body is None or not body.is_fit or _has_an_odd_classifier(body):
        return None
    inner = {subtree.names[it]: shapes[it] for it in body.cover.unexpected}
    head = None if whole is not None and whole.is_fit else _head(subtree, body, inner | outer)
    if head is None:
        return _fit(subtree, body, shapes, (*inner, *outer))
    if spec is not None and spec.classes != head.classes:
        return None
    return _with_head(subtree, body, shapes, head)


def shapes_in(subtree: Subtree, shape_of: ShapeOf) -> dict[str, Shape]:
    """Return the shapes of a subtree's tensors, less what is called as no layer is."""
    return {name: shape_of(there) for name, there in subtree.names.items() if not is_harmless(name)}


_HARMLESS = """
    criterion criterions loss losses queue ptr metric metrics accuracy optimizer optimizers optim
    opt scheduler schedulers scaler epoch step steps lr rng seed iteration iter mean std
"""


def is_harmless(name: str) -> bool:
    """Whether a tensor is called as none of a network's layers is: a loss's, a queue, a counter."""
    path, _, leaf = name.rpartition(".")
    if leaf in COUNTERS or is_of_optimiser(path):
        return True
    is_of_layer = path and leaf in _LEAVES  # A norm of Flax has a `mean`.
    return _shares(words(path if is_of_layer else name), _HARMLESS)


_LEAVES = frozenset(leaf for it in DIALECTS.values() for leaf in it.leaves.values())


def _search(
    shapes: Mapping[str, Shape], schemes: Sequence[Scheme], spec: Spec | None, *, whole: bool
) -> Candidate | None:
    if spec is None:
        return search(shapes, schemes, whole=whole)
    return search_for(spec, shapes, schemes, whole=whole)


def _fit(
    subtree: Subtree, found: Candidate, shapes: Mapping[str, Shape], beside: tuple[str, ...]
) -> Fit:
    own = {it: shapes[it] for it in found.cover.wanted}
    names = {it: subtree.names[it] for it in own}
    return Fit(subtree.path, found, own, names, found.is_whole, "", beside)


class _Head(NamedTuple):
    """A linear layer beside a body: where it is, the names of its tensors, its classes."""

    path: str
    weight: str
    bias: str
    classes: int


def _head(subtree: Subtree, body: Candidate, layers: Mapping[str, Shape]) -> _Head | None:
    """Return the classifier among `layers` when they are one linear layer and nothing else."""
    leaves = DIALECTS[body.scheme.dialect].leaves
    paths = {name.rpartition(".")[0] for name in layers}
    if len(paths) != 1 or len(layers) != 2:
        return None
    (path,) = paths
    weight, bias = f"{path}.{leaves['linear_weight']}", f"{path}.{leaves['bias']}"
    if weight not in layers or len(layers.get(bias, ())) != 1:
        return None
    head = _Head(path, weight, bias, layers[bias][0])
    if layers[weight] != _wanted(body, head)[0][1] or not _is_called_so(path, subtree.path):
        return None
    return head


_CALLED = """
    fc fcs linear classifier classifiers head heads cls clf logit logits prediction predictions
    probs output out last dense classification lin top
"""
_NOT_CALLED = """
    proj projection projector projections mlp embedding embed aux auxiliary contrastive predictor
    neck rotation domain bottleneck
"""


def _is_called_so(path: str, body: str) -> bool:
    """Whether a layer at `path` beside a body is called as classifiers are."""
    mine, theirs = path.split("."), body.split(".")
    while mine and theirs and mine[0] == theirs[0]:
        mine, theirs = mine[1:], theirs[1:]
    found = words(".".join(mine))
    return _shares(found, _CALLED) and not _shares(found, _NOT_CALLED)


def _shares(found: Sequence[str], known: str) -> bool:
    return not set(known.split()).isdisjoint(found)


def _has_an_odd_classifier(body: Candidate) -> bool:
    """Whether the scheme's classifier is there, whole, and has further tensors."""
    names, last = body.scheme.in_file(lower(body.spec)), classifier(lower(body.spec))
    assert last.bias is not None
    own = {names[it.name].name for it in (last.weight, last.bias)}
    path = names[last.weight.name].name.rpartition(".")[0]
    there = {it for it in body.cover.unexpected if it.rpartition(".")[0] == path}
    return own < there


def _wanted(body: Candidate, head: _Head) -> list[tuple[str, Shape]]:
    """Return the scheme's names and shapes of a classifier with the head's classes."""
    plan = lower(_of_classes(body.spec, head.classes))
    names, last = body.scheme.in_file(plan), classifier(plan)
    assert last.bias is not None
    return [
        (names[it.name].name, foreign_shape(it, names[it.name].layout))
        for it in (last.weight, last.bias)
    ]


def _of_classes(spec: Spec, classes: int) -> Spec:
    return Spec.from_dict({**spec.to_dict(), "classes": max(classes, 1)})


def _with_head(subtree: Subtree, body: Candidate, shapes: Mapping[str, Shape], head: _Head) -> Fit:
    found = _fit(subtree, body, shapes, ())
    (weight, first), (bias, second) = _wanted(body, head)
    candidate = body._replace(spec=_of_classes(body.spec, head.classes), is_whole=True)
    return Fit(
        subtree.path,
        candidate,
        {**found.shapes, weight: first, bias: second},
        {**found.names, weight: head.weight, bias: head.bias},
        has_classifier=True,
        head="" if subtree.names.get(weight) == head.weight else head.path,
        beside=(),
    )


def _is_followed(whole: Candidate, outer: Mapping[str, Shape]) -> bool:
    """Whether a layer beside the network takes its logits: they are features, then."""
    spoken = DIALECTS[whole.scheme.dialect]
    axis = 0 if spoken.layouts["OI"] == "IO" else 1
    leaf = spoken.leaves["linear_weight"]
    return any(
        len(shape) == 2 and shape[axis] == whole.spec.classes and name.rpartition(".")[2] == leaf
        for name, shape in outer.items()
    )
