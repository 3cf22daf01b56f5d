"""The spec of a network out of the names and shapes of its tensors alone, by search.

For every scheme and every kind of network: ask the scheme how the tensors of such a network are
called (`marked_plans`), look how many stages and blocks the file has (`depth_search`), read its
numbers off the shapes (`numbers`), and believe it when its tensors are the file's, all and no
others (`cover`).
Nothing here reads a foreign name: schemes are functions of plans, used in that direction only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import CheckpointError, SpecError
from resnet_spec.ops import Shape
from resnet_spec.plan import Plan
from resnet_spec.planning.classifier import without_classifier
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming import SCHEMES, Scheme
from resnet_spec.weights.naming.conventions import applied
from resnet_spec.weights.recognising.cover import Cover, cover
from resnet_spec.weights.recognising.depth_search import FoundStages, find_stages, likely_structures
from resnet_spec.weights.recognising.marked_plans import Structure, Unknown
from resnet_spec.weights.recognising.matching_preset import MatchingPreset, matching_preset
from resnet_spec.weights.recognising.numbers import fields_of, numbers_of, squeeze_of
from resnet_spec.weights.recognising.unseen import (
    UnseenField,
    for_channels,
    unseen_fields,
    with_assumed_resolution,
)

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Inferred:
    """What a file's tensors are.

    preset: the preset with the same tensors, where there is one. open: what tensors cannot show,
    and what was taken for it.
    """

    scheme: Scheme
    spec: Spec
    preset: MatchingPreset | None
    open: tuple[UnseenField, ...]


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
    schemes = list(schemes)
    found = search(shapes, schemes)
    if found is None or not found.cover.is_exact:
        raise CheckpointError(refusal(nearest(shapes, schemes, found), shapes))
    return inferred_with(found, shapes, settings)


def inferred_with(found: Candidate, shapes: Shapes, settings: Sequence[str] = ()) -> Inferred:
    """Return what was found, with what `settings` say of it, named as the preset that it is.

    Raises CheckpointError for settings that make it another network, SpecError for wrong ones.
    """
    spec = found.spec
    if settings:
        spec = load_spec(spec, settings)
        changed = cover(found.scheme, _plan(spec, found.is_whole), shapes)
        if not (changed.is_exact if found.is_whole else changed.is_body):
            rule = "makes it another network than the file's"
            raise CheckpointError(f"--set {' '.join(settings)}: {rule}: {changed.text()}")
    preset = matching_preset(spec)
    if preset is not None and not any(text.partition("=")[0] == "name" for text in settings):
        spec = spec.model_copy(update={"name": preset.name})
    return Inferred(found.scheme, spec, preset, unseen_fields(spec, found.scheme, settings))


def recognise(spec: Spec, shapes: Shapes, schemes: Iterable[Scheme] = SCHEMES.values()) -> Scheme:
    """Return the first scheme by which the tensors in `shapes` are exactly those of `spec`.

    Raises CheckpointError as `infer` does.
    """
    found = search_for(spec, shapes, schemes)
    if found is None or not found.cover.is_exact:
        raise CheckpointError(unlike(spec, shapes, found))
    return found.scheme


class Candidate(NamedTuple):
    """A network that a file may hold, and how its tensors differ from the file's.

    is_whole: whether its classifier is asked for, too, or its body alone.
    """

    scheme: Scheme
    spec: Spec
    cover: Cover
    is_whole: bool = True

    @property
    def is_fit(self) -> bool:
        """Whether the file has it: exactly, or a body with nothing else among its tensors."""
        return self.cover.is_exact if self.is_whole else self.cover.is_body

    @property
    def is_near(self) -> bool:
        """Whether nine tensors of ten are as they must be."""
        return 10 * self.cover.faults <= len(self.cover.wanted)

    def nearer(self, other: Candidate | None) -> Candidate:
        """Return the one with fewer faults, `other` where they are equal."""
        return self if other is None or self.cover.faults < other.cover.faults else other


def search(shapes: Shapes, schemes: Iterable[Scheme], *, whole: bool = True) -> Candidate | None:
    """Return the network in `shapes` that is a fit, else the nearest one of those tried.

    whole: whether it must have its classifier; else what is beside its body counts for nothing.
    """
    near: Candidate | None = None
    for scheme in schemes:
        likely = likely_structures(scheme, shapes.keys(), whole=whole)
        structures = [(count, structure) for structure, share, count in likely if share == 1.0]
        # What has all the names of one with more of them is rarely one with fewer.
        for _, structure in sorted(structures, key=lambda it: it[0], reverse=True):
            for candidate in _candidates(scheme, structure, shapes, whole):
                if candidate.is_fit:
                    return candidate
                near = candidate.nearer(near)
    return near


def nearest(shapes: Shapes, schemes: Iterable[Scheme], near: Candidate | None) -> Candidate | None:
    """Return `near`, or what is nearer of networks of which the file lacks some first names."""
    others = [
        (share, scheme, structure)
        for scheme in schemes
        for structure, share, _ in likely_structures(scheme, shapes.keys())
        if share < 1.0
    ]
    others.sort(key=lambda it: it[0], reverse=True)
    for _, scheme, structure in others[:_MOST_TRIED]:
        if near is not None and near.is_near:
            break
        for candidate in _candidates(scheme, structure, shapes, True):
            near = candidate.nearer(near)
    return near


_MOST_TRIED = 12
"""Structures of which the file lacks some of the first names are looked at for the error only."""


def search_for(
    spec: Spec, shapes: Shapes, schemes: Iterable[Scheme], *, whole: bool = True
) -> Candidate | None:
    """Return `spec` by the first scheme that fits `shapes`, else by the nearest; None: by none."""
    near: Candidate | None = None
    plan = _plan(spec, whole)
    for scheme in schemes:
        try:
            found = Candidate(scheme, spec, cover(scheme, plan, shapes), whole)
        except CheckpointError:
            continue
        if found.is_fit:
            return found
        near = found.nearer(near)
    return near


def unlike(spec: Spec, shapes: Shapes, found: Candidate | None) -> str:
    """Return the line that says why tensors are not those of `spec`; `found`: the nearest."""
    said = f"its {len(shapes)} tensors are not those of {spec.name}"
    if found is None:
        return f"{said}: no project has such a network; give another --spec"
    faults = f"by {found.scheme.name}'s names {found.cover.text()}"
    return f"{said}: {faults}; give another --spec"


def _candidates(
    scheme: Scheme, structure: Structure, shapes: Shapes, whole: bool
) -> Iterator[Candidate]:
    """Yield the networks that the file may be by a scheme and structure."""
    for stages in find_stages(scheme, structure, shapes):
        spec = _spec_of(scheme, structure, stages, shapes, whole)
        if spec is None:
            continue
        try:
            yield Candidate(scheme, spec, cover(scheme, _plan(spec, whole), shapes), whole)
        except CheckpointError:  # The project has no such network.
            continue


def _plan(spec: Spec, whole: bool) -> Plan:
    return lower(spec) if whole else without_classifier(lower(spec))


_CLASSES = 1000
"""Of a network without a classifier: those of the spec's default."""


