"""Write files whole or not at all: to a temporary name in the same folder, then renamed.

Whatever writes, and whatever it raises for want of room or permission, the error is one: an
`OutputError` that names the file as the user knows it.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnet_spec.errors import DataError, OutputError
from resnet_spec.files.json_text import json_text


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn what a writer of `path` raises where the system refuses into OutputError.

    A library in another language may give the system's refusal as an error of its own kind.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(path, error) from error
    except Exception as error:
        found = _SYSTEM.search(str(error))
        if found is None:
            raise
        number = int(found[1] or found[2])
        raise OutputError(path, OSError(number, os.strerror(number))) from error


_SYSTEM = re.compile(r"\(os error (\d+)\)|os_error_code='(\d+)'")
"""What the errors of Rust's standard library (of safetensors) and those of tensorstore end in."""


@contextmanager
def replacing(path: Path, kept: Path | None = None) -> Generator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path`, on failure it is removed.

    The data and the folder's entry are flushed to the disk before this returns. Raises OutputError.

    kept: what the file that is replaced is called from then on, in the same folder; None: it goes.
    Whenever a process is killed in between, a whole file has one of the two names.
    """
    with writing(path), parents(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            _keep_mode(temporary)
            if kept is not None and path.exists():
                _put_before(temporary, path, kept)
            else:
                temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _put_before(new: Path, path: Path, kept: Path) -> None:
    """Rename `new` to `path`, and what was there to `kept`.

    What was there is held by a second name, and gets `kept` last: there are two whole files at
    every moment.
    """
    held = new.with_name(f"{new.name}.before.tmp")
    try:
        os.link(path, held)
    except (OSError, NotImplementedError):  # Some file systems have no second names.
        _put_before_by_renaming(new, path, kept)
        return
    try:
        new.replace(path)
        _flush(path.parent)
        held.replace(kept)
    finally:
        held.unlink(missing_ok=True)


def _put_before_by_renaming(new: Path, path: Path, kept: Path) -> None:
    """Do the same where a file has one name; between the two renames there is `kept` alone."""
    path.replace(kept)
    try:
        new.replace(path)
    except OSError:
        with suppress(OSError):
            kept.replace(path)
        raise


@contextmanager
def beside(path: Path) -> Generator[Path]:
    """Give a path of the same name in a temporary folder beside `path`, to be checked and renamed.

    What is left in the folder at the end is removed, and so are folders that were made in vain.
    Raises OutputError.
    """
    with (
        writing(path),
        parents(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder,
    ):
        yield Path(folder) / path.name


@contextmanager
def parents(path: Path) -> Generator[None]:
    """Make the folders that `path` needs; those that stay empty go again."""
    missing = [folder for folder in path.parents if not folder.exists()]
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):  # It is not empty.
                folder.rmdir()


def check_folder(out: Path, what: str) -> None:
    """Raise DataError where `what` cannot be left in the folder `out`; nothing is touched.

    For whoever works long before anything is written.
    """
    places = (out, *out.absolute().parents)
    there = next(place for place in places if place.exists() or place.is_symlink())
    if not there.exists():
        which = "is" if there == out else f"{there} is"
        raise DataError(f"--out = {out}: {which} a link to nothing; name another folder")
    if not there.is_dir():
        which = "is" if there == out else f"{there} is"
        raise DataError(f"--out = {out}: {which} a file, and {what} needs a folder")
    if not (os.access(there, os.W_OK | os.X_OK) and _takes_files(there)):
        raise DataError(f"--out = {out}: cannot be written: {there} does not allow it")


def _takes_files(folder: Path) -> bool:
    """Return whether a file can be made there, by one that is gone again; a superuser may ask."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all.

    What is no text, as in the name of a file that is no UTF-8, is written with a backslash.
    Raises OutputError.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON (see `json_text`) whole or not at all. Raises OutputError."""
    write_text(path, json_text(value, indent=2) + "\n")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # Some file systems refuse to flush a folder.
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_mode(path: Path) -> None:
    """Give the file the mode that a plain `open` would have given it (mkstemp makes it private)."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
