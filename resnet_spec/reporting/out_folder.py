"""The folder that a command leaves numbers and figures in: never a run's, and nothing is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from resnet_spec.errors import DataError
from resnet_spec.files.destinations import check_destination
from resnet_spec.files.writing import check_folder, writing
from resnet_spec.running.run_folder import RunFolder


def check_out(out: Path, what: str, files: Iterable[Path], *, overwrite: bool) -> None:
    """Raise DataError or OutputError where `files` cannot be left in `out`; nothing is touched.

    what: they are, for the error where `out` is no folder.
    """
    check_folder(out, what)
    if RunFolder(out).holds_run:
        raise DataError(f"--out = {out}: holds a run, which stays as it is; name another folder")
    for file in files:
        check_destination(file, overwrite=overwrite)


def leave_only(written: Collection[Path], of: Iterable[Path]) -> None:
    """Take away those of `of` that were not written: an earlier call's. Raises OutputError."""
    for file in of:
        if file not in written:
            with writing(file):
                file.unlink(missing_ok=True)
