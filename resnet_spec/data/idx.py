"""MNIST, Fashion-MNIST and their like: the IDX format (LeCun), plain or gzip."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.archives import read_file, read_gzip
from resnet_spec.data.classes import absent_notes
from resnet_spec.data.dataset import ArraySplit, Dataset
from resnet_spec.data.download import Remote, obtain
from resnet_spec.data.idx_files import check_same, found_idx, recognised
from resnet_spec.data.statistics import KNOWN, channel_statistics
from resnet_spec.errors import DataError

_MOST_BYTES = 1 << 30
_UINT8 = 0x08
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_FASHION = "T-shirt/top|Trouser|Pullover|Dress|Coat|Sandal|Shirt|Sneaker|Bag|Ankle boot"

CLASSES = {"mnist": tuple("0123456789"), "fashion_mnist": tuple(_FASHION.split("|"))}
_TORCHVISION = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}
# MNIST's first home page serves it no longer; this is the copy that torchvision reads. For
# Fashion-MNIST it is the authors' repository.
_BASE = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion_mnist": "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/"
    "data/fashion/",
}
_SIZES_AND_DIGESTS = {
    "mnist": (
        (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion_mnist": (
        (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
}


def load_mnist(name: str, size: int | None, root: Path, download: bool) -> Dataset:
    """Return `mnist` or `fashion_mnist` from `root`; downloads into `root / name` when absent."""
    places = (root / name, root / _TORCHVISION[name], root)
    found = next((place for place in places if _holds(place)), None)
    if found is None:
        remotes = [
            Remote(f"{file}.gz", _BASE[name], length, digest)
            for file, (length, digest) in zip(_FILES, _SIZES_AND_DIGESTS[name], strict=True)
        ]
        found = root / name
        obtain(name, remotes, found, download)
    return _dataset(found, size, name, CLASSES[name])


def is_idx(path: Path) -> bool:
    """Whether `path` has an IDX dataset: in it, in `raw/`, or where torchvision has it."""
    return bool(_homes(path))


def read_idx_folder(path: Path, size: int | None) -> Dataset:
    """Return the IDX dataset in folder `path`, its classes named "0", "1", ...

    Fashion-MNIST is known by its pixels and labels, and its classes have their names.
    """
    homes = _homes(path)
    if len(homes) > 1:
        found = " and ".join(str(home.relative_to(path)) for home in homes)
        raise DataError(f"{path}: holds {found}; give the path of one of them")
    home = homes[0].resolve()
    name = home.parent.name if home.name == "raw" else home.name
    return _dataset(homes[0], size, name, ())


def _holds(path: Path) -> bool:
    return any(found_idx(path, file) for file in _FILES)


def _homes(path: Path) -> list[Path]:
    """Return the folders at or in `path` that hold IDX files."""
    if _holds(path):
        return [path]
    inner = ("raw", *_TORCHVISION.values(), "KMNIST/raw")
    return [path / name for name in inner if _holds(path / name)]


def _dataset(path: Path, size: int | None, name: str, classes: tuple[str, ...]) -> Dataset:
    arrays = [_read(path, file) for file in _FILES]
    splits: list[ArraySplit] = []
    for images, labels, file in zip(arrays[::2], arrays[1::2], _FILES[::2], strict=True):
        if len(images) != len(labels):
            raise DataError(f"{path}: {file} has {len(images)} images and {len(labels)} labels")
        if images.shape[1] != images.shape[2] or not images.size:
            raise DataError(f"{path}: {file} holds images of {images.shape[1:]}; must be square")
        splits.append(ArraySplit(images[..., None], labels.astype(np.int64), images.shape[1]))
    if splits[0].size != splits[1].size:
        sizes = " and ".join(f"{split.size} x {split.size}" for split in splits)
        raise DataError(f"{path}: has training and test images of {sizes} pixels; of two datasets")
    by_name = bool(classes)
    known = recognised(splits, str(path))
    if by_name and known not in (None, name):
        raise DataError(f"{path}: holds {known}, not {name}; place {name}'s files there")
    notes: tuple[str, ...] = ()
    if known == "fashion_mnist" and not by_name:
        classes = CLASSES[known]
        notes = ("this is Fashion-MNIST, by its pixels and labels: its classes have their names",)
    highest = max(int(split.labels.max()) for split in splits)
    classes = classes or tuple(str(i) for i in range(highest + 1))
    if highest >= len(classes):
        raise DataError(f"{path}: label = {highest}: must be 0..{len(classes) - 1} in {name}")
    size = size or splits[0].size
    mean, std = KNOWN[name] if by_name else channel_statistics(splits[0].pixels)
    train, test = (ArraySplit(split.pixels, split.labels, size) for split in splits)
    absent = absent_notes(classes, train.labels, test.labels)
    return Dataset(name, classes, size, 1, mean, std, train, test, (*notes, *absent))


def _read(folder: Path, file: str) -> NDArray[np.uint8]:
    found = found_idx(folder, file)
    if not found:
        raise DataError(f"{folder}: lacks {file}.gz; place it there")
    check_same(found)
    path = found[0]
    data = (read_gzip if path.suffix == ".gz" else read_file)(path, _MOST_BYTES)
    return parse_idx(data, 3 if "images" in file else 1, str(path))


def parse_idx(data: bytes, dimensions: int, where: str) -> NDArray[np.uint8]:
    """Return the uint8 array of an IDX file. Raises DataError unless its length is exact."""
    start = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, _UINT8, dimensions)) or len(data) < start:
        raise DataError(f"{where}: is not an IDX file of bytes with {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{where}: has {len(data) - start} bytes after its header, which says {shape}; "
            "get it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
