"""Bad weight files: one line that says what and what to do, in bounded time and memory."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.errors import CheckpointError
from resnet_spec.weights import KINDS, read_weights, write_weights

ROOT = Path(__file__).parents[2]
WRITTEN = [name for name in KINDS if name not in ("keras", "orbax")]
VALUES = {"conv1.kernel": np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2)}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert len(caught.value.problems) == 1 and str(caught.value).isprintable()
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_truncated_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_weights(path, VALUES, kind)
    whole = path.read_bytes()
    for size in {1, 9, 20, len(whole) // 2, len(whole) - 1}:
        assert refusal(written(path, whole[:size])), size


def test_what_is_no_weight_file_is_named(tmp_path: Path) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../up"))
    for content, line in [
        (b"", "is empty; get it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, not the file"),
        (b"<!DOCTYPE html><html>", "is a web page or XML; download the file itself"),
        (b"\x1f\x8b\x08" + bytes(20), "is compressed with gzip; unpack it first"),
        (tar.getvalue(), "is a tar archive; unpack it first"),
        (b"\x80\x04K\x01.", "is a bare pickle; save it with torch.save or as safetensors"),
        (b"PK\x05\x06" + bytes(18), "is an empty or damaged zip archive; get it again"),
        (b"hello", "is no weight file of a known kind; known: torch, "),
        (b"\x07\x01hello", "is no weight file of a known kind; known: torch, "),
        (b"\x0a\x03\x0a\x01a", "holds no tensors; name a file with weights"),
    ]:
        assert refusal(written(tmp_path / "w", content)).startswith(line), content


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent") == "does not exist; check the path"
    assert refusal(tmp_path) == "is a folder without weights; name a weight file"
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "symbolic links" in refusal(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "is no regular file; name a weight file"
    assert refusal(Path("/dev/zero")) == "is no regular file; name a weight file"


def zipped(path: Path, members: Mapping[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(value: Any) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, value)
    return out.getvalue()


def test_archives_that_leave_their_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../up.npy", "/up.npy", "a/../../up.npy", "a\\..\\..\\up.npy"):
        path = zipped(tmp_path / "w.npz", {name: npy(np.zeros(1))})
        assert refusal(path).startswith("has a member outside its folder, "), name


def test_a_zip_without_weights_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "w.zip", {"readme.txt": b"x"})
    assert refusal(path).startswith("is a zip archive without weights of a known kind")
    deflated = {"config.json": b"{}", "model.weights.h5": b"\x89HDF" * 9}
    assert refusal(zipped(tmp_path / "w.keras", deflated, zipfile.ZIP_DEFLATED)) == (
        "its member model.weights.h5 is compressed; pack it again without compression"
    )
    strange = zipped(tmp_path / "w.npz", {"w.npy": npy(np.zeros(1))}, zipfile.ZIP_BZIP2)
    assert refusal(strange).startswith("its member w.npy is compressed in a way that is not read")


def peak(path: Path) -> int:
    """Return how much memory reading took at most, the map of the file apart."""
    tracemalloc.start()
    try:
        refusal(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_takes_no_memory(tmp_path: Path) -> None:
    size = 200 << 20
    path = tmp_path / "w.npz"
    header = {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)}
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("w.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < size // 900
    assert "asks for more than" in refusal(path)
    assert peak(path) < 8 << 20


def test_a_member_s_declared_size_is_not_believed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "w.npz", {"w.npy": npy(np.zeros(100))}, zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    raw[central + 24 : central + 28] = (2**31).to_bytes(4, "little")
    assert refusal(written(path, bytes(raw))) == "its member w.npy is damaged; get it again"
    raw[central + 24 : central + 28] = (60_000).to_bytes(4, "little")
    assert refusal(written(path, bytes(raw))) == "its member w.npy is damaged; get it again"


def test_a_pickled_array_of_numpy_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.array([print], dtype=object))
    assert refusal(tmp_path / "w.npz") == "w.npy is a pickled object; refused; save arrays alone"


def safetensors(header: str, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + body


def test_headers_of_safetensors_are_checked(tmp_path: Path) -> None:
    def entry(dtype: str = "F32", shape: str = "[1]", offsets: str = "[0,4]") -> str:
        return f'{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}'

    two = entry()[:-1] + "," + entry()[1:]
    for header, line in [
        (entry(offsets="[0,8]"), "ends before w does; it is cut short"),
        (entry(offsets="[2,1]"), "describes w wrongly"),
        (entry(offsets="[-4,0]"), "describes w wrongly"),
        (entry(offsets="[0]"), "describes w wrongly"),
        (entry(shape="[2]"), "w has 4 bytes where its shape [2] takes 8"),
        (entry(shape="[-1]"), "w has the impossible shape [-1]"),
        (entry(shape="[1e9]"), "describes w wrongly"),
        (entry(shape=f"[{2**62}]"), "w has the impossible shape"),
        (entry(dtype="F8_E4M3"), "w is of the type F8_E4M3; save it as float32 first"),
        (two, "has a damaged safetensors header"),
        ("{" * 100_000, "has a damaged safetensors header"),
    ]:
        assert refusal(written(tmp_path / "w", safetensors(header, bytes(4)))).startswith(line)
    # How deep JSON may be is the interpreter's affair; deeper is damaged, and less deep is wrong.
    deep = safetensors('{"a":' * 5000 + "1" + "}" * 5000, bytes(4))
    assert refusal(written(tmp_path / "w", deep)).startswith(
        ("has a damaged", "describes a wrongly")
    )


def test_a_crc_of_mindspore_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    write_weights(path, VALUES)
    whole = path.read_bytes()
    sound = whole + b"crc_num" + zlib.crc32(whole).to_bytes(10, "big")
    assert read_weights(written(path, sound)).tensors.keys() == VALUES.keys()
    damaged = whole[:-1] + b"\x01" + sound[len(whole) :]
    assert refusal(written(path, damaged)) == "does not have the CRC that it names; get it again"


def test_lists_of_msgpack_reserve_no_memory(tmp_path: Path) -> None:
    pytest.importorskip("msgpack")
    nested = b"\x81\xa1a" + b"\xdd\x00\x0f\xff\xff" * 500 + bytes(2_000_000)
    path = written(tmp_path / "w.msgpack", nested)
    assert refusal(path) == "is truncated or damaged; get it again"
    assert peak(path) < 16 << 20
    deep = b"\x81\xa1a" * 5000 + b"\x01"
    assert refusal(written(path, deep))


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [
        ("msgpack", "msgpack", "weights"),
        ("keras-h5", "h5py", "weights"),
        ("orbax", "tensorstore", "flax"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    kind: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w"
    write_weights(path, VALUES, kind)
    monkeypatch.setitem(sys.modules, module, None)
    line = f"needs {module}, not installed; run: pip install 'resnet-spec[{extra}]'"
    assert refusal(path) == line
    with pytest.raises(CheckpointError, match="not installed"):
        write_weights(tmp_path / "v", VALUES, kind)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_a_large_file_is_not_held_twice(tmp_path: Path) -> None:
    size = 32 << 20
    shape = (size // 16 // 16, 2, 2, 1)
    values = {f"conv{number}.kernel": np.ones(shape, np.float32) for number in range(16)}
    for kind, most in [
        ("torch", 0.1),
        ("torch-legacy", 1.1),
        ("safetensors", 0.1),
        ("npz", 0.1),
        ("mindspore", 1.1),
        ("keras-weights", 0.1),
        ("msgpack", 1.3),
    ]:
        path = tmp_path / kind
        write_weights(path, values, kind)
        tracemalloc.start()
        file = read_weights(path)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert all(array[-1, 1, 1, 0] == 1 for array in file.tensors.values())
        assert used < most * size, f"{kind} took {used / size:.2f} times the file"


def test_mutated_files_are_read_or_refused() -> None:
    """The fuzzer itself runs for minutes; this is a small cut with a seed of its own."""
    script = ROOT / "scripts" / "fuzz_weights.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), "--files", "2200", "--seed", "7", "--seconds", "60"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2200 files" in done.stdout and " 0 failures" in done.stdout
    read = [line for line in done.stdout.splitlines() if " read 0 " in line]
    assert [line.split()[0] for line in read] == ["pickles"], "mutations that leave nothing to read"
