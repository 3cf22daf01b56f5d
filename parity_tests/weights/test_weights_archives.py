"""Weights in zip archives: packed again by other tools they read the same, damaged ones do not."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import read_weights, write_weights

VALUES: dict[str, Any] = {
    "conv1.kernel": np.arange(360, dtype=np.float32).reshape(3, 3, 4, 10),
    "fc.kernel": np.linspace(-1, 1, 40).reshape(10, 4),
    "fc.bias": np.zeros(0, np.float32),
}
KINDS = pytest.mark.parametrize("kind", ["torch", "npz"])


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(folder: Path, kind: str) -> Path:
    path = folder / f"w.{kind}"
    write_weights(path, VALUES, kind)
    return path


def packed(path: Path, content: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def assert_read(path: Path) -> None:
    found = read_weights(path).tensors
    assert found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        assert found[name].tobytes() == value.tobytes(), name
        assert found[name].flags.writeable


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert len(caught.value.problems) == 1 and str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


@KINDS
def test_deflated_members_are_read(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, kind)
    size = path.stat().st_size
    assert_read(packed(path, members(path), zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < size


@KINDS
def test_members_of_a_stream_are_read(kind: str, tmp_path: Path) -> None:
    """A writer that cannot go back puts sizes and CRC behind the member."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            self.data += bytes(data)
            return len(data)

    content = members(written(tmp_path, kind))
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    (tmp_path / "piped").write_bytes(bytes(pipe.data))
    assert_read(tmp_path / "piped")


@KINDS
def test_folders_and_notes_of_other_tools_are_passed_over(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, kind)
    content = members(path)
    folders = {f"{name.rpartition('/')[0]}/": b"" for name in content if "/" in name}
    mac = {f"__MACOSX/._{name}": b"Mac OS X" for name in content}
    assert_read(packed(path, {"empty/": b"", **folders, **mac, **content}))


def test_a_member_without_a_name_is_no_crash(tmp_path: Path) -> None:
    path = packed(tmp_path / "w", {**members(written(tmp_path, "torch")), "q": b"x"})
    whole = bytearray(path.read_bytes())
    for header, name in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        at = whole.rindex(header) + name
        assert whole[at] == 1
        whole[at], whole[at + 2] = 0, 1  # The name's one byte is an extra field then.
    path.write_bytes(bytes(whole))
    assert_read(path)


@KINDS
def test_an_archive_behind_other_bytes_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, kind)
    whole = path.read_bytes()
    path.write_bytes(b"#!/bin/sh\n" + whole)
    assert refusal(path).startswith("is no weight file of a known kind")
    path.write_bytes(whole + whole)
    assert_read(path)


@KINDS
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_one_bit_in_any_member_that_is_read_is_seen(kind: str, method: int, tmp_path: Path) -> None:
    path = written(tmp_path, kind)
    packed(path, members(path), method)
    whole = path.read_bytes()
    seen = 0
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for entry in entries:
        if entry.filename.endswith("version") or not entry.file_size:
            continue
        begin = entry.header_offset + 30 + whole[entry.header_offset + 28]
        begin += 256 * whole[entry.header_offset + 29] + len(entry.filename)
        at = begin + entry.compress_size - 3
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(bytes(damaged))
        line = refusal(path)
        assert entry.filename in line or "pickle" in line
        seen += 1
    assert seen >= len(VALUES) - 1


def test_the_last_bit_of_a_weight_is_seen(tmp_path: Path) -> None:
    path = written(tmp_path, "torch")
    whole = bytearray(path.read_bytes())
    at = whole.index(VALUES["fc.kernel"].tobytes())
    whole[at] ^= 1
    path.write_bytes(bytes(whole))
    assert refusal(path) == (
        "its member archive/data/1 does not have the CRC that the archive names; "
        "the file is damaged; get it again"
    )


def test_archives_that_torch_wrote_without_crcs_are_read(tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({n: torch.from_numpy(v) for n, v in VALUES.items()}, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_read(tmp_path / "w.pth")


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "npz")
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(path, "a") as archive,
    ):
        archive.writestr("fc.bias.npy", b"")
    assert refusal(path) == "has two members fc.bias.npy; get it again"


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "npz")
    whole = bytearray(path.read_bytes())
    whole[whole.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(whole))
    assert refusal(path).endswith(".npy is encrypted; unpack it first")


def test_several_files_of_torch_in_one_archive_are_refused(tmp_path: Path) -> None:
    content = members(written(tmp_path, "torch"))
    twice = {**content, **{f"b/{name}": data for name, data in content.items()}}
    path = packed(tmp_path / "both.zip", twice)
    assert refusal(path) == "holds several files of torch; unpack it, and name one"


def test_a_damaged_configuration_of_keras_is_seen(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    write_weights(tmp_path / "w", {"fc.kernel": np.ones((2, 3), np.float32)}, "keras-weights")
    layer = {"class_name": "Dense", "config": {"name": "fc", "use_bias": False}}
    text = json.dumps({"config": {"layers": [layer]}}).encode()
    content = {"config.json": text, "model.weights.h5": (tmp_path / "w").read_bytes()}
    path = packed(tmp_path / "w.keras", content)
    assert list(read_weights(path).tensors) == ["fc.kernel"]
    path.write_bytes(path.read_bytes().replace(b'"fc"', b'"fd"', 1))
    assert refusal(path).startswith("its member config.json does not have the CRC")
