"""What a weight file holds: its tensors, whose names they have, and the network they are of.

What `inspect` shows and `converting` builds on. Own checkpoints carry their spec; of any other file
it is inferred, or checked where it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnet_spec.contract import Array
from resnet_spec.describing.from_text import Fields, merge
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import CheckpointError, SpecError, did_you_mean
from resnet_spec.plan import Plan
from resnet_spec.planning.classifier import without_classifier
from resnet_spec.planning.lowering import lower
from resnet_spec.printing.cards import Card, Shown
from resnet_spec.weights import weight_tree
from resnet_spec.weights.checkpoint import Checkpoint, is_checkpoint, load_checkpoint
from resnet_spec.weights.files.arrays import HALVES
from resnet_spec.weights.files.in_folders import weights_at
from resnet_spec.weights.files.unwrapping import flat, unwrapped
from resnet_spec.weights.last_two import before_damaged
from resnet_spec.weights.naming import SCHEMES, Scheme, scheme
from resnet_spec.weights.naming.conventions import conflicts
from resnet_spec.weights.recognising.choosing import FileTensors, choose
from resnet_spec.weights.recognising.cover import cover
from resnet_spec.weights.recognising.inference import inferred_with
from resnet_spec.weights.recognising.matching_preset import MatchingPreset, matching_preset
from resnet_spec.weights.recognising.unseen import UnseenField, for_channels, unseen_fields

AUTO = "auto"


@dataclass(frozen=True, repr=False)
class Recognised(Shown):
    """A weight file and the network whose tensors it has, all and no others.

    kind: as in `weights.KINDS`, or "checkpoint" for this project's own. tensors: by the names of
    the file, which are `scheme`'s. preset: the preset with the same tensors. open: what tensors
    cannot show, and what was taken for it; () for own checkpoints. notes: what was left out or
    changed on the way, in words. part: what asks for the network where the file holds several.
    has_classifier: whether it has one; if not, the classes of its spec mean nothing.
    """

    path: Path
    kind: str
    tensors: Mapping[str, Array] = field(repr=False)
    scheme: Scheme
    spec: Spec
    preset: MatchingPreset | None
    open: tuple[UnseenField, ...] = ()
    notes: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None
    part: str = ""
    has_classifier: bool = True

    @property
    def relative(self) -> MatchingPreset | None:
        """`preset` by its former name."""
        return self.preset

    @property
    def plan(self) -> Plan:
        """The network's plan, without a classifier where it has none."""
        plan = lower(self.spec)
        return plan if self.has_classifier else without_classifier(plan)

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows: list[tuple[str, object]] = [
            ("network", self.spec.name),
            ("kind", self.kind),
            ("names", self.scheme.name),
            ("tensors", len(self.tensors)),
            *((f"taken: {it.field}", it.value) for it in self.open),
        ]
        return Card(str(self.path), rows, notes=[f"note: {note}" for note in self.notes])


def recognise_file(
    path: Path,
    spec: Source | None = None,
    names: str = AUTO,
    settings: Texts = (),
    part: str | None = None,
) -> Recognised:
    """Return what the file at `path` holds, or the one that a folder means (`files.in_folders`).

    Executes nothing of it.

    spec: the network it must be of; None: an own checkpoint's own, else inferred.
    names: a scheme, or "auto" to look among all.
    settings: `key=value` texts, applied last; they say what tensors cannot.
    part: which of several networks, as `ema`, `encoder_q` or another step of its path; of an own
        checkpoint "ema" or "model". None: the one that is meant surely.

    Raises CheckpointError for a file that is missing, damaged, of no network or another than
    `spec`, or of several without `part`; SpecError for a spec or a setting that breaks a rule.
    """
    settings = listed(settings, "settings", SpecError)
    schemes = list(SCHEMES.values()) if names == AUTO else [scheme(names)]
    place = weights_at(path)
    try:
        if is_checkpoint(place.path):
            found = _own(place.path, spec, names, settings, part)
        else:
            found = _foreign(place.path, spec, schemes, settings, part)
    except CheckpointError as error:
        remedy = before_damaged(place.path)
        lines = (
            text if text.startswith(str(path)) else f"{path}: {text}" for text in error.problems
        )
        raise CheckpointError(
            *(f"{text}; {remedy}" if remedy else text for text in lines)
        ) from None
    return replace(found, notes=(*place.notes, *found.notes))


