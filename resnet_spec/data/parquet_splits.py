"""Which Parquet files are trained on and which are evaluated; one without labels is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.data.parquet_columns import columns_of
from resnet_spec.data.parquet_file import is_unlabelled, read_schema
from resnet_spec.data.shards import Shards, candidates, parquet_home, same_set, shards_of
from resnet_spec.data.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    no_such_split,
    parts_note,
    parts_of,
)
from resnet_spec.errors import DataError

_TEST_NAMES = ("test", "validation", "val", "valid", "eval")
"""In this order, the first that has labels."""


@dataclass(frozen=True)
class Chosen:
    """The files of a dataset. home: the folder they are in. train: () where there are none.

    validation: () where the test part is the only one.
    """

    home: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    notes: tuple[str, ...]
    validation: tuple[Path, ...] = ()


def is_parquet(path: Path) -> bool:
    """Whether `path` is a Parquet file, or a folder with those of a dataset."""
    return path.suffix == ".parquet" or parquet_home(path) is not None


def choose(path: Path, asked: str | None) -> Chosen:
    """Return the files that belong to `path`. asked: the split to evaluate on alone, or None.

    Raises DataError where a file is missing, doubled or could be another one's.
    """
    home = path.parent if path.suffix == ".parquet" else parquet_home(path)
    assert home is not None, "is_parquet said so"
    groups = candidates(home)
    if path.suffix == ".parquet":
        if not path.name.lower().startswith(TRAIN):
            raise DataError(f"{path}: must be the training file, train*.parquet, of a pair")
        groups[TRAIN] = same_set(path, groups.get(TRAIN, [path]))
    train = shards_of(TRAIN, groups[TRAIN]) if TRAIN in groups else Shards(())
    if asked is not None:
        if asked not in groups:
            raise no_such_split(path, asked, list(groups))
        test, own, notes = shards_of(asked, groups[asked]), Shards(()), ()
    else:
        test, own, notes = _labelled(path, home, groups, train.files)
    if not train.files:
        notes = (*notes, f"{home} has no train*.parquet: it can be evaluated, not trained on")
    told = (*train.notes, *test.notes, *own.notes, *notes)
    return Chosen(home, train.files, test.files, told, own.files)


def _labelled(
    path: Path, home: Path, groups: dict[str, list[Path]], train: Sequence[Path]
) -> tuple[Shards, Shards, tuple[str, ...]]:
    """Return the test part and that for validation, the first with labels, and notes on others."""
    names = [name for name in _TEST_NAMES if name in groups]
    if not names:
        has = train[0].relative_to(home) if train else "no split"
        raise DataError(f"{home}: has {has} and no test*.parquet or validation*.parquet")
    found: dict[str, Shards] = {}
    passed: list[str] = []
    for name in names:
        if found and not (train and list(found) == [TEST] and name in VALIDATION):
            continue  # Nothing is asked of what is not used.
        shards = shards_of(name, groups[name])
        if _has_labels(shards.files, train):
            found[name] = shards
        else:
            passed.append(name)
    if not found:
        which = f"the split {passed[0]}" if len(passed) == 1 else f"the splits {', '.join(passed)}"
        raise DataError(f"{home}: no image of {which} has a label; add a split that has labels")
    parts = parts_of(list(found), trains=bool(train))
    notes = [f"the split {it} has no labels and is left out" for it in passed]
    rest = [*found, *(it for it in names if it not in found and it not in passed)]
    notes += parts_note(parts, rest, lambda name: f"the split {name}", path)
    own = Shards(()) if parts.validation is None else found[parts.validation]
    return found[parts.test], own, tuple(notes)


def _has_labels(files: Sequence[Path], train: Sequence[Path]) -> bool:
    label = columns_of([read_schema(it) for it in train or files]).label
    return not all(is_unlabelled(it, label) for it in files)
