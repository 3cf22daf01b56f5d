"""Types and layouts of the other kinds: read as the kind's own library reads them, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import read_weights, write_weights

VALUE = np.arange(1, 7).reshape(2, 3) / 8


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert len(caught.value.problems) == 1 and str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


# HDF5


def created(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return a maker of a dataset whose values are written through the library's own types."""

    def write(group: Any) -> None:
        import h5py

        h5: Any = h5py
        kind, value = make(h5)
        space = h5.h5s.create_simple(value.shape)
        data = h5.h5d.create(group.id, b"kernel:0", kind, space)
        data.write(h5.h5s.ALL, h5.h5s.ALL, value)

    return write


def another_bias(h5: Any) -> tuple[Any, Any]:
    """A float whose exponent counts from elsewhere than NumPy's does."""
    kind = h5.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    return kind, VALUE.astype(np.float32)


def bits_in_the_middle(h5: Any) -> tuple[Any, Any]:
    """An integer of 16 bits in the middle of 32."""
    kind = h5.h5t.STD_I32LE.copy()
    kind.set_precision(16)
    kind.set_offset(8)
    return kind, (8 * VALUE).astype(np.int32)


def data(value: Any, **options: Any) -> Callable[[Any], None]:
    return lambda group: group.create_dataset("kernel:0", data=value, **options)


HDF5 = {
    "single": data(VALUE.astype(np.float32)),
    "big_endian": data(VALUE.astype(">f4")),
    "half": data(VALUE.astype(np.float16)),
    "flags": data(VALUE > 0.4),
    "chunked": data(VALUE, chunks=(1, 2)),
    "packed": data(VALUE, compression="gzip", shuffle=True, fletcher32=True),
    "lzf": data(VALUE.astype(">f8"), compression="lzf"),
    "scaled": data((8 * VALUE).astype(np.int32), scaleoffset=0, chunks=True),
    "another_bias": created(another_bias),
    "bits_in_the_middle": created(bits_in_the_middle),
}


def keras_2(path: Path, write: Callable[[Any], None]) -> Path:
    h5: Any = pytest.importorskip("h5py")
    with h5.File(path, "w") as file:
        file.attrs["layer_names"] = [b"fc"]
        group = file.create_group("fc")
        group.attrs["weight_names"] = [b"fc/kernel:0"]
        write(group.create_group("fc"))
    return path


@pytest.mark.parametrize("name", HDF5)
def test_datasets_are_read_as_their_library_reads_them(name: str, tmp_path: Path) -> None:
    path = keras_2(tmp_path / "w.h5", HDF5[name])
    h5: Any = pytest.importorskip("h5py")
    with h5.File(path) as file:
        expected = file["fc/fc/kernel:0"][()]
    found = read_weights(path).tensors["fc.kernel"]
    wide = expected.astype(np.float32) if expected.dtype == np.float16 else expected
    assert found.dtype == wide.dtype.newbyteorder("=") and found.dtype.isnative
    assert np.array_equal(found, wide)
    scale = 8 if wide.dtype.kind == "i" else 1
    assert np.array_equal(found, scale * VALUE if wide.dtype.kind != "b" else VALUE > 0.4)


def external(group: Any) -> None:
    group.create_dataset("kernel:0", (2, 3), "f4", external=[("elsewhere.bin", 0, 24)])


def virtual(group: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout(shape=(2, 3), dtype="f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", shape=(2, 3))
    group.create_virtual_dataset("kernel:0", layout)


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (external, "has the data of fc/fc/kernel:0 in another file; refused"),
        (virtual, "has the data of fc/fc/kernel:0 in another file; refused"),
        (data(VALUE.astype(np.complex64)), "fc.kernel is a numpy.ndarray of c8"),
        (data([b"text"]), "fc.kernel is a numpy.ndarray of O"),
    ],
)
def test_other_datasets_are_refused(
    write: Callable[[Any], None], line: str, tmp_path: Path
) -> None:
    assert refusal(keras_2(tmp_path / "w.h5", write)).startswith(line)


def test_a_checksum_of_hdf5_is_checked(tmp_path: Path) -> None:
    path = keras_2(tmp_path / "w.h5", data(VALUE, chunks=(2, 3), fletcher32=True))
    whole = bytearray(path.read_bytes())
    at = whole.index(VALUE.tobytes())
    whole[at + 7] ^= 1
    path.write_bytes(bytes(whole))
    assert refusal(path) == "is truncated or a damaged HDF5 file; get it again"


# safetensors


