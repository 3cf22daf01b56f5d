"""NumPy's archives: every header that NumPy writes is read; any other is refused in one line."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import read_weights


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert len(caught.value.problems) == 1 and str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("code", ["f8", "f4", "f2", "i8", "i4", "i2", "u8", "u4", "u2", "?", "i1"])
def test_every_order_and_type_of_numpy_is_read(
    save: Callable[..., None], code: str, tmp_path: Path
) -> None:
    value = np.arange(-3, 21).reshape(2, 3, 4).astype(code)
    big = value.astype(value.dtype.newbyteorder(">"))
    orders = {"big": big, "by_column": np.asfortranarray(value), "both": np.asfortranarray(big)}
    save(tmp_path / "w.npz", plain=value, scalar=big[1, 2, 3], **orders)
    found = read_weights(tmp_path / "w.npz").tensors
    wanted = value.astype(np.float32) if code == "f2" else value
    assert found.pop("scalar") == wanted[1, 2, 3]
    assert list(found) == ["plain", *orders]
    for name, array in found.items():
        assert array.dtype == wanted.dtype and array.dtype.isnative, name
        assert array.tobytes() == wanted.tobytes() and array.flags.writeable, name


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (np.ones(2, np.complex64), "w is a numpy.ndarray of c8, not a plain tensor"),
        (np.array(["a"]), "w is a numpy.ndarray of U1, not a plain tensor"),
        (np.zeros(2, [("a", "f4")]), "w.npy is of a type that no weights have"),
        (np.array([None]), "w.npy is a pickled object; refused"),
    ],
)
def test_other_arrays_are_refused_by_name(value: Any, line: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=value)
    assert refusal(tmp_path / "w.npz").startswith(line)


def _header(text: str, version: int = 1) -> bytes:
    """Return a `.npy` header that says `text`, and 8 bytes of data."""
    raw = text.encode("latin1")
    size = len(raw).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + bytes(8)


def _npz_of(member: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", member)
    return path


@pytest.mark.parametrize(
    ("version", "shape"), [(1, "(2,)"), (2, "(2,)"), (3, "(2,)"), (1, "(2L,)"), (2, "(2L, 1L)")]
)
def test_headers_of_every_version_and_of_python_2_are_read(
    version: int, shape: str, tmp_path: Path
) -> None:
    said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    path = _npz_of(_header(said, version), tmp_path / "w.npz")
    array = read_weights(path).tensors["w"]
    assert array.shape == ((2, 1) if "1L" in shape else (2,))


_SAID = "{{'descr': {0}, 'fortran_order': False, 'shape': {1}, }}".format
_IS_DAMAGED = "its member w.npy is damaged; get it again"


@pytest.mark.parametrize(
    ("member", "line"),
    [
        (_header(_SAID("'<f4'", "(2,)"), 4), _IS_DAMAGED),
        (_header(_SAID("'<f4'", "(2,)"))[:40], _IS_DAMAGED),
        (_header(_SAID("'<f4'", "(2,)").ljust(10_001)), _IS_DAMAGED),
        (_header(_SAID("'<f4'", "__import__('os')")), _IS_DAMAGED),
        (_header(_SAID("'<f4'", f"({'1' * 5000},)")), _IS_DAMAGED),
        (_header("(" * 9_000), _IS_DAMAGED),
        (_header("-" * 9_000 + "1"), _IS_DAMAGED),
        (_header("{[]: 1}"), _IS_DAMAGED),
        (_header("{'\\d': 1}"), _IS_DAMAGED),
        (_header(_SAID("'<f5'", "(2,)")), _IS_DAMAGED),
        (_header(_SAID("'<f4'", "(-2,)")), "w.npy has the impossible shape [-2]; get it again"),
        (_header(_SAID("'<f4'", "(9**9,)")), _IS_DAMAGED),
        (_header(_SAID("'<f4'", f"({2**60},)")), f"w.npy has the impossible shape [{2**60}]"),
        (_header(_SAID("'<f4'", f"({2**40},)")), "w.npy has 8 bytes where its shape"),
        (_header(_SAID("'<f4'", "(3,)")), "w.npy has 8 bytes where its shape [3] takes 12"),
        (_header(_SAID("'|O'", "(1,)")), "w.npy is a pickled object; refused"),
        (_header(_SAID("[('a', '|O')]", "(1,)")), "w.npy is a pickled object; refused"),
        (_header(_SAID("('<f4', (2,))", "(1,)")), "w.npy is of a type that no weights have"),
        (_header(_SAID("'<M8[ns]'", "(1,)")), "w.npy is of a type that no weights have"),
    ],
)
def test_headers_that_no_array_has_are_refused(member: bytes, line: str, tmp_path: Path) -> None:
    assert refusal(_npz_of(member, tmp_path / "w.npz")).startswith(line)


def test_arrays_that_are_not_compressed_are_views_of_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.zeros(100_000))
    tracemalloc.start()
    try:
        assert read_weights(tmp_path / "w.npz").tensors["w"].shape == (100_000,)
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()
