"""Weights of any file to canonical ones, and to a file of any other scheme and kind, with a proof.

Nothing is written before all is checked, and nothing keeps its name before what was written has
been read back and computes what the source does.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import Source
from resnet_spec.describing.text_lists import Texts, listed
from resnet_spec.errors import CheckpointError, SpecError
from resnet_spec.files.destinations import check_destination
from resnet_spec.files.writing import beside
from resnet_spec.printing.cards import Card, Shown
from resnet_spec.weights import kind_to_write, read_weights, write_weights
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from resnet_spec.weights.files.folders import put_folder
from resnet_spec.weights.files.orbax import ORBAX_FILES
from resnet_spec.weights.naming import Scheme, scheme
from resnet_spec.weights.naming.conventions import Conflict, applied, conflicts
from resnet_spec.weights.naming.lifting import from_file, to_file
from resnet_spec.weights.proving import Network, Proof, prove
from resnet_spec.weights.recognising.assumed import assumed
from resnet_spec.weights.recognising.recognise import AUTO, Recognised, recognise_file
from resnet_spec.weights.recognising.unseen import UnseenField, for_channels
from resnet_spec.weights.soundness import as_float32, check_values


@dataclass(frozen=True, repr=False)
class Loaded(Shown):
    """Weights ready for a session. state: canonical, float32. scheme: whose names the file has.

    notes: what a person should know, one line each. checkpoint: an own one as it was written,
    with its data and class names; None for other files. open: what tensors cannot show.
    has_classifier: False for an encoder, whose state lacks the classifier's tensors.
    """

    spec: Spec
    state: State = field(repr=False)
    scheme: str
    notes: tuple[str, ...]
    checkpoint: Checkpoint | None = field(default=None, repr=False)
    open: tuple[UnseenField, ...] = field(default=(), repr=False)
    has_classifier: bool = True

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [
            ("names", self.scheme),
            ("tensors", len(self.state)),
            ("classes", self.spec.classes if self.has_classifier else "none: no classifier"),
        ]
        return Card(f"weights of {self.spec.name}", rows, notes=_as_notes(self.notes))


def load_weights(
    path: Path,
    spec: Source | None = None,
    scheme: str = AUTO,
    settings: Texts = (),
    part: str | None = None,
) -> Loaded:
    """Return the network and the canonical tensors in the file at `path`, of any kind and scheme.

    An own checkpoint gives its moving average where it has one. Arguments and errors are those of
    `recognise_file`; tensors that are not finite raise CheckpointError, too. An encoder is loaded
    without a classifier: see `Loaded.has_classifier`.
    """
    settings = listed(settings, "settings", SpecError)
    loaded = _loaded(recognise_file(path, spec, scheme, settings, part), settings, empties=True)
    return replace(loaded, notes=(*loaded.notes, *_assumed(loaded.open)))


def _assumed(left_open: Sequence[UnseenField]) -> list[str]:
    line = assumed(left_open)
    return [line] if line else []


def _loaded(found: Recognised, settings: Sequence[str], *, empties: bool = False) -> Loaded:
    check_values(found.path, found.tensors, counters=True)
    with np.errstate(over="ignore"):  # Where a bias is folded; what comes of it is looked at.
        state = from_file(found.plan, found.scheme, found.tensors, empties=empties)
    folded = {fold.mean for fold in found.scheme.folds(found.plan)}
    check_values(found.path, {n: a for n, a in state.items() if n in folded or a.dtype.kind != "f"})
    wide = [name for name, array in state.items() if array.dtype != np.float32]
    notes = [*found.notes, *found.scheme.caveats, *_overruled(found, settings)]
    if wide:
        notes.append(f"{len(wide)} tensors are rounded to float32")
        state = as_float32(found.path, state)
    return Loaded(
        found.spec,
        state,
        found.scheme.name,
        tuple(notes),
        found.checkpoint,
        found.open,
        found.has_classifier,
    )


def _overruled(found: Recognised, settings: Sequence[str]) -> list[str]:
    """Return a line for each setting that makes the logits others than the source's."""
    if not settings:
        return []
    return [
        f"{it.field} = {it.value}: was set; where the source is {found.scheme.name}'s own code, "
        f"which has {it.theirs}, the logits are not the source's"
        for it in conflicts(for_channels(found.scheme, found.spec), found.spec)
        if it.changes == "logits"
    ]


@dataclass(frozen=True, repr=False)
class Converted(Shown):
    """What `convert` wrote. scheme: of the names in the new file. notes: one line each."""

    path: Path
    source: Recognised
    scheme: str
    spec: Spec
    proof: Proof
    notes: tuple[str, ...]

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [
            ("from", f"{self.source.path}: {self.source.kind}, {self.source.scheme.name}"),
            ("names", self.scheme),
            ("proof", self.proof.line),
        ]
        return Card(f"{self.path}: weights of {self.spec.name}", rows, notes=_as_notes(self.notes))


