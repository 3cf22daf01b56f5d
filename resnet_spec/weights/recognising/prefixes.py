"""Where in a file networks stand: prefixes below which names are those of a scheme.

By names alone, before any tensor is looked at: what a scheme calls the first tensor of the first
block is looked for at the end of every name, and what comes before it is a prefix. A body may lack
what a scheme has in front of all its names (the encoder of transformers is called without
`resnet.`), and its layers may be numbered (`nn.Sequential(*model.children())`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from resnet_spec.weights.naming import SCHEMES
from resnet_spec.weights.naming.dialects import DIALECTS
from resnet_spec.weights.naming.names import Scheme
from resnet_spec.weights.recognising.depth_search import first_body
from resnet_spec.weights.recognising.marked_plans import KINDS, MarkedPlan, marked_plan

_MOST_SUBTREES = 64
"""Of one file; a file with more networks than that is not looked through."""

_WRAPPERS = ("_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module", "_forward_module")
"""What torch puts into the middle of names, too, wherever it wraps a module."""
_PARALLEL = "module"
"""What DataParallel does; it may be somebody's own name as well."""


@dataclass(frozen=True)
class Subtree:
    """The tensors below a prefix. path: the prefix, "" for the whole file.

    names: what a scheme may call a tensor -> its name in the file.
    """

    path: str
    names: Mapping[str, str]


class SortedNames:
    """The names in a file, sorted, so that those below a prefix are found at once."""

    def __init__(self, names: Iterable[str]) -> None:
        self.inner = _unwrapped(list(names))
        """The names without torch's wrappers -> as the file has them."""
        self._sorted = sorted(self.inner)

    def below(self, prefix: str) -> Sequence[str]:
        """Return the names that begin with `prefix` and a dot, all where it is ""."""
        if not prefix:
            return self._sorted
        begin, end = f"{prefix}.", f"{prefix}/"  # The slash is the character after the dot.
        return self._sorted[bisect_left(self._sorted, begin) : bisect_left(self._sorted, end)]


def subtrees(names: SortedNames) -> list[Subtree]:
    """Return every place in a file that may hold a network, in the file's order."""
    found: dict[tuple[str, _Anchor], None] = {}
    for name in names.inner:
        place = _anchored(name)
        if place is not None:
            found[place] = None
            if len(found) > _MOST_SUBTREES:
                break
    paths = {path for path, _ in found}
    networks = [it for it in found if not is_of_optimiser(it[0])]
    made = [_subtree(path, anchor, paths, names) for path, anchor in networks]
    return list({subtree.path: subtree for subtree in made if subtree is not None}.values())


class _Anchor(NamedTuple):
    """How the first tensor of a first block may be called, and what that says of its network.

    lead: what the scheme has in front of it and the file has not. kind: whether it is in one of
    Flax's collections, or in a numbered layer.
    """

    lead: str = ""
    kind: Literal["plain", "flax", "numbered"] = "plain"


@cache
def _anchors() -> Mapping[str, _Anchor]:
    found: dict[str, _Anchor] = {}
    for scheme in SCHEMES.values():
        for kind in KINDS:
            marked = marked_plan(scheme, kind, (1, 1))
            if marked is not None:
                for name, anchor in _anchors_of(scheme, marked):
                    found.setdefault(name, anchor)
    return found


def _anchors_of(scheme: Scheme, marked: MarkedPlan) -> Iterator[tuple[str, _Anchor]]:
    first = marked.names[marked.bodies[0][0][0]].name
    if DIALECTS[scheme.dialect].collections:
        yield first.partition(".")[2], _Anchor(kind="flax")
        return
    yield first, _Anchor()
    stem = marked.names[marked.stem[0]].name
    lead = first.partition(".")[0]
    if stem.partition(".")[0] == lead:
        yield first.removeprefix(f"{lead}."), _Anchor(lead=f"{lead}.")
    if stem.partition(".")[0] == "conv1" and lead == "layer1":
        yield first.removeprefix("layer1."), _Anchor(kind="numbered")


def _anchored(name: str) -> tuple[str, _Anchor] | None:
    """Return the prefix before the name of a first block's first tensor, if it ends in one."""
    known, parts = _anchors(), name.split(".")
    for i in range(len(parts) - 1):
        anchor = known.get(".".join(parts[i:]))
        if anchor is None:
            continue
        if anchor.kind == "plain":
            return ".".join(parts[:i]), anchor
        if anchor.kind == "flax" and i > 0:
            return ".".join(parts[:i]), anchor
        if anchor.kind == "numbered" and i > 0 and parts[i - 1].isdecimal():
            return ".".join(parts[: i - 1]), anchor
    return None


def _subtree(path: str, anchor: _Anchor, others: set[str], names: SortedNames) -> Subtree | None:
    if anchor.kind == "flax":
        return _flax_subtree(path, names)
    inner = _own(path, others, names)
    if anchor.kind == "numbered":
        inner = _renamed(inner)
    elif not any(name.startswith("conv1.") for name in inner):
        inner = _with_named_stem(inner)
    if not inner:
        return None
    return Subtree(path, {f"{anchor.lead}{it}": there for it, there in inner.items()})


def _own(path: str, others: set[str], names: SortedNames) -> dict[str, str]:
    """Return what is below `path` and not below another network's prefix inside it."""
    inside = {it for it in others if it != path and (not path or it.startswith(f"{path}."))}
    cut = len(path) + 1 if path else 0
    return {
        name[cut:]: names.inner[name] for name in names.below(path) if not is_below(name, inside)
    }


