"""Tables of many rows as a file, CSV or Parquet by its ending, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resnet_spec.errors import DataError, problem
from resnet_spec.files.writing import replacing

ENDINGS = (".csv", ".parquet")


def check_destination(
    option: str, path: Path, *, overwrite: bool, endings: Sequence[str] = ENDINGS
) -> None:
    """Raise DataError where `path`, which `option` gives, cannot be written, before any work."""
    told = " or ".join(endings)
    if path.is_dir():
        raise DataError(problem(option, path, "is a folder", f"give the name of a {told} file"))
    if path.suffix.lower() not in endings:
        raise DataError(problem(option, path, f"must end in {told}"))
    if path.exists() and not overwrite:
        remedy = "replace it with --overwrite, or name another"
        raise DataError(problem(option, path, "is there already", remedy))
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        remedy = "pip install 'resnet-spec[parquet]', or name a .csv file"
        raise DataError(problem(option, path, "needs pyarrow, which is not installed", remedy))


def write_table(path: Path, columns: Mapping[str, tuple[type, Sequence[Any]]]) -> None:
    """Write columns of one length. Raises OutputError.

    columns: of each name whether its values are of int, float or str, and these; None is no value.
    """
    names = list(columns)
    values = [found for _, found in columns.values()]
    with replacing(path) as temporary:
        if path.suffix.lower() == ".parquet":
            arrow: Any = import_module("pyarrow")
            parquet: Any = import_module("pyarrow.parquet")
            kinds = {int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
            arrays = [arrow.array(list(it), type=kinds[kind]) for kind, it in columns.values()]
            parquet.write_table(arrow.table(arrays, names=names), temporary)
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(zip(*values, strict=True))