def safetensors(path: Path, places: list[tuple[int, int]], size: int, dtype: str = "F32") -> Path:
    entries = {
        f"w{n}": {"dtype": dtype, "shape": [(end - begin) // 4], "data_offsets": [begin, end]}
        for n, (begin, end) in enumerate(places)
    }
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    return path


@pytest.mark.parametrize(
    ("places", "size", "line"),
    [
        ([(0, 8), (4, 12)], 12, "has another tensor in the bytes of w1"),
        ([(0, 8), (0, 8)], 8, "has another tensor in the bytes of w1"),
        ([(0, 8), (12, 16)], 16, "leaves a gap before w1"),
        ([(4, 8)], 8, "leaves a gap before w0"),
        ([(0, 8)], 12, "goes on for 4 bytes behind its tensors"),
    ],
)
def test_places_that_the_format_forbids_are_refused(
    places: list[tuple[int, int]], size: int, line: str, tmp_path: Path
) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = safetensors(tmp_path / "w.safetensors", places, size)
    with pytest.raises(SafetensorError):
        load_file(path)
    assert refusal(path) == f"{line}; the file is damaged; get it again"
    assert list(read_weights(safetensors(path, [(4, 8), (0, 4), (8, 8)], 8)).tensors) == [
        *("w0", "w1", "w2")
    ]


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "C64", "F4", "E8M0"])
def test_types_that_no_weights_have_are_refused(dtype: str, tmp_path: Path) -> None:
    path = safetensors(tmp_path / "w", [(0, 8)], 8, dtype)
    assert refusal(path) == f"w0 is of the type {dtype}; save it as float32 first"


# Flax


def test_what_flax_writes_is_read_as_flax_reads_it(tmp_path: Path) -> None:
    serialization: Any = pytest.importorskip("flax.serialization")
    numpy: Any = pytest.importorskip("jax.numpy")
    tree = {
        "brain": numpy.linspace(-3, 3, 7).astype(numpy.bfloat16),
        "half": np.linspace(-3, 3, 7).astype(np.float16),
        "by_column": np.asfortranarray(VALUE),
        "part": VALUE[:, ::2],
        "scalar": np.float32(2.5),
        "wide": np.arange(3, dtype=np.uint64),
    }
    path = tmp_path / "w.msgpack"
    path.write_bytes(serialization.msgpack_serialize(tree))
    expected = serialization.msgpack_restore(path.read_bytes())
    found = read_weights(path).tensors
    assert found.keys() == tree.keys()
    for name, value in expected.items():
        wide = np.asarray(value, np.float32) if name in ("brain", "half") else np.asarray(value)
        assert found[name].tobytes() == wide.tobytes(), name
    path.write_bytes(path.read_bytes().replace(b"bfloat16", b"complex6"))
    assert refusal(path).startswith("brain is a numpy.ndarray of complex6")


def test_a_key_of_msgpack_twice_is_refused(tmp_path: Path) -> None:
    msgpack: Any = pytest.importorskip("msgpack")
    part = msgpack.packb("w") + msgpack.packb(
        msgpack.ExtType(1, msgpack.packb(((1,), "float32", bytes(4))))
    )
    (tmp_path / "w").write_bytes(b"\x81" + part)
    assert list(read_weights(tmp_path / "w").tensors) == ["w"]
    (tmp_path / "w").write_bytes(b"\x82" + part + part)
    assert refusal(tmp_path / "w") == "is truncated or damaged; get it again"


# MindSpore


def test_encrypted_files_of_mindspore_are_called_that(tmp_path: Path) -> None:
    mindspore: Any = pytest.importorskip("mindspore")
    values = [{"name": "w", "data": mindspore.Tensor(VALUE.astype(np.float32))}]
    for mode in ("AES-GCM", "AES-CBC", "SM4-CBC"):
        path = tmp_path / f"{mode}.ckpt"
        mindspore.save_checkpoint(values, str(path), enc_key=b"0123456789abcdef", enc_mode=mode)
        assert refusal(path) == "is encrypted by MindSpore; save it without enc_key"
    path = tmp_path / "checked.ckpt"
    mindspore.save_checkpoint(values, str(path), crc_check=True, append_dict={"epoch": 3})
    assert np.array_equal(read_weights(path).tensors["w"], VALUE.astype(np.float32))
    whole = bytearray(path.read_bytes())
    whole[whole.index(VALUE.astype(np.float32).tobytes()) + 1] ^= 1
    path.write_bytes(bytes(whole))
    assert refusal(path) == "does not have the CRC that it names; get it again"


# What is no weight file


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'\xef\xbb\xbf\n {"a": 1}', "is JSON, no weights; name the weight file beside it"),
        (b'{"architectures": ["ResNet"]}', "is JSON, no weights"),
        (b"\n  <html>Not found</html>", "is a web page or XML; download the file itself"),
        (b"\x93NUMPY\x01\x00" + bytes(60), "is one array of NumPy without a name"),
        (bytes(4) + b"TFL3" + bytes(40), "is a model of TensorFlow Lite"),
        (b"\x00abc" + (0xDB4775248B80FB57).to_bytes(8, "little"), "is a checkpoint of TensorFlow"),
        (b"7z\xbc\xaf\x27\x1c\x00", "is a 7z archive; unpack it first"),
        (b"Rar!\x1a\x07", "is a RAR archive; unpack it first"),
    ],
)
def test_other_files_are_called_what_they_are(content: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    assert refusal(tmp_path / "w").startswith(line)


def test_an_archive_of_a_folder_is_called_that(tmp_path: Path) -> None:
    import zipfile

    write_weights(tmp_path / "w.npz", {"w": VALUE})
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.write(tmp_path / "w.npz", "run/w.npz")
    assert refusal(tmp_path / "w.zip") == (
        "is a zip archive without weights of a known kind; unpack it first"
    )
