"""The files of an IDX dataset under the names that they have, and whether they belong together."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnet_spec.data.dataset import ArraySplit
from resnet_spec.data.statistics import KNOWN
from resnet_spec.errors import DataError

_TRAILER = 8
_BLOCK = 1 << 20
# Training and test images of each class.
_COUNTS = {
    "mnist": (
        (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    ),
    "fashion_mnist": ((6000,) * 10, (1000,) * 10),
}


def found_idx(folder: Path, file: str) -> list[Path]:
    """Return the files in `folder` that hold IDX file `file`: plain, gzip, and as Kaggle has it.

    Kaggle writes `train-images.idx3-ubyte`, and a folder of the file's name with the file in it.
    """
    names = (file, f"{file}.gz")
    dotted = [name.replace("-idx", ".idx") for name in names]
    places = (*names, *dotted, f"{file}/{file}", f"{dotted[0]}/{dotted[0]}")
    return [folder / place for place in places if (folder / place).is_file()]


def check_same(paths: Sequence[Path]) -> None:
    """Raise DataError where files that should hold the same bytes do not, by length and CRC-32.

    A gzip file ends in both of what it holds, so that it need not be unpacked.
    """
    if len(paths) < 2:
        return
    marks = [_mark(path) for path in paths]
    for path, mark in zip(paths[1:], marks[1:], strict=True):
        if mark != marks[0]:
            raise DataError(f"{path}: does not hold what {paths[0].name} does; remove one of them")


def _mark(path: Path) -> tuple[int, int]:
    """Return the CRC-32 and the length of a file, or of what a gzip file holds."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                start = max(path.stat().st_size - _TRAILER, 0)
                file.seek(start)
                crc, length = struct.unpack("<II", file.read(_TRAILER).rjust(_TRAILER, b"\0"))
                return crc, length
            crc, length = 0, 0
            while block := file.read(_BLOCK):
                crc, length = zlib.crc32(block, crc), length + len(block)
            return crc, length
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def recognised(splits: Sequence[ArraySplit], where: str) -> str | None:
    """Return `mnist` or `fashion_mnist` where the images and labels are those, else None.

    splits: training and test. Raises DataError where the images are the one's and the labels the
    other's, or one split is.
    """
    found: dict[str, str] = {}
    for part, split in enumerate(splits):
        counts = tuple(np.bincount(split.labels, minlength=10).tolist())
        labels = next((name for name, all_ in _COUNTS.items() if all_[part] == counts), None)
        if labels is None:
            continue
        what = ("training", "test")[part]
        found[f"the {what} labels"] = labels
        mean = float(split.pixels.mean(dtype=np.float64)) / 255
        near = {name: abs(mean - KNOWN[name][0][0]) for name in _COUNTS}
        closest = min(near, key=lambda name: near[name])
        if near[closest] < 0.005:
            found[f"the {what} images"] = closest
    if len(set(found.values())) > 1:
        told = ", ".join(f"{what} are {name}'s" for what, name in found.items())
        raise DataError(f"{where}: mixes two datasets: {told}; place the files of one there")
    return next(iter(found.values())) if len(found) == 2 * len(splits) else None