def is_below(name: str, paths: Set[str]) -> bool:
    """Whether one of `paths` is a prefix of a dotted name, or the name itself."""
    return bool(paths) and not paths.isdisjoint(prefixes(name))


def prefixes(name: str) -> list[str]:
    """Return `a`, `a.b` and `a.b.c` of `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)]


def _renamed(inner: Mapping[str, str]) -> dict[str, str]:
    """Return the names of a sequence's layers: stem, norm, stages and what may follow.

    Numbers that are left out are of layers without tensors.
    """
    tops = sorted({int(top) for it in inner if (top := it.partition(".")[0]).isdecimal()})
    stages = [top for top in tops if any(it.startswith(f"{top}.0.conv1.") for it in inner)]
    stem = [top for top in tops if top < stages[0]]
    after = [top for top in tops if top > stages[-1]]
    roles = {str(top): f"layer{i}" for i, top in enumerate(stages, 1)}
    roles |= {str(top): "fc" for top in after[:1]}
    if len(stem) == 1:  # A sequence of its own.
        roles |= {f"{stem[0]}.0": "conv1", f"{stem[0]}.1": "bn1"}
    elif len(stem) == 2:
        roles |= {str(stem[0]): "conv1", str(stem[1]): "bn1"}
    return dict(_with_roles(inner, roles))


def _with_named_stem(inner: Mapping[str, str]) -> dict[str, str]:
    """Return names in which `layer0`, the stem as a sequence, has its layers' own names."""
    if "layer0.0.weight" not in inner or "layer0.1.running_mean" not in inner:
        return dict(inner)
    return dict(_with_roles(inner, {"layer0.0": "conv1", "layer0.1": "bn1"}))


def _with_roles(inner: Mapping[str, str], roles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, there in inner.items():
        parts = name.split(".")
        for depth in (2, 1):
            role = roles.get(".".join(parts[:depth]))
            if role is not None and len(parts) > depth:
                yield ".".join([role, *parts[depth:]]), there
                break
        else:
            yield name, there


def _flax_subtree(path: str, names: SortedNames) -> Subtree | None:
    """Return parameters below `path` and the statistics that belong to them.

    The two are called alike but for the collection: `params.net` and `batch_stats.net`.
    """
    parts = path.split(".")
    statistics = _statistics(names)
    pairs = [other for other in statistics if _differ_in_one(parts, other.split("."))]
    pairs.sort(key=lambda it: (is_average(it) != is_average(path), it))
    found = {f"params.{it[len(path) + 1 :]}": names.inner[it] for it in names.below(path)}
    for other in pairs[:1] or ([next(iter(statistics))] if len(statistics) == 1 else []):
        found |= {
            f"batch_stats.{it[len(other) + 1 :]}": names.inner[it] for it in names.below(other)
        }
    return Subtree(path, found)


@cache
def _first_statistics() -> frozenset[str]:
    found: set[str] = set()
    for scheme in SCHEMES.values():
        if DIALECTS[scheme.dialect].collections:
            for kind in KINDS:
                found |= {
                    name.partition(".")[2]
                    for name in first_body(scheme, kind)
                    if name.startswith("batch_stats.")
                }
    return frozenset(found)


def _statistics(names: SortedNames) -> dict[str, None]:
    """Return the prefixes of running statistics of Flax's networks."""
    known = _first_statistics()
    found: dict[str, None] = {}
    for name in names.below(""):
        parts = name.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in known:
                found[".".join(parts[:i])] = None
                break
    return found


def _differ_in_one(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


_AVERAGES = frozenset(("ema", "average", "averaged", "avg", "swa", "shadow"))


def is_average(path: str) -> bool:
    """Whether a part of a file is called a moving average, as `state_dict_ema` is."""
    return not _AVERAGES.isdisjoint(words(path))


_OPTIMISERS = """
    exp_avg exp_avg_sq max_exp_avg_sq momentum_buffer square_avg grad_avg acc_delta exp_inf grad
    grads gradients opt opt_state opt_states optim optims optimizer optimizers optimizer_state
    optimizer_states optimizer_state_dict optimizer_state_dicts optimiser optimiser_state
"""


def is_of_optimiser(path: str) -> bool:
    """Whether a step of a dotted path is called as what an optimiser keeps for every weight.

    Its moments have the names and shapes of a network's weights, and are none.
    """
    return not set(_OPTIMISERS.split()).isdisjoint(path.lower().split("."))


def words(path: str) -> list[str]:
    """Return the words in a dotted path: `state`, `dict` and `ema` of `state_dict_ema`."""
    letters = "".join(it if it.isalpha() else " " for it in path.lower())
    return letters.split()


def _unwrapped(names: Sequence[str]) -> dict[str, str]:
    """Return the names without what torch's wrappers put into them -> as the file has them."""
    found = _without(names, _WRAPPERS)
    if any(_anchored(name) is not None for name in found):
        return found
    # `layer1.module.0...`: parts that are parallel by themselves.
    parallel = _without(names, (*_WRAPPERS, _PARALLEL))
    return parallel if any(_anchored(name) is not None for name in parallel) else found


def _without(names: Sequence[str], wrappers: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        parts = [part for part in name.split(".") if part not in wrappers]
        found[".".join(parts) or name] = name
    return found if len(found) == len(names) else {name: name for name in names}
