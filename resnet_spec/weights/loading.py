"""Weights of any kind, ready to be used, with all that is known of their images.

What `--pretrained` and the checkpoint arguments of the command line stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnet_spec.contract import State
from resnet_spec.data.at_size import view_of
from resnet_spec.data.imagenet_names import IMAGENET
from resnet_spec.data.views import View
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import Source
from resnet_spec.describing.text_lists import Texts
from resnet_spec.planning.classifier import no_classifier
from resnet_spec.printing.cards import Card, Shown
from resnet_spec.recipe import Evaluated
from resnet_spec.weights.checkpoint import Checkpoint
from resnet_spec.weights.converting import load_weights
from resnet_spec.weights.naming import Scheme, scheme
from resnet_spec.weights.published.entry import Published
from resnet_spec.weights.published.finding import find
from resnet_spec.weights.published.hub_config import class_names_beside
from resnet_spec.weights.recognising.assumed import assumed
from resnet_spec.weights.recognising.recognise import AUTO
from resnet_spec.weights.recognising.unseen import UnseenField


@dataclass(frozen=True, repr=False)
class Pretrained(Shown):
    """Weights of a network. source: what they were asked for as. scheme: whose names they have.

    spec: the network; its `input.mean` is () where nothing says what it was trained with. state:
    canonical, float32. entry: what was published of it. checkpoint: an own one. notes: what a
    person should know, one line each. open: what tensors cannot show and nothing else says.
    has_classifier: False for an encoder, whose state lacks the classifier's tensors.
    """

    source: str
    path: Path
    sha256: str
    spec: Spec
    state: State = field(repr=False)
    scheme: Scheme
    entry: Published | None
    checkpoint: Checkpoint | None = field(repr=False)
    notes: tuple[str, ...]
    open: tuple[UnseenField, ...] = field(default=(), repr=False)
    has_classifier: bool = True

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [
            ("file", self.path),
            ("sha256", self.sha256),
            ("names", self.scheme.name),
            ("classes", self.spec.classes if self.has_classifier else "none: no classifier"),
        ]
        notes = [f"note: {note}" for note in self.notes]
        return Card(f"{self.source}: weights of {self.spec.name}", rows, notes=notes)

    def notes_with(self, spec: Source | None, settings: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the notes for a network that a person gives, or changes by `settings`.

        What the person says need not be assumed.
        """
        known = [note for note in self.notes if note != assumed(self.open)]
        line = assumed(self.open, settings) if spec is None else ""
        return (*known, line) if line else tuple(known)

    def whole(self) -> Pretrained:
        """Return the weights. Raises CheckpointError where they are of no use for logits."""
        if not self.has_classifier:
            raise no_classifier(self.source)
        return self

    @property
    def view(self) -> View | None:
        """How its images are evaluated; None where nobody says."""
        if self.entry is not None:
            return self.entry.view
        return view_of(self.spec.input.size, self._evaluation.crop)

    @property
    def _evaluation(self) -> Evaluated:
        """How the run that the weights are of was evaluated; as usual where nobody says."""
        recipe = None if self.checkpoint is None else self.checkpoint.recipe
        return Evaluated() if recipe is None else recipe.evaluation

    @property
    def data_size(self) -> int:
        """In which size data are read, before they are brought to that of `spec`.

        Those that a run was evaluated on were read in the size that it trained at.
        """
        size = self.spec.input.size
        if self.checkpoint is None or self._evaluation.size != size:
            return size
        return self.checkpoint.spec.input.size

    def as_evaluated(self) -> Pretrained:
        """Return the weights of a run with the size of image that it was evaluated at."""
        size = self._evaluation.size
        if size is None or size == self.spec.input.size:
            return self
        shape = self.spec.input.model_copy(update={"size": size})
        note = f"images are of {size} pixels, as in its run's evaluation (evaluation.size)"
        spec = self.spec.model_copy(update={"input": shape})
        return replace(self, spec=spec, notes=(*self.notes, note))

    def with_crop_told(self) -> Pretrained:
        """Return the weights with a note where a part of their images alone is looked at."""
        crop = self._evaluation.crop
        if crop is None:
            return self
        note = f"of images the central {crop:g} is seen, as in its run's evaluation"
        return replace(self, notes=(*self.notes, f"{note} (evaluation.crop)"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; () where nobody says.

        Published weights with as many classes as ImageNet-1k are of ImageNet-1k. Beside weights of
        a hub their `config.json` may say.
        """
        if self.checkpoint is not None:
            return self.checkpoint.class_names
        if self.entry is not None and self.spec.classes == len(IMAGENET):
            return IMAGENET
        return class_names_beside(self.path, self.spec.classes) if self.has_classifier else ()

    @property
    def data_name(self) -> str:
        """The name of the dataset that they were trained on; "" where nobody says."""
        if self.checkpoint is not None:
            return self.checkpoint.data_name
        return "imagenet" if self.class_names == IMAGENET else ""

    def record(self) -> dict[str, Any]:
        """Return where the weights are from, as plain JSON types."""
        return {
            "source": self.source,
            "file": self.path.name,
            "sha256": self.sha256,
            "published": None if self.entry is None else self.entry.name,
            "scheme": self.scheme.name,
            "network": self.spec.to_dict(),
        }


def load_pretrained(
    source: str | Path,
    *,
    spec: Source | None = None,
    names: str = AUTO,
    settings: Texts = (),
    part: str | None = None,
    download: bool = True,
) -> Pretrained:
    """Return the weights that `source` means: a published name, a file or `hf:OWNER/NAME`.

    spec: the network they must be of; None: the published one, an own checkpoint's own, else
        inferred. names: their naming scheme, or "auto". settings: `key=value` texts, applied last.
    part: which network of a file with several; see `recognise_file`.

    Raises CheckpointError and SpecError as `finding.find` and `converting.load_weights` do.
    """
    found = find(str(source), download=download)
    entry = found.entry
    if entry is not None and spec is None and names in (AUTO, entry.names):
        loaded = load_weights(found.path, entry.spec(), entry.names, settings, part)
    else:
        loaded = load_weights(found.path, spec, names, settings, part)
    return Pretrained(
        source=str(source),
        path=found.path,
        sha256=found.sha256,
        spec=loaded.spec,
        state=loaded.state,
        scheme=scheme(loaded.scheme),
        entry=entry,
        checkpoint=loaded.checkpoint,
        notes=(*found.notes, *loaded.notes),
        open=loaded.open,
        has_classifier=loaded.has_classifier,
    )