def _spec_of(
    scheme: Scheme, structure: Structure, stages: FoundStages, shapes: Shapes, whole: bool
) -> Spec | None:
    numbers = numbers_of(stages.marked, shapes)
    if not whole:
        numbers = {**numbers, Unknown("classes"): _CLASSES}
    fields = fields_of(structure, stages, numbers)
    if fields is None:
        return None
    try:
        if structure.squeeze:
            fields["squeeze"] = squeeze_of(fields, len(stages.blocks), numbers)
            if fields["squeeze"] is None:
                return None
        spec = Spec.from_dict(with_assumed_resolution(fields))
        return applied(for_channels(scheme, spec), spec)
    except SpecError:  # No spec has such numbers.
        return None


def refusal(
    near: Candidate | None, shapes: Shapes, remedy: str = "say what it is with --spec"
) -> str:
    """Return the line that says why `shapes` are of no network; `near`: the one that is nearest."""
    if near is None:
        first = ", ".join(list(shapes)[:3])
        return f"its tensors ({first}, ...) have the names of no scheme; {remedy}"
    preset = matching_preset(near.spec)
    like = preset.name if preset else "a network"
    return (
        f"its {len(shapes)} tensors are those of no residual network; nearest is {like} "
        f"by {near.scheme.name}'s names, but {near.cover.text()}; {remedy}"
    )
