"""Parquet with encoded images: which columns and names are taken, and files that do not fit."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_spec.data import load_data, parquet_file
from resnet_spec.data.cifar_names import CIFAR10
from resnet_spec.data.statistics import channel_statistics
from resnet_spec.errors import DataError

arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq: Any = pytest.importorskip("pyarrow.parquet")

REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


def png(seed: int, width: int = 6, height: int = 6, mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    buffer = BytesIO()
    image.convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


def structs(images: list[bytes], paths: list[str | None] | None = None) -> Any:
    rows = [
        {"bytes": image, "path": path}
        for image, path in zip(images, paths or [None] * len(images), strict=True)
    ]
    return arrow.array(rows, arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))


def write(path: Path, names: list[str] | None = None, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = arrow.table(columns)
    if names is not None:
        label = next(name for name in columns if "label" in name)
        features = {label: {"names": names, "_type": "ClassLabel"}, "img": {"_type": "Image"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=3)


IMAGES = [png(seed) for seed in range(8)]
LABELS = [0, 1, 2, 0, 1, 2, 0, 1]


def write_pair(folder: Path, test: str = "test", names: list[str] | None = None) -> Path:
    write(folder / "train.parquet", names, img=structs(IMAGES), label=LABELS)
    write(folder / f"{test}.parquet", names, img=structs(IMAGES[:3]), label=LABELS[:3])
    return folder


@pytest.mark.parametrize("test", ["test", "validation", "test-00000-of-00001"])
def test_a_folder(tmp_path: Path, test: str) -> None:
    data = load_data(write_pair(tmp_path / "tiny", test))
    assert (data.name, data.size, data.channels) == ("tiny", 6, 3)
    assert data.classes == ("0", "1", "2")
    expected = np.stack([pixels(image) for image in IMAGES])
    assert np.array_equal(data.train.images(np.arange(8)), expected)
    assert data.train.labels.tolist() == LABELS and len(data.test) == 3
    assert (data.mean, data.std) == channel_statistics(expected)


def test_shards_in_a_data_folder_and_errors_in_the_right_one(tmp_path: Path) -> None:
    home = tmp_path / "set" / "data"
    write(home / "train-00000-of-00002.parquet", img=structs(IMAGES[:5]), label=LABELS[:5])
    write(home / "train-00001-of-00002.parquet", img=structs(IMAGES[5:]), label=LABELS[5:])
    write(home / "test-00000-of-00001.parquet", img=structs(IMAGES[:3]), label=LABELS[:3])
    data = load_data(tmp_path / "set")
    expected = np.stack([pixels(image) for image in IMAGES])
    assert np.array_equal(data.train.images(np.arange(8)), expected)
    broken = [*IMAGES[5:7], IMAGES[7][:100]]
    write(home / "train-00001-of-00002.parquet", img=structs(broken), label=LABELS[5:])
    with pytest.raises(DataError, match=r"00001-of-00002.parquet: row 2: is not a whole JPEG"):
        load_data(tmp_path / "set")


def test_a_pair_by_its_training_file(tmp_path: Path) -> None:
    write_pair(tmp_path / "tiny")
    data = load_data(tmp_path / "tiny" / "train.parquet")
    assert (data.name, len(data.train), len(data.test)) == ("tiny", 8, 3)
    with pytest.raises(DataError, match=r"test.parquet: must be the training file, train"):
        load_data(tmp_path / "tiny" / "test.parquet")


def test_names_from_the_metadata(tmp_path: Path) -> None:
    data = load_data(write_pair(tmp_path, names=["ant", "bee", "cat", "dog"]))
    assert data.classes == ("ant", "bee", "cat", "dog")
    write_pair(tmp_path, names=["ant", "bee"])
    with pytest.raises(DataError, match="names 2 classes, and there is a label 2"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["ant", "bee", "cat"], ("ant", "bee", "cat")),
        (["ant", "bee", "bee"], ("0", "1", "2")),
        (["", "bee", "cat"], ("0", "1", "2")),
    ],
)
def test_names_from_the_paths_when_each_class_has_its_folder(
    tmp_path: Path, folders: list[str], expected: tuple[str, ...]
) -> None:
    write_pair(tmp_path)
    paths = [f"{folders[label]}/{i}.png" for i, label in enumerate(LABELS)]
    write(tmp_path / "train.parquet", img=structs(IMAGES, list(paths)), label=LABELS)
    assert load_data(tmp_path).classes == expected


def test_a_binary_column_and_other_columns(tmp_path: Path) -> None:
    rest = {"image": IMAGES, "coarse_label": [5] * 8, "fine_label": LABELS}
    for name in ("train", "test"):
        write(tmp_path / f"{name}.parquet", **rest)
    data = load_data(tmp_path)
    assert data.train.labels.tolist() == LABELS
    assert np.array_equal(data.train.images(np.array([3]))[0], pixels(IMAGES[3]))


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    grey = [png(seed, mode="L") for seed in range(4)]
    for name in ("train", "test"):
        write(tmp_path / f"{name}.parquet", image=structs(grey), label=[0, 1, 0, 1])
    data = load_data(tmp_path)
    assert data.channels == 1 and len(data.mean) == 1
    assert np.array_equal(data.test.images(np.array([2]))[0, :, :, 0], pixels(grey[2]))


def test_large_images_stay_encoded(tmp_path: Path) -> None:
    large = [png(seed, width=90 + seed, height=80) for seed in range(3)]
    for name in ("train", "test"):
        write(tmp_path / f"{name}.parquet", image=structs(large), label=[0, 1, 0])
    assert load_data(tmp_path).size == 224
    data = load_data(tmp_path, size=40)
    assert data.train.images(np.arange(3)).shape == (3, 40, 40, 3)
    assert data.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"img": structs(IMAGES)},
            "no column holds labels by its name or by the metadata; name it label; it has img",
        ),
        ({"label": LABELS}, r"no column holds image bytes; name it image; it has label \(int64\)"),
        (
            {"img": structs(IMAGES), "label": [0.5] * 8},
            "column label is double, and must hold integers or texts",
        ),
        ({"a": IMAGES, "b": IMAGES, "label": LABELS}, "several columns hold image bytes"),
        ({"img": structs(IMAGES), "label": [*LABELS[:7], None]}, "row 7: label = None"),
        ({"img": structs(IMAGES), "label": [0, -1, *LABELS[2:]]}, "row 1: label = -1: must be a"),
        ({"img": [*IMAGES[:4], None, *IMAGES[5:]], "label": LABELS}, "row 4: has no image bytes"),
        (
            {"img": arrow.array([None, *structs(IMAGES[1:]).to_pylist()]), "label": LABELS},
            "row 0: has no image bytes",
        ),
        (
            {"img": structs([*IMAGES[:7], png(0, width=7)]), "label": LABELS},
            "row 7: is 7 x 6 pixels, and the first is 6 x 6",
        ),
        ({"img": structs([]), "label": arrow.array([], arrow.int64())}, "has no rows"),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    write_pair(tmp_path)
    write(tmp_path / "train.parquet", **columns)
    with pytest.raises(DataError, match=rf"train.parquet: {reason}") as caught:
        load_data(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    path = write_pair(tmp_path) / "train.parquet"
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-20], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"train.parquet: is not a whole Parquet file"):
            load_data(tmp_path)


def test_a_folder_without_a_test_file(tmp_path: Path) -> None:
    (write_pair(tmp_path) / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"has train.parquet and no test\*.parquet or validation"):
        load_data(tmp_path)


def test_without_pyarrow_the_install_command_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    write_pair(tmp_path)
    monkeypatch.setattr(parquet_file, "import_module", fail)
    with pytest.raises(DataError, match=r"pip install 'resnet-spec\[parquet\]'"):
        load_data(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real CIFAR-10 Parquet is not at {REAL}")
def test_the_real_cifar10_test_file(tmp_path: Path) -> None:
    """Both splits from the test file, whose reading takes a fifth of the time."""
    for name in ("train", "test"):
        (tmp_path / f"{name}.parquet").symlink_to(REAL / "test.parquet")
    data = load_data(tmp_path)
    assert (data.size, data.channels, len(data.test)) == (32, 3, 10_000)
    assert data.classes == CIFAR10  # From the images' folders.
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    # The JPEG figures differ from those of the original pixels in the third digit.
    assert np.allclose(data.mean, (0.4914, 0.4822, 0.4465), atol=0.01)
    assert np.allclose(data.std, (0.2470, 0.2435, 0.2616), atol=0.01)
