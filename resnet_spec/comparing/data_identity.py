"""Which data runs are on that stand side by side: told by its identity, not by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_spec.comparing.results import Result
from resnet_spec.comparing.standing import read_summary
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.running.runs import Summary


class _Told(NamedTuple):
    """What a run says of its data. dataset: None for docs/studies/records, made before it."""

    run: str
    data: str
    dataset: Fingerprint | None


def data_keys(results: Sequence[Result]) -> list[str]:
    """Return a text for each run, the same for runs on the same data.

    Runs in docs/studies/records do not say theirs: they are on that of another of the same name.
    Raises DataError for what is no identity.
    """
    return _keys([_of_result(result) for result in results])


def different_data(results: Sequence[Result]) -> list[str]:
    """Return notes where runs are on different data, with the difference where it is known."""
    return _differences([_of_result(result) for result in results])


def different_validation(results: Sequence[Result]) -> list[str]:
    """Return a note where runs have chosen their best epochs by different images."""
    found = {result.cell.get("validation") for result in results}
    if len(found) < 2:
        return []
    held = ", ".join(f"{value:g}" for value in sorted(it for it in found if it is not None))
    rest = "test images" if None in found else "others"
    return [
        f"runs have chosen their best epochs by different images (validation = {held}; {rest}), "
        "and those with validation were trained on fewer"
    ]


def different_data_of(folders: Mapping[str, Path]) -> list[str]:
    """Return notes where the runs in `folders`, by name, are on different data.

    One without a summary is left out.
    """
    found = {name: read_summary(folder) for name, folder in folders.items()}
    return _differences([_told(name, it.data, it) for name, it in found.items() if it is not None])


def _of_result(result: Result) -> _Told:
    return _told(result.folder.name, result.cell["data"], result.summary)


def _told(run: str, data: str, summary: Summary | None) -> _Told:
    known = None if summary is None else summary.dataset
    return _Told(run, data, None if known is None else Fingerprint.from_dict(known))


def _keys(runs: Sequence[_Told]) -> list[str]:
    named: dict[str, str] = {}
    for run in runs:
        if run.dataset is not None:
            named.setdefault(run.data, _key(run.dataset))
    return [
        named.get(run.data, run.data) if run.dataset is None else _key(run.dataset) for run in runs
    ]


def _key(dataset: Fingerprint) -> str:
    return repr((dataset.classes, dataset.channels, sorted(dataset.splits.items())))


def _differences(runs: Sequence[_Told]) -> list[str]:
    first: dict[str, _Told] = {}
    for key, run in zip(_keys(runs), runs, strict=True):
        first.setdefault(key, run)
    if len(first) < 2:
        return []
    one, *others = first.values()
    names = {run.data for run in first.values()}
    if len(names) > 1:
        known = ", ".join(sorted(names))
        return [f"the runs are on different data ({known}): accuracies do not compare"]
    return [_difference(one, other) for other in others]


def _difference(one: _Told, other: _Told) -> str:
    before, now = one.dataset, other.dataset
    assert before is not None and now is not None  # One that is not known is like its namesake.
    effect = "accuracies do not compare"
    if before.classes == now.classes and not before.image_changes(now, ("test",)):
        effect = "they were not trained on the same images"
    changes = "; ".join(before.changes(now))
    return f"{one.run} and {other.run} are on different data ({changes}): {effect}"
