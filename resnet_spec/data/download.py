"""Fetch files of datasets and weights from their official address: resumed, bounded, checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from resnet_spec.errors import DataError
from resnet_spec.printing.activity import doing

if TYPE_CHECKING:
    from http.client import HTTPResponse

_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_PARTIAL_CONTENT = 206
_NOTHING_LEFT = 416
_MOST_BYTES = 1 << 33
"""The bound where no size is published."""


@dataclass(frozen=True)
class Remote:
    """A file at `base + file`, of `size` bytes with the digest `sha256`.

    size: None where none is published. sha256: all digits or the first ones; "": none is published.
    """

    file: str
    base: str
    size: int | None
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
    if remote.size is not None and done > remote.size:
        part.unlink()
        done = 0
    if remote.size is None or done < remote.size:
        _transfer(remote, part, done)
    digest = sha256_of(part)
    if not digest.startswith(remote.sha256):
        part.unlink()
        raise DataError(
            f"{name}: {remote.url} has the SHA-256 digest {digest[:16]}..., not "
            f"{remote.sha256[:16]}...; the file was removed, try again"
        )
    part.replace(folder / remote.file)


def _transfer(remote: Remote, part: Path, done: int) -> None:
    import urllib.request
    from urllib.error import HTTPError

    headers = {"User-Agent": "resnet-spec", **({"Range": f"bytes={done}-"} if done else {})}
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            if response.status != _PARTIAL_CONTENT:
                done = 0  # The server does not resume: from the start.
            _receive(remote, response, part, done)
    except HTTPError as error:
        # Nothing is left where no size was known and all had come.
        if error.code != _NOTHING_LEFT or error.headers.get("Content-Range") != f"bytes */{done}":
            raise


def _receive(remote: Remote, response: HTTPResponse, part: Path, done: int) -> None:
    """Write what comes behind the first `done` bytes of `part`."""
    length = response.headers.get("Content-Length")
    size = remote.size
    if size is None and length is not None:
        size = done + int(length)
    bound = _MOST_BYTES if size is None else size
    with part.open("ab" if done else "wb") as file, _progress(remote.file, size, done) as advance:
        while chunk := response.read(_CHUNK):
            done += len(chunk)
            if done > bound:
                raise OSError(f"the server sent more than {bound} bytes")
            file.write(chunk)
            advance(len(chunk))
    if size is not None and done < size:
        raise OSError(f"it ended after {done} of {size} bytes; run again to resume")


class _Advance(Protocol):
    def __call__(self, count: int, /) -> None: ...


@contextmanager
def _progress(file: str, size: int | None, done: int) -> Generator[_Advance]:
    """Show a bar on the error stream when it is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from resnet_spec.printing.consoles import progress_console

    console = progress_console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        Progress(
            *columns, TransferSpeedColumn(), console=console, disable=not console.is_terminal
        ) as bar,
        doing(f"downloading {file}, bytes", size, is_shown=console.is_terminal) as activity,
    ):
        task = bar.add_task(file, total=size, completed=done)
        activity.advance(done)

        def advance(count: int) -> None:
            activity.advance(count)
            bar.advance(task, count)

        yield advance


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 digest, 64 hexadecimal digits."""
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
