"""Which Parquet files make up a split, by exact rules: none missing, none doubled, none by chance.

Whole sets are `SPLIT.parquet` and `SPLIT-00000-of-00002.parquet` with all its siblings (perhaps
with a hash of 16 digits behind), as Hugging Face's hub has them. Where there is one, other files
that begin like it are left out and said. Where there is none, a single file that begins with the
split's name is taken, or numbered ones without a gap, and said.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.data.classes import few
from resnet_spec.data.splits import NAMES, split_of
from resnet_spec.data.walking import entries_of
from resnet_spec.errors import DataError

_SUFFIX = ".parquet"
_MOST_NAMED = 5
_SHARD = re.compile(r"[-_.](\d{1,9})[-_]of[-_](\d{1,9})(-[0-9a-f]{16})?")
_NUMBERED = re.compile(r"[-_. ]?(?:part|shard|chunk)?[-_. ]?(\d{1,9})")


@dataclass(frozen=True)
class Shards:
    """The files of a split, in order, and what was left out or joined to find them."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def parquet_home(path: Path) -> Path | None:
    """Return the folder whose Parquet files belong to dataset `path`, or None.

    It is `path` or its `data/`, else the only folder in it that has splits (a configuration, as
    the hub calls it). Raises DataError where several have.
    """
    near = [home for home in (path, path / "data") if candidates(home)]
    homes = near or [home for home in _folders(path) if candidates(home)]
    if len(homes) > 1:
        found = ", ".join(f"{home.name}/" if home != path else "itself" for home in homes)
        raise DataError(f"{path}: has Parquet files in {found}; give the path of one of them")
    return homes[0] if homes else None


def candidates(home: Path) -> dict[str, list[Path]]:
    """Return the Parquet files in `home`, or in its folders `train/`, ..., by their split."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in _parquet_files(home):
        split = split_of(path.name)
        if split is not None:
            found[split].append(path)
    for name in NAMES:
        inner = _parquet_files(home / name)
        if inner and name in found:
            raise DataError(
                f"{home}: has {found[name][0].name} and {name}/{inner[0].name}; remove one"
            )
        if inner:
            found[name] = inner
    return dict(found)


def shards_of(split: str, files: list[Path]) -> Shards:
    """Return those of `files`, all of which begin with `split`, that are the split.

    Raises DataError where one is missing, or where several sets could be meant.
    """
    rests = {path: _rest(path, split) for path in files}
    whole = [path for path, rest in rests.items() if not rest]
    parts = {p: match for p, rest in rests.items() if (match := _SHARD.fullmatch(rest))}
    totals = {int(match[2]) for match in parts.values()}
    if len(whole) > 1 or (whole and parts) or len(totals) > 1:
        one, *more = [*whole, *sorted(parts)]
        other = next(p for p in more if whole or int(parts[p][2]) != int(parts[one][2]))
        raise DataError(
            f"{one.parent}: has {one.name} and {other.name}, two sets of the split {split}; "
            "remove one"
        )
    if not whole and not parts:
        return _by_number(split, rests)
    taken = whole or _complete(parts, totals.pop())
    left = sorted(path.name for path in files if path not in taken)
    return Shards(tuple(taken), (f"left out: {few(left)}",) if left else ())


def same_set(path: Path, files: list[Path]) -> list[Path]:
    """Return those of `files` that belong to the set that `path` is of: itself, or its siblings."""
    match = _SHARD.fullmatch(_rest(path, split_of(path.name) or ""))
    if match is None:
        return [path]
    rests = {it: _SHARD.fullmatch(_rest(it, split_of(it.name) or "")) for it in files}
    return [it for it, other in rests.items() if other is not None and other[2] == match[2]]


def _complete(parts: dict[Path, re.Match[str]], total: int) -> list[Path]:
    """Return the shards in order, 0..total-1 or 1..total. Raises DataError for one missing."""
    by_number: dict[int, Path] = {}
    for path, match in sorted(parts.items()):
        other = by_number.setdefault(int(match[1]), path)
        if other is not path:
            raise DataError(f"{path.parent}: has {other.name} and {path.name}; remove one")
    first = 1 if total in by_number and 0 not in by_number else 0
    numbers = range(first, first + total)
    missing = [i for i in numbers if i not in by_number]
    one = min(parts)
    if missing:
        names = [_numbered_as(one, parts[one], i) for i in missing[:_MOST_NAMED]]
        more = f" and {len(missing) - len(names)} more" if len(missing) > len(names) else ""
        raise DataError(f"{one.parent}: lacks {', '.join(names)}{more}; get it again")
    if len(by_number) != total:
        raise DataError(f"{one.parent}: has {len(by_number)} shards of {total}; get it again")
    return [by_number[i] for i in numbers]


def _numbered_as(one: Path, match: re.Match[str], number: int) -> str:
    """Return what the shard `number` is called, without the hash, which nobody can know."""
    name = one.name.removesuffix(_SUFFIX)
    before = name[: len(name) - len(match[0])]
    start, digits, rest = match[0].partition(match[1])
    return f"{before}{start}{number:0{len(digits)}}{rest.removesuffix(match[3] or '')}{_SUFFIX}"


def _by_number(split: str, rests: dict[Path, str]) -> Shards:
    """Return files without a total in their names: one alone, or numbered without a gap."""
    files = sorted(rests)
    numbers = {p: int(m[1]) for p, rest in rests.items() if (m := _NUMBERED.fullmatch(rest))}
    if len(files) == 1 and set(numbers.values()) <= {0, 1}:
        return Shards((files[0],), (f"{files[0].name} is taken for the split {split}",))
    in_order = sorted(numbers, key=lambda path: numbers[path])
    found = sorted(numbers.values())
    names = [path.name for path in in_order]
    if len(numbers) == len(files) and found in (_run(0, found), _run(1, found)):
        note = f"{len(files)} files are joined to the split {split}, and none says how many it has"
        return Shards(tuple(in_order), (f"{note}: {few(names)}",))
    if len(numbers) == len(files):
        rule = f"has {few(names)}, whose numbers are not 0, 1, 2, ... without a gap"
        raise DataError(f"{files[0].parent}: {rule}; get it again")
    raise DataError(
        f"{files[0].parent}: has {few([path.name for path in files])}, and none is the whole split "
        f"{split}; call that one {split}{_SUFFIX}, or give its path"
    )


def _run(first: int, like: list[int]) -> list[int]:
    return list(range(first, first + len(like)))


def _rest(path: Path, split: str) -> str:
    """Return what a file's name says behind its split's; in `train/` the folder says the split."""
    stem = path.name.removesuffix(_SUFFIX).lower()
    return stem.removeprefix(split) if stem.startswith(split) else f"-{stem}"


def _parquet_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (it for it in entries_of(folder) if it.name.endswith(_SUFFIX) and it.is_file)
    return [Path(entry.path) for entry in found]


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return [Path(entry.path) for entry in entries_of(path) if entry.is_folder]
