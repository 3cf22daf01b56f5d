"""The spec of a network out of the names and shapes of its tensors alone, by search.

For every scheme and every kind of network: ask the scheme how the tensors of such a network are
called (`skeleton`), let it grow as far as the file goes (`growing`), read its numbers off the
shapes (`numbers`), and believe it when its tensors are the file's, all and no others (`cover`).
Nothing here reads a foreign name: schemes are functions of plans, used in that direction only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from resnet_spec.errors import CheckpointError, SpecError
from resnet_spec.lowering import lower
from resnet_spec.naming import SCHEMES, Scheme
from resnet_spec.naming.conventions import applied
from resnet_spec.naming.cover import Cover, cover
from resnet_spec.naming.growing import Grown, grow, likely_builds
from resnet_spec.naming.numbers import fields_of, numbers_of, squeeze_of
from resnet_spec.naming.relatives import Relative, relative_of
from resnet_spec.naming.skeleton import Build
from resnet_spec.naming.usual import Taken, suited, taken, usual
from resnet_spec.ops import Shape
from resnet_spec.spec import Spec
from resnet_spec.spec_files import load_spec
from resnet_spec.texts import Texts, listed

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Inferred:
    """What a file's tensors are.

    relative: the preset with the same tensors, where there is one. open: what tensors cannot show,
    and what was taken for it.
    """

    scheme: Scheme
    spec: Spec
    relative: Relative | None
    open: tuple[Taken, ...]


def infer(
    shapes: Shapes, settings: Texts = (), schemes: Iterable[Scheme] = SCHEMES.values()
) -> Inferred:
    """Return the network that has exactly the tensors in `shapes`.

    shapes: name of a tensor in a file -> its shape there.
    settings: `key=value` texts that change what tensors leave open, as `stride_position=1x1`.
    schemes: to look among; where several call the tensors alike, the first one is taken.

    Raises CheckpointError that says which scheme and network came nearest, and which tensors speak
    against it; SpecError for a setting that breaks a rule of specs.
    """
    settings = listed(settings, "settings", SpecError)
    found = _search(shapes, schemes)
    spec = found.spec
    if settings:
        spec = load_spec(spec, settings)
        changed = cover(found.scheme, lower(spec), shapes)
        if not changed.is_exact:
            rule = "makes it another network than the file's"
            raise CheckpointError(f"--set {' '.join(settings)}: {rule}: {changed.text()}")
    relative = relative_of(spec)
    if relative is not None and not any(text.partition("=")[0] == "name" for text in settings):
        spec = spec.model_copy(update={"name": relative.name})
    return Inferred(found.scheme, spec, relative, taken(spec, found.scheme, settings))


def recognise(spec: Spec, shapes: Shapes, schemes: Iterable[Scheme] = SCHEMES.values()) -> Scheme:
    """Return the first scheme by which the tensors in `shapes` are exactly those of `spec`.

    Raises CheckpointError as `infer` does.
    """
    nearest: _Candidate | None = None
    for scheme in schemes:
        try:
            found = _Candidate(scheme, spec, cover(scheme, lower(spec), shapes))
        except CheckpointError:
            continue
        if found.cover.is_exact:
            return scheme
        nearest = found.nearer(nearest)
    said = f"its {len(shapes)} tensors are not those of {spec.name}"
    if nearest is None:
        raise CheckpointError(f"{said}: no project has such a network; give another --spec")
    faults = f"by {nearest.scheme.name}'s names {nearest.cover.text()}"
    raise CheckpointError(f"{said}: {faults}; give another --spec")


class _Candidate(NamedTuple):
    scheme: Scheme
    spec: Spec
    cover: Cover

    @property
    def is_near(self) -> bool:
        """Whether nine tensors of ten are as they must be."""
        return 10 * self.cover.faults <= len(self.cover.wanted)

    def nearer(self, other: _Candidate | None) -> _Candidate:
        """Return the one with fewer faults, `other` where they are equal."""
        return self if other is None or self.cover.faults < other.cover.faults else other


def _search(shapes: Shapes, schemes: Iterable[Scheme]) -> _Candidate:
    nearest: _Candidate | None = None
    others: list[tuple[float, Scheme, Build]] = []
    for scheme in schemes:
        whole: list[tuple[int, Build]] = []
        for build, share, count in likely_builds(scheme, shapes.keys()):
            if share == 1.0:
                whole.append((count, build))
            else:
                others.append((share, scheme, build))
        # What has all the names of one with more of them is rarely one with fewer.
        for _, build in sorted(whole, key=lambda it: it[0], reverse=True):
            for candidate in _candidates(scheme, build, shapes):
                if candidate.cover.is_exact:
                    return candidate
                nearest = candidate.nearer(nearest)
    others.sort(key=lambda it: it[0], reverse=True)
    for _, scheme, build in others[:_MOST_TRIED]:
        if nearest is not None and nearest.is_near:
            break
        for candidate in _candidates(scheme, build, shapes):
            nearest = candidate.nearer(nearest)
    raise CheckpointError(_refusal(nearest, shapes))


_MOST_TRIED = 12
"""Builds of which the file lacks some of the first names are looked at for the error only."""


def _candidates(scheme: Scheme, build: Build, shapes: Shapes) -> Iterator[_Candidate]:
    """Yield the networks that the file may be by a scheme and build."""
    for grown in grow(scheme, build, shapes):
        spec = _spec_of(scheme, build, grown, shapes)
        if spec is None:
            continue
        try:
            yield _Candidate(scheme, spec, cover(scheme, lower(spec), shapes))
        except CheckpointError:  # The project has no such network.
            continue


def _spec_of(scheme: Scheme, build: Build, grown: Grown, shapes: Shapes) -> Spec | None:
    numbers = numbers_of(grown.bones, shapes)
    fields = fields_of(build, grown, numbers)
    if fields is None:
        return None
    try:
        if build.squeeze:
            fields["squeeze"] = squeeze_of(fields, len(grown.blocks), numbers)
            if fields["squeeze"] is None:
                return None
        spec = Spec.from_dict(usual(fields))
        return applied(suited(scheme, spec), spec)
    except SpecError:  # No spec has such numbers.
        return None


def _refusal(nearest: _Candidate | None, shapes: Shapes) -> str:
    remedy = "say what it is with --spec"
    if nearest is None:
        first = ", ".join(list(shapes)[:3])
        return f"its tensors ({first}, ...) have the names of no scheme; {remedy}"
    relative = relative_of(nearest.spec)
    like = relative.name if relative else "a network"
    return (
        f"its {len(shapes)} tensors are those of no residual network; nearest is {like} "
        f"by {nearest.scheme.name}'s names, but {nearest.cover.text()}; {remedy}"
    )
