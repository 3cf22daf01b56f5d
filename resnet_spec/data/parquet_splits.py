"""Which Parquet files are trained on and which are evaluated; one without labels is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.data.parquet_columns import columns_of
from resnet_spec.data.parquet_file import is_unlabelled, read_schema
from resnet_spec.data.shards import Shards, candidates, parquet_home, same_set, shards_of
from resnet_spec.data.splits import TRAIN, no_such_split, others_note
from resnet_spec.errors import DataError

_TEST_NAMES = ("test", "validation", "val", "valid", "eval")
"""In this order, the first that has labels."""


@dataclass(frozen=True)
class Chosen:
    """The files of a dataset. home: the folder they are in. train: () where there are none."""

    home: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    notes: tuple[str, ...]


def is_parquet(path: Path) -> bool:
    """Whether `path` is a Parquet file, or a folder with those of a dataset."""
    return path.suffix == ".parquet" or parquet_home(path) is not None


def choose(path: Path, asked: str | None) -> Chosen:
    """Return the files that belong to `path`. asked: the split to evaluate on, or None.

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
        test, notes = shards_of(asked, groups[asked]), ()
    else:
        test, notes = _labelled_test(path, home, groups, train.files)
    if not train.files:
        notes = (*notes, f"{home} has no train*.parquet: it can be evaluated, not trained on")
    return Chosen(home, train.files, test.files, (*train.notes, *test.notes, *notes))


def _labelled_test(
    path: Path, home: Path, groups: dict[str, list[Path]], train: Sequence[Path]
) -> tuple[Shards, tuple[str, ...]]:
    """Return the first test split that has labels, and notes on the others."""
    names = [name for name in _TEST_NAMES if name in groups]
    if not names:
        has = train[0].relative_to(home) if train else "no split"
        raise DataError(f"{home}: has {has} and no test*.parquet or validation*.parquet")
    passed: list[str] = []
    for place, name in enumerate(names):
        shards = shards_of(name, groups[name])
        if not _has_labels(shards.files, train):
            passed.append(name)
            continue
        notes = [f"the split {it} has no labels and is left out" for it in passed]
        return shards, (*notes, *others_note(f"the split {name}", names[place + 1 :], path))
    which = f"the split {passed[0]}" if len(passed) == 1 else f"the splits {', '.join(passed)}"
    raise DataError(f"{home}: no image of {which} has a label; add a split that has labels")


def _has_labels(files: Sequence[Path], train: Sequence[Path]) -> bool:
    label = columns_of([read_schema(it) for it in train or files]).label
    return not all(is_unlabelled(it, label) for it in files)
