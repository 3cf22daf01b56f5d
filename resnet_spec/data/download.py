"""Fetch a dataset's files from their official address: resumed, bounded, checked by digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resnet_spec.errors import DataError

_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_PARTIAL_CONTENT = 206


@dataclass(frozen=True)
class Remote:
    """A file at `base + file`, of `size` bytes with the digest `sha256`."""

    file: str
    base: str
    size: int
    sha256: str

    @property
    def url(self) -> str:
        """Where it is."""
        return self.base + self.file


def data_root() -> Path:
    """Return the folder of downloaded datasets: $RESNET_SPEC_DATA, else the user's cache folder."""
    given = os.environ.get("RESNET_SPEC_DATA")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "resnet-spec"


def obtain(name: str, remotes: Sequence[Remote], folder: Path, download: bool) -> None:
    """Download those of `remotes` that `folder` lacks.

    Raises DataError that says which file to place where, when `download` is False or it fails.
    """
    from http.client import HTTPException  # Slow to import, and seldom needed.

    for remote in remotes:
        if (folder / remote.file).exists():
            continue
        if not download:
            raise _missing(name, remote, folder, "downloads are off")
        try:
            _fetch(name, remote, folder)
        except (OSError, HTTPException) as error:
            raise _missing(name, remote, folder, _reason(error)) from None


def _fetch(name: str, remote: Remote, folder: Path) -> None:
    """Write `remote` into `folder`, going on with a `.part` file that an earlier try left."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{remote.file}.part"
    done = part.stat().st_size if part.exists() else 0
    if done > remote.size:
        part.unlink()
        done = 0
    if done < remote.size:
        _transfer(remote, part, done)
    digest = _sha256(part)
    if digest != remote.sha256:
        part.unlink()
        raise DataError(
            f"{name}: {remote.url} has the SHA-256 digest {digest[:16]}..., not "
            f"{remote.sha256[:16]}...; the file was removed, try again"
        )
    part.replace(folder / remote.file)


def _transfer(remote: Remote, part: Path, done: int) -> None:
    import urllib.request

    headers = {"User-Agent": "resnet-spec", **({"Range": f"bytes={done}-"} if done else {})}
    request = urllib.request.Request(remote.url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        if response.status != _PARTIAL_CONTENT:
            done = 0  # The server does not resume: from the start.
        with part.open("ab" if done else "wb") as file, _progress(remote, done) as advance:
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if done > remote.size:
                    raise OSError(f"the server sent more than {remote.size} bytes")
                file.write(chunk)
                advance(len(chunk))
    if done < remote.size:
        raise OSError(f"it ended after {done} of {remote.size} bytes; run again to resume")


class _Advance(Protocol):
    def __call__(self, count: int, /) -> None: ...


@contextmanager
def _progress(remote: Remote, done: int) -> Generator[_Advance]:
    """Show a bar on the error stream when it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(remote.file, total=remote.size, completed=done)
        yield lambda count: bar.advance(task, count)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause).partition("\n")[0] or type(error).__name__


def _missing(name: str, remote: Remote, folder: Path, reason: str) -> DataError:
    return DataError(
        f"{name}: {folder / remote.file} is missing and was not downloaded ({reason}); "
        f"get it from {remote.url} and place it there"
    )
