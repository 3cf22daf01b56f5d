"""What is drawn for a sample in an epoch, and a batch of images after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnet_spec.data.augmenting.choices import Choice
from resnet_spec.data.augmenting.erasing import DRAWS as ERASE_DRAWS
from resnet_spec.data.augmenting.erasing import erased_box
from resnet_spec.data.augmenting.jitter import DRAWS as JITTER_DRAWS
from resnet_spec.data.augmenting.jitter import jittered
from resnet_spec.data.augmenting.operations import Fill, applied
from resnet_spec.data.augmenting.policies import FILLED_WITH_MEAN, MOST_DRAWS, chosen
from resnet_spec.data.boxes import Box
from resnet_spec.data.dataset import Images, Places
from resnet_spec.data.draws import Stream, uniforms, words
from resnet_spec.data.encoded import cores, in_threads
from resnet_spec.data.views import SMALL, image_of, pixels_of
from resnet_spec.describing.image_changes import ImageChanges
from resnet_spec.errors import DataError, problem


def choices_of(
    changes: ImageChanges, seed: int, epoch: int, sample: int, size: int
) -> tuple[Choice, ...]:
    """Return what policy and jitter do to a sample, of images `size` pixels wide, in an epoch.

    sample: its place in the split; of a copy of it, see `draws.COPY`.
    """
    found: tuple[Choice, ...] = ()
    if changes.policy != "none":
        drawn = _drawn(Stream.POLICY, MOST_DRAWS, seed, epoch, sample)
        found += chosen(changes, drawn, size)
    if changes.jitters:
        found += jittered(changes, _drawn(Stream.JITTER, JITTER_DRAWS, seed, epoch, sample))
    return found


def box_of(changes: ImageChanges, seed: int, epoch: int, sample: int, size: int) -> Box | None:
    """Return the box that is erased of a sample in an epoch; None: none is."""
    if not changes.erase:
        return None
    drawn = _drawn(Stream.ERASE, ERASE_DRAWS, seed, epoch, sample)
    return erased_box(size, size, changes.erase, drawn)


def _drawn(stream: Stream, count: int, seed: int, epoch: int, sample: int) -> list[float]:
    return uniforms(words(seed, epoch, stream, count, place=sample)).tolist()


def changed(
    images: Images,
    places: Places,
    changes: ImageChanges,
    seed: int,
    epoch: int,
    mean: Sequence[float] = (),
) -> Images:
    """Return images, uint8 [N, size, size, C], after policy, jitter and erasing.

    places: of the samples in their split, or of copies of them, which all is drawn by. mean: per
    channel, in 0..1, what is 0 to the network; needed where `changes` fills with it. Raises
    DataError where it is, and is not given, and for images of other than 1 or 3 channels where the
    changes are defined for those alone.
    """
    if not changes.needs_colours and not changes.erase:
        return images
    size, channels = images.shape[2:]
    check_channels(changes, channels)
    colour = _mean_colour(changes, mean, channels)
    outside = colour if changes.policy in FILLED_WITH_MEAN else (0,) * channels
    result = images.copy()

    def change(row: int) -> None:
        sample = int(places[row])
        choices = choices_of(changes, seed, epoch, sample, size)
        if choices:
            result[row] = pixels_of(applied(image_of(images[row]), choices, outside))
        box = box_of(changes, seed, epoch, sample, size)
        if box is not None:
            top, left, height, width = box
            result[row, top : top + height, left : left + width] = colour

    def change_all(rows: Places) -> None:
        for row in rows.tolist():
            change(row)

    # Small images, and boxes, are changed sooner than they are handed to a thread; so are pieces
    # of a batch that are single images.
    workers = cores() if changes.needs_colours and size > SMALL else 1
    in_threads(change_all, np.array_split(np.arange(len(images)), 4 * workers), workers)
    return result


def check_channels(changes: ImageChanges, channels: int) -> None:
    """Raise DataError unless what `changes` does is defined for images of so many channels."""
    if changes.needs_colours and channels not in (1, 3):
        what = "policy" if changes.policy != "none" else "brightness, contrast, saturation or hue"
        rule = f"must be 1 or 3 for augment.{what}"
        raise DataError(problem("channels", channels, rule, "leave that out, or convert the data"))


def _mean_colour(changes: ImageChanges, mean: Sequence[float], channels: int) -> Fill:
    """Return the uint8 colour that is nearest to 0 in the network, halves to even."""
    if not changes.erase and changes.policy not in FILLED_WITH_MEAN:
        return (0,) * channels
    if len(mean) != channels:
        rule = f"must be one number for each of {channels} channels, to fill with"
        raise DataError(problem("mean", list(mean), rule, "give plan.input.mean"))
    return tuple(int(np.clip(round(255 * value), 0, 255)) for value in mean)
