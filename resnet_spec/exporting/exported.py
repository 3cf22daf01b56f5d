"""What an export came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resnet_spec.folding import Folded
from resnet_spec.parity.limits import LIMITS
from resnet_spec.printing.cards import Card, Shown

LIMIT = LIMITS["logits"].multiples
"""How many noise floors a logit may be off, as in a parity report."""


@dataclass(frozen=True, repr=False)
class Exported(Shown):
    """What was written and how it was checked.

    about: the format's version. batches: how many images at a time it was run on. multiples: the
    largest error of a logit, in noise floors. size: of the file, in bytes. folded: which norms are
    in convolutions; None where that was not asked for.
    """

    path: Path
    format: str
    about: str
    batches: tuple[int, ...]
    multiples: float
    size: int
    folded: Folded | None

    @property
    def is_kept(self) -> bool:
        """Whether the error is rounding; otherwise there is no file."""
        return self.multiples <= LIMIT

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [
            ("format", f"{self.format}, {self.about}"),
            ("size", _size(self.size)),
            ("batches", ", ".join(map(str, self.batches))),
            ("logits", f"{self.multiples:.3g} noise floors from the reference"),
            ("folded norms", None if self.folded is None else len(self.folded.folded)),
        ]
        return Card(f"{self.path}: {'kept' if self.is_kept else 'not kept'}", rows)

    @property
    def line(self) -> str:
        """What was written and how far from the reference it is."""
        *some, last = map(str, self.batches)
        images = f"batches of {', '.join(some)} and {last}" if some else f"batches of {last}"
        start = f"{self.path}: {self.format}, {self.about}, {_size(self.size)}, {images}"
        if self.is_kept:
            rule = f"within {max(self.multiples, 0.1):.1f} noise floors of the reference"
            return f"{start}: logits {rule}"
        rule = f"{self.multiples:.3g} noise floors from the reference"
        return f"{start}: logits {rule}, and {LIMIT:g} is the limit; no file is kept"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} kB"