def _as_notes(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


def convert(
    source: Path,
    destination: Path,
    *,
    names: str = AUTO,
    to: str | None = None,
    kind: str | None = None,
    spec: Source | None = None,
    settings: Texts = (),
    part: str | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write the weights in `source` to `destination`, whole and proven or not at all.

    names: the scheme of the source, or "auto".
    to: the scheme of the new file. None, for a `.safetensors` file: an own checkpoint, with the
        spec in it.
    kind: of the new file, as in `weights.KINDS`; None: as its name ends.
    spec, settings, part: as in `recognise_file`.
    overwrite: replace what is at `destination`, of whatever it is a link to.

    An encoder is written without a classifier, and proven with one that is drawn for the proof; an
    own checkpoint must have one.

    Raises CheckpointError as `load_weights` does, for a network that the scheme has no names for or
    whose logits are not finite, and where the code of the scheme's project would compute other
    logits; OutputError where `destination` cannot be written, or is there and not to be replaced.
    """
    settings = listed(settings, "settings", SpecError)
    is_own = to is None and kind is None and destination.suffix == ".safetensors"
    if to is None and not is_own:
        rule = "needs to know whose names to write"
        raise CheckpointError(f"{destination}: {rule}; say --to timm, or another scheme")
    target = scheme("canonical" if to is None else to)
    is_folder = not is_own and kind_to_write(destination, kind).is_folder
    check_destination(destination, overwrite=overwrite, folder=ORBAX_FILES if is_folder else ())
    found = recognise_file(source, spec, names, settings, part)
    if is_own and not found.has_classifier:
        rule = "has no classifier, and a checkpoint must have one"
        raise CheckpointError(f"{source}: {rule}; say --to timm, or another scheme")
    loaded = _loaded(found, settings)
    target.in_file(found.plan)  # Refuses what the project has not, before what it has else.
    notes = [*loaded.notes, *_differences(target, found.spec), *_assumed(found.open)]
    exact = Network(found.spec, _unrounded(found, loaded.state), found.has_classifier)
    with _new(destination) as temporary:
        if is_own:
            save_checkpoint(temporary, _own(loaded))
        else:
            tensors = to_file(found.plan, target, loaded.state)
            write_weights(temporary, tensors, kind)
            del tensors
        proof = prove(exact, _read_back(temporary, target, found, is_own))
        put_folder(temporary, destination) if is_folder else temporary.replace(destination)
    return Converted(destination, found, target.name, found.spec, proof, tuple(notes))


def _own(loaded: Loaded) -> Checkpoint:
    """Return weights as a checkpoint that knows its data and classes where the source did."""
    kept = loaded.checkpoint
    if kept is None or len(kept.class_names) not in (0, loaded.spec.classes):
        return Checkpoint(loaded.spec, loaded.state)
    return replace(kept, spec=loaded.spec, state=loaded.state, recipe=None, progress={})


def _differences(target: Scheme, spec: Spec) -> list[str]:
    """Return notes on what the target's code does otherwise in training or to images.

    Raises CheckpointError where it computes other logits.
    """
    found = conflicts(for_channels(target, spec), spec)
    lost = [it for it in found if it.changes == "logits"]
    if lost:
        theirs = [f"{it.field} = {_setting(target, it)}" for it in lost]
        remedy = " ".join(f"--set {it.field}={_setting(target, it)}" for it in lost)
        raise CheckpointError(
            f"--to {target.name}: its code has {', '.join(theirs)}, and the logits would differ; "
            f"{remedy} says that you want that"
        )
    return [f"{it.field} = {it.value}: {target.name}'s code has {it.theirs}" for it in found]


def _setting(target: Scheme, conflict: Conflict) -> str:
    """Return what the target's code has, as a setting."""
    value = conflict.theirs
    if value is None:  # A stem that is padded by the network's rule.
        value = target.conventions["padding"]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unrounded(found: Recognised, state: State) -> Mapping[str, Array]:
    """Return the canonical tensors with all digits that the file implies.

    They are `state` but where biases are folded or tensors are wider than float32.
    """
    plan = found.plan
    folds = [fold for fold in found.scheme.folds(plan) if found.tensors[fold.name].any()]
    if not folds and all(array.dtype == np.float32 for array in found.tensors.values()):
        return state
    wide = {name: array.astype(np.float64) for name, array in found.tensors.items()}
    return from_file(plan, found.scheme, wide)


def _read_back(path: Path, target: Scheme, found: Recognised, is_own: bool) -> Network:
    """Return the network as whoever uses the file will have it, with what their code fixes."""
    if is_own:
        checkpoint = load_checkpoint(path)
        return Network(checkpoint.spec, checkpoint.state)
    theirs = replace(found, spec=applied(for_channels(target, found.spec), found.spec))
    state = from_file(theirs.plan, target, read_weights(path).tensors)
    return Network(theirs.spec, state, found.has_classifier)


@contextmanager
def _new(path: Path) -> Generator[Path]:
    """Give a temporary path beside `path`; errors name `path` in its stead."""
    with beside(path) as temporary:
        try:
            yield temporary
        except CheckpointError as error:
            lines = (line.replace(str(temporary), str(path)) for line in error.problems)
            raise CheckpointError(*lines) from None
