"""Validation images: the dataset's own part, or one of the training images, which a run holds out.

What is held out is drawn once, by class. Which images is a function of the labels and the fraction
alone, the same in every framework, for any number of processes and at any step. The draw has a seed
of its own and not the recipe's: a run with another seed starts from other weights and sees other
batches of the *same* training images. So accuracies of several seeds are of the same validation
images, and weights that go from one run to another have not been trained on images that the other
chooses by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from resnet_spec.data.dataset import Dataset, Images, Places, Split
from resnet_spec.data.draws import Stream, words
from resnet_spec.data.fingerprint import Fingerprint, Identified
from resnet_spec.errors import DataError, check_kind, problem

OPTION = "--validation"
OWN = "own"
"""What stands for the fraction where the images are the dataset's own validation part."""
SEED = 0
"""Of the draw; part of what a fraction means."""
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Which images a run is validated on: their number, and a part of what.

    fraction: that of the training images which was asked for; None: the dataset's own validation
    part. digest: `xxh3-128:` and 32 hex digits, of the places in the training images, in order; of
    an own part that of its labels and content (`fingerprint.SplitPrint`).
    """

    fraction: float | None
    count: int
    digest: str

    @classmethod
    def own(cls, read: Fingerprint) -> HeldOut | None:
        """Return that of a dataset's own validation part; None where it has none.

        read: the dataset's identity, before its labels were mapped to a network's.
        """
        part = read.splits.get("validation")
        return None if part is None else cls(None, part.count, part.digest)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> HeldOut:
        """Return what `to_dict` wrote. Raises DataError for another table."""
        found = fields.get("fraction", 0.0), fields.get("count"), fields.get("digest")
        match found:
            case (float(fraction), int(count), str(digest)) if 0 < fraction < 1 and count > 0:
                return cls(fraction, count, digest)
            case (None, int(count), str(digest)) if count > 0:
                return cls(None, count, digest)
            case _:
                raise DataError("held_out: does not say which images are held out for validation")

    @property
    def told(self) -> float | str:
        """The fraction, or `own`: what records of runs call it."""
        return OWN if self.fraction is None else self.fraction

    @property
    def of_training(self) -> int:
        """How many of the training images are not trained on."""
        return 0 if self.fraction is None else self.count

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Part:
    """Some samples of `whole`, in their order there. places: int64 [n]."""

    whole: Split = field(repr=False)
    places: Places = field(repr=False)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """See `Split.labels`."""
        return self.whole.labels[self.places]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.places)

    def content(self) -> Iterable[bytes | memoryview]:
        """See `fingerprint.Identified`: the whole split's, and which of its samples these are."""
        if isinstance(self.whole, Identified):
            yield from self.whole.content()
        yield np.ascontiguousarray(self.places, "<i8").data

    def images(self, indices: Places) -> Images:
        """See `Split.images`."""
        return self.whole.images(self.places[indices])

    def boxes(self, indices: Places, choices: NDArray[np.float64]) -> Images:
        """See `Split.boxes`."""
        return self.whole.boxes(self.places[indices], choices)


def check_fraction(fraction: object, where: str = OPTION) -> float:
    """Return `fraction` where it is one. Raises DataError."""
    check_kind(DataError, where, fraction, [Real], "must be a number")
    value = float(fraction)  # pyright: ignore[reportArgumentType] (a real number by now)
    if not 0 < value < 1:
        rule = "must be > 0 and < 1: the part of the training images that is held out"
        raise DataError(problem(where, fraction, rule, "leave it out to hold out none"))
    return value


def hold_out(data: Dataset, fraction: float, batch: int) -> tuple[Dataset, HeldOut]:
    """Return `data` with `fraction` of its training images as validation images, and which.

    Of each class the fraction, rounded down, and of as many classes as make up the whole's one
    more: those with the largest remainder. A class keeps an image to train on; one of which none is
    held out is told in the notes. Images without a label (below 0) are trained on or not as ever.

    Raises DataError where no image can be held out, and where less than a batch is left.
    """
    fraction = check_fraction(fraction)
    labels = data.train.labels
    places = _drawn(labels, fraction)
    if not len(places):
        rule = f"holds out none of {len(labels)} training images"
        raise DataError(problem(OPTION, fraction, rule, "raise it, or leave it out"))
    left = len(labels) - len(places)
    if left < batch <= len(labels):
        rule = f"leaves {left} of {len(labels)} training images, fewer than batch = {batch}"
        raise DataError(problem(OPTION, fraction, rule, "lower it, or the batch"))
    kept = np.setdiff1d(np.arange(len(labels), dtype=np.int64), places, assume_unique=True)
    digest = xxhash.xxh3_128(places.astype("<i8").tobytes()).hexdigest()
    found = HeldOut(fraction, len(places), f"xxh3-128:{digest}")
    parted = replace(
        data,
        train=Part(data.train, kept),
        validation=Part(data.train, places),
        notes=(*data.notes, *_note(data, labels[places], labels[kept])),
    )
    return parted, found


def _drawn(labels: NDArray[np.int64], fraction: float) -> Places:
    """Return the places that are held out, rising."""
    exact = Fraction(repr(fraction))  # 0.1 is a tenth: 30 images give 3, not 3.0000000000000004.
    drawn = words(SEED, 0, Stream.HELD_OUT, len(labels))
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
    ranked = [members[drawn[members].argsort(kind="stable")] for members in classes]
    counts = [int(exact * len(members)) for members in ranked]
    more = int(exact * sum(map(len, ranked)) + Fraction(1, 2)) - sum(counts)
    # Equal remainders go by the draw, so that it does not matter which number a class has.
    order = sorted(
        (
            (counts[i] - exact * len(members), int(drawn[members[counts[i]]]), i)
            for i, members in enumerate(ranked)
            if counts[i] + 1 < len(members) and counts[i] != exact * len(members)
        )
    )
    for _, _, i in order[: max(more, 0)]:
        counts[i] += 1
    chosen = [members[:count] for members, count in zip(ranked, counts, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen])).astype(np.int64)


def _note(data: Dataset, held: NDArray[np.int64], kept: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a note on the classes that validation does not see; () where it sees all."""
    without: list[int] = np.setdiff1d(np.unique(kept[kept >= 0]), held).tolist()
    unseen = [data.classes[i] for i in without]
    if not unseen:
        return ()
    few = ", ".join(unseen[:_MOST_NAMED])
    more = f" and {len(unseen) - _MOST_NAMED} more" if len(unseen) > _MOST_NAMED else ""
    has = "have" if len(unseen) > 1 else "has"
    return (f"{few}{more} {has} too few images for one to be held out for validation",)
