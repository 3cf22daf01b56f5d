"""Which network of a weight file is meant: the only one, the one that is asked for, or none.

A file may hold several: a model and its moving average, a student and a teacher. One is taken
unasked where it is the only one, where all are equal bit by bit, or where the others are averages
of it; otherwise the file is refused with the list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from resnet_spec.contract import Array
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import CheckpointError, did_you_mean
from resnet_spec.ops import Shape
from resnet_spec.weights.files.source import shown
from resnet_spec.weights.files.tree import Tensor
from resnet_spec.weights.naming import Scheme
from resnet_spec.weights.recognising.fitting import COUNTERS, Fit, fit, is_harmless, shapes_in
from resnet_spec.weights.recognising.inference import (
    Candidate,
    nearest,
    refusal,
    search,
    search_for,
    unlike,
)
from resnet_spec.weights.recognising.prefixes import (
    SortedNames,
    Subtree,
    is_average,
    is_below,
    prefixes,
    subtrees,
)

WHOLE = "."
"""The part at the top of a file, beside others."""


@dataclass(frozen=True)
class ChosenNetwork:
    """The network that is taken. arrays: by its scheme's names. part: what asks for it by name.

    notes: from where it was taken, and what was left out.
    """

    fit: Fit
    arrays: dict[str, Array] = field(repr=False)
    part: str
    notes: tuple[str, ...]


class FileTensors:
    """The tensors of a file by their dotted paths, loaded as they are asked for, each once.

    others: the paths of what is no tensor -> "", or what it is where it is a tensor that cannot be
    read. notes: what was done to read them.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], others: Mapping[str, str], notes: Sequence[str] = ()
    ) -> None:
        self.tensors, self.others, self.notes = tensors, others, tuple(notes)
        self.names = SortedNames(tensors)
        self._loaded: dict[str, Array] = {}

    def array(self, name: str) -> Array:
        """Return a tensor."""
        if name not in self._loaded:
            self._loaded[name] = self.tensors[name].load()
        return self._loaded[name]

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape."""
        return self.array(name).shape

    def let_go(self) -> None:
        """Forget what was loaded, so that whoever has it is the only one."""
        self._loaded.clear()

    @cached_property
    def subtrees(self) -> list[Subtree]:
        """The places that may hold a network."""
        return subtrees(self.names)

    def labels(self) -> dict[str, str]:
        """Return every subtree's path -> the shortest name that asks for it."""
        paths = [subtree.path for subtree in self.subtrees]
        return {path: _label(path, paths) for path in paths}

    def around(self, path: str) -> list[str]:
        """Return the tensors of the nearest group around `path` that has any, less networks."""
        parts = path.split(".") if path else []
        paths = {subtree.path for subtree in self.subtrees}
        for depth in range(len(parts) - 1, -1, -1):
            group = ".".join(parts[:depth])
            found = self._beside.below(group)[:_MOST_AROUND]
            if found or group in paths:
                return [self.names.inner[name] for name in found]
        return []

    @cached_property
    def _beside(self) -> SortedNames:
        """The names that are below no subtree."""
        paths = {subtree.path for subtree in self.subtrees}
        return SortedNames(name for name in self.names.inner if not is_below(name, paths))


_MOST_AROUND = 1000


def _label(path: str, paths: Sequence[str]) -> str:
    """Return the first step of a path that no other path has, or the whole of it."""
    if not path:
        return WHOLE
    others = [set(it.split(".")) for it in paths if it != path]
    own = [step for step in path.split(".") if not any(step in other for other in others)]
    return own[0] if own and others else path


def choose(
    held: FileTensors, schemes: Sequence[Scheme], spec: Spec | None, part: str | None
) -> ChosenNetwork:
    """Return the network to take. part: its name or path; None: the one that is meant surely.

    Raises CheckpointError: there is none, there are several, or none of that name.
    """
    if not held.subtrees:
        _check_read(held)
        raise CheckpointError(_nowhere(held, part))
    asked = held.subtrees if part is None else _asked(held, part)
    tried = (fit(it, held.around(it.path), held.shape, schemes, spec) for it in asked)
    fits = [found for found in tried if found is not None]
    if not fits:
        _check_read(held)
        raise CheckpointError(_unfit(held, asked, schemes, spec))
    taken, notes = _one_of(held, fits, asked)
    if not taken.has_classifier:
        _check_read(held, taken.path)
    chosen = ChosenNetwork(
        taken,
        {name: held.array(there) for name, there in taken.names.items()},
        held.labels()[taken.path],
        (*_from(held, taken, len(notes) > 0), *notes),
    )
    held.let_go()
    return chosen


def _check_read(held: FileTensors, path: str = "") -> None:
    """Raise CheckpointError where a tensor below `path` could not be read: one may be missing."""
    unread = {
        name: what
        for name, what in held.others.items()
        if what and (not path or name.startswith(f"{path}.")) and not is_harmless(name)
    }
    for name, what in unread.items():
        more = f" (and {len(unread) - 1} more)" if len(unread) > 1 else ""
        raise CheckpointError(
            f"{shown(name)} is a {shown(what)}, not a plain tensor{more}; "
            "save it as a dense tensor of float32"
        )


