"""Which data the runs of a comparison are on: told by its identity, not by what it is called."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.grid.results import Result


def dataset_of(result: Result) -> Fingerprint | None:
    """Return the identity of a run's data; None where it is not known. Raises DataError."""
    known = None if result.summary is None else result.summary.dataset
    return None if known is None else Fingerprint.from_dict(known)


def data_keys(results: Sequence[Result]) -> list[str]:
    """Return a text for each run, the same for runs on the same data.

    Runs of older versions do not know their data: they are on that of another of the same name.
    """
    known = [dataset_of(result) for result in results]
    named: dict[str, str] = {}
    for result, dataset in zip(results, known, strict=True):
        if dataset is not None:
            named.setdefault(result.cell["data"], _key(dataset))
    names: list[str] = [result.cell["data"] for result in results]
    return [
        named.get(name, name) if dataset is None else _key(dataset)
        for name, dataset in zip(names, known, strict=True)
    ]


def _key(dataset: Fingerprint) -> str:
    return repr((dataset.classes, dataset.channels, sorted(dataset.splits.items())))


def different_data(results: Sequence[Result]) -> list[str]:
    """Return notes where runs are on different data, with the difference where it is known."""
    keys = data_keys(results)
    first: dict[str, Result] = {}
    for key, result in zip(keys, results, strict=True):
        first.setdefault(key, result)
    one, *others = first.values()
    if not others:
        return []
    names = list(dict.fromkeys(result.cell["data"] for result in first.values()))
    if len(names) > 1:
        known = ", ".join(sorted(names))
        return [f"the runs are on different data ({known}): accuracies do not compare"]
    return [_changed(one, other) for other in others]


def _changed(one: Result, other: Result) -> str:
    before, now = dataset_of(one), dataset_of(other)
    assert before is not None and now is not None  # One that is not known is like its namesake.
    places = f"{one.folder.name} and {other.folder.name} are on different data"
    effect = "accuracies do not compare"
    if before.classes == now.classes and not before.image_changes(now, ("test",)):
        effect = "they were not trained on the same images"
    return f"{places} ({'; '.join(before.changes(now))}): {effect}"
