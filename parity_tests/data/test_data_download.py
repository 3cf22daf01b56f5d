"""Downloads against a server on this machine: resume, digest, size, and no network at all."""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError

import pytest
from serving import CONTENT, DIGEST, Server

from resnet_spec.data import cifar, load_data
from resnet_spec.data.download import Remote, data_root, obtain
from resnet_spec.errors import DataError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        obtain("x", [server.remote], tmp_path / "new", download=True)
    assert (tmp_path / "new" / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["file.bin"]
    assert server.asked == [None]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_transfer_goes_on(server: Server, tmp_path: Path, resumes: bool) -> None:
    server.cut = 1000
    with pytest.raises(DataError, match=r"was not downloaded \(.*1000.*\); get it from http"):
        obtain("x", [server.remote], tmp_path, download=True)
    assert names(tmp_path) == ["file.bin.part"]
    server.cut, server.resumes = None, resumes
    obtain("x", [server.remote], tmp_path, download=True)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    assert server.asked == [None, "bytes=1000-"]


def test_a_whole_part_file_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    remote = Remote("file.bin", "http://127.0.0.1:9/", len(CONTENT), DIGEST)
    obtain("x", [remote], tmp_path, download=True)
    assert names(tmp_path) == ["file.bin"]


def test_a_wrong_digest_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = b"x" * len(CONTENT)
    with pytest.raises(DataError, match=r"has the SHA-256 digest \w{16}..., not .* was removed"):
        obtain("x", [server.remote], tmp_path, download=True)
    assert names(tmp_path) == []


def test_a_file_that_is_too_long_is_cut_off(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT + bytes(1 << 20)
    with pytest.raises(DataError, match="the server sent more than 1024000 bytes"):
        obtain("x", [server.remote], tmp_path, download=True)
    assert (tmp_path / "file.bin.part").stat().st_size <= len(CONTENT)


def test_the_server_s_refusal_is_told(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match=r"the server answers 404 Not Found\); get it from http"):
        obtain("x", [server.remote], tmp_path, download=True)


@pytest.mark.parametrize("download", [True, False])
def test_without_a_network_one_line_says_what_to_place_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    remote = cifar._REMOTE["cifar10"]  # pyright: ignore[reportPrivateUsage]
    nowhere = replace(remote, base="http://127.0.0.1:9/")
    monkeypatch.setitem(cifar._REMOTE, "cifar10", nowhere)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(DataError) as caught:
        load_data("cifar10", root=tmp_path / "cache", download=download)
    reason = "Connection refused" if download else "downloads are off"
    assert str(caught.value) == (
        f"cifar10: {tmp_path}/cache/cifar-10-python.tar.gz is missing and was not downloaded "
        f"({reason}); get it from http://127.0.0.1:9/cifar-10-python.tar.gz and place it there"
    )


def test_the_folder_of_named_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESNET_SPEC_DATA", str(tmp_path / "d"))
    assert data_root() == tmp_path / "d"
    monkeypatch.delenv("RESNET_SPEC_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert data_root() == tmp_path / "c" / "resnet-spec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root() == tmp_path / ".cache" / "resnet-spec"


@pytest.mark.parametrize(
    ("status", "left", "is_whole"),
    [
        (416, f"bytes */{len(CONTENT)}", True),
        (416, f"bytes */{len(CONTENT) + 1}", False),
        (503, f"bytes */{len(CONTENT)}", False),
    ],
)
def test_of_a_whole_file_of_unknown_size_the_server_has_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, left: str, is_whole: bool
) -> None:
    def answer(request: urllib.request.Request, **_: object) -> None:
        headers = Message()
        headers["Content-Range"] = left
        raise HTTPError(request.full_url, status, "no", headers, None)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    remote = Remote("file.bin", "http://127.0.0.1:9/", None, DIGEST)
    if is_whole:
        obtain("x", [remote], tmp_path, download=True)
        assert (tmp_path / "file.bin").read_bytes() == CONTENT
    else:
        with pytest.raises(DataError, match=f"the server answers {status}"):
            obtain("x", [remote], tmp_path, download=True)