def _asked(held: FileTensors, part: str) -> list[Subtree]:
    """Return the subtrees that `part` names: by a path, or by successive steps of one."""
    labels = held.labels()
    found = [subtree for subtree in held.subtrees if part in (subtree.path, labels[subtree.path])]
    found = found or [subtree for subtree in held.subtrees if f".{part}." in f".{subtree.path}."]
    if not found and part == "ema":
        found = [subtree for subtree in held.subtrees if is_average(subtree.path)]
    if not found:
        said = f"has no network in a part {shown(part)!r}"
        if list(labels.values()) == [WHOLE]:
            raise CheckpointError(f"{said}: it holds one alone; leave --part out")
        raise CheckpointError(f"{said}; {did_you_mean(part, labels.values())}")
    return found


def _one_of(held: FileTensors, fits: list[Fit], asked: list[Subtree]) -> tuple[Fit, list[str]]:
    """Return the network that is meant, and what is said of the others."""
    labels = held.labels()
    averages = [it for it in fits if is_average(it.path)]
    plain = [it for it in fits if not is_average(it.path)]
    if not plain and any(not is_average(subtree.path) for subtree in asked):
        average = labels[averages[0].path]
        raise CheckpointError(
            f"holds a network in the moving average {shown(average)!r} alone; "
            f"--part {shown(average)} takes it"
        )
    rest = plain or averages
    taken = rest[0]
    others = [it for it in rest if not _are_equal(held, taken, it)]
    if others:
        names = [shown(labels[it.path]) for it in rest]
        raise CheckpointError(
            f"holds {len(names)} networks: {', '.join(names[:6])}; "
            f"say which with --part, as in --part {names[0]}"
        )
    notes: list[str] = []
    if len(rest) > 1:
        names = " and ".join(shown(labels[it.path]) for it in rest)
        notes.append(f"{names} are equal bit by bit; {shown(labels[taken.path])} is taken")
    if plain and averages:
        name = shown(labels[averages[0].path])
        notes.append(f"the moving average in {name!r} is left out; --part {name} takes it")
    return taken, notes


def _are_equal(held: FileTensors, one: Fit, other: Fit) -> bool:
    if one is other:
        return True
    if one.candidate.scheme != other.candidate.scheme or one.shapes != other.shapes:
        return False
    return all(
        np.array_equal(held.array(there), held.array(other.names[name]), equal_nan=True)
        for name, there in one.names.items()
    )


def _from(held: FileTensors, taken: Fit, others_are_told: bool) -> list[str]:
    """Return the note on where a network was taken from and what is beside it."""
    used = {step for name in taken.names.values() for step in prefixes(name)}
    places = [it for it in (taken.path, taken.head) if it]
    found = [f"taken from {' and '.join(shown(it) for it in places)}"] if places else []
    told = (
        {subtree.path for subtree in held.subtrees} - {taken.path}
        if others_are_told
        else set[str]()
    )
    left = [
        name
        for name in (*held.tensors, *held.others)
        if name not in used and name.rpartition(".")[2] not in COUNTERS and not is_below(name, told)
    ]
    if not taken.has_classifier:
        why = " (no linear layer alone takes the features)" if taken.beside else ""
        found.append(f"no classifier{why}")
    if left:
        found.append(f"left out: {_groups(left, used)}")
    return ["; ".join(found)] if found else []


def _groups(names: Sequence[str], used: set[str]) -> str:
    """Return the outermost groups of `names` in which nothing is used, the first few."""
    found = list(
        dict.fromkeys(next(it for it in prefixes(name) if it not in used) for name in names)
    )
    few = ", ".join(shown(it, 40) for it in found[:4])
    return f"{few} and {len(found) - 4} more" if len(found) > 4 else few


def _nowhere(held: FileTensors, part: str | None) -> str:
    """Return the line that says that no name of the file is one of a scheme."""
    said = f"its tensors ({_few(held.tensors)}) have the names of no scheme, below no prefix"
    return f"{said}; {_RENAME}" if part is None else f"has no network in a part {part!r}; {said}"


def _few(names: Mapping[str, object]) -> str:
    few = [shown(name, 60) for _, name in zip(range(3), names, strict=False)]
    return ", ".join([*few, "..."])


def _unfit(
    held: FileTensors, asked: list[Subtree], schemes: Sequence[Scheme], spec: Spec | None
) -> str:
    """Return the line that says what speaks against the place that comes nearest."""
    near: list[tuple[int, str]] = []
    for subtree in asked[:_MOST_TRIED]:
        shapes = shapes_in(subtree, held.shape)
        if spec is None:
            found = nearest(shapes, schemes, search(shapes, schemes))
            text = refusal(found, shapes, _remedy(found))
        else:
            found = search_for(spec, shapes, schemes)
            text = unlike(spec, shapes, found)
        faults = len(shapes) + 1 if found is None else found.cover.faults
        where = f"below {shown(subtree.path)!r}: " if subtree.path else ""
        near.append((faults, f"{where}{text}"))
    return min(near)[1]


def _remedy(near: Candidate | None) -> str:
    """Return what to do: a spec helps where the network is one that cannot be inferred."""
    if near is None:
        return _RENAME
    if not near.is_near:
        return "say what it is with --spec"
    return "the file is not whole, or has a layer that no spec has"


_RENAME = "give them the names of one, as torchvision's (docs/checkpoints.md lists all)"
_MOST_TRIED = 4