def _own(
    path: Path, spec: Source | None, names: str, settings: Sequence[str], part: str | None
) -> Recognised:
    found = _part_of(load_checkpoint(path), part)
    theirs = scheme("canonical")
    if names not in (AUTO, theirs.name):
        raise CheckpointError(f"is a checkpoint of this project, not of {names}; leave --from out")
    state = found.evaluated().state
    said = load_spec(found.spec if spec is None else spec, settings)
    fits = cover(theirs, lower(said), _shapes(state))
    if not fits.is_exact:
        raise CheckpointError(f"is a checkpoint of {found.spec.name}: {fits.text()}")
    notes: tuple[str, ...] = ()
    if lower(said).root != lower(found.spec, said.input.size).root:
        notes = ("the network as given is another than the checkpoint's own",)
    return Recognised(
        path,
        "checkpoint",
        state,
        theirs,
        said,
        matching_preset(said),
        notes=notes,
        checkpoint=replace(found, spec=said),
    )


def _part_of(checkpoint: Checkpoint, part: str | None) -> Checkpoint:
    """Return a checkpoint with its moving average, or without it, as `part` says."""
    has_average = any(name.startswith(_EMA) for name in checkpoint.state)
    parts = ["model", "ema"] if has_average else ["model"]
    if part is not None and part not in parts:
        raise CheckpointError(f"has no part {part!r}; {did_you_mean(part, parts)}")
    if part != "model" or not has_average:
        return checkpoint
    state = {name: a for name, a in checkpoint.state.items() if not name.startswith(_EMA)}
    return replace(checkpoint, state=state)


_EMA = "ema/"


def _foreign(
    path: Path,
    spec: Source | None,
    schemes: Sequence[Scheme],
    settings: Sequence[str],
    part: str | None,
) -> Recognised:
    kind, held = _held(path)
    asked = None if spec is None else load_spec(spec, settings)
    chosen = choose(held, schemes, asked, part)
    found = chosen.fit.candidate
    theirs, notes = found.scheme, [*held.notes, *chosen.notes]
    halves = sum(held.tensors[it].element in HALVES for it in chosen.fit.names.values())
    if halves:
        notes.append(f"{halves} tensors of half precision are widened to float32")
    if spec is None:
        inferred = inferred_with(found, chosen.fit.shapes, settings)
        said, preset, left_open = inferred.spec, inferred.preset, inferred.open
    else:
        said, more = _with_conventions(load_spec(spec), theirs)
        said = load_spec(said, settings)
        preset, left_open = (
            matching_preset(said),
            unseen_fields(said, theirs, settings, is_given=True),
        )
        notes += more
    return Recognised(
        path,
        kind,
        chosen.arrays,
        theirs,
        said,
        preset,
        left_open,
        tuple(notes),
        part=chosen.part,
        has_classifier=chosen.fit.has_classifier,
    )


def _held(path: Path) -> tuple[str, FileTensors]:
    """Return a file's kind and its tensors. Raises CheckpointError where it holds none."""
    kind, origin, tree = weight_tree(path)
    try:
        tensors, others = flat(tree, origin)
    except CheckpointError:  # What is beside the weights may be endless.
        tensors, _ = unwrapped(tree, origin, None)
        others = {}
    if not tensors:
        unwrapped(tree, origin, None)  # Says what it holds in their place.
        raise origin.refused("holds no tensors", "name a file with weights")
    return kind, FileTensors(tensors, others, origin.notes)


def _shapes(tensors: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in tensors.items()}


def _with_conventions(spec: Spec, theirs: Scheme) -> tuple[Spec, list[str]]:
    """Return a given spec with what the source's code fixes and logits depend on, and say so.

    Of the images' statistics, which a spec need not have, it is given those that it lacks.
    """
    fields, notes = spec.to_dict(), list[str]()
    for found in conflicts(for_channels(theirs, spec), spec):
        is_lacking = found.field in ("input.mean", "input.std") and not found.value
        if found.changes == "logits" or is_lacking:
            fields = merge(fields, _nested(found.field, found.theirs))
        if found.changes == "logits":
            notes.append(
                f"{found.field} = {found.theirs}: {theirs.name}'s code fixes it; "
                f"the given spec says {found.value}"
            )
    return Spec.from_dict(fields), notes


def _nested(path: str, value: Any) -> Fields:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value
