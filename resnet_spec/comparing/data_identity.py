"""Which data runs are on that stand side by side: told by its identity, not by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from resnet_spec.comparing.results import Result
from resnet_spec.comparing.standing import read_summary
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.held_out import OWN
from resnet_spec.running.runs import Summary


class _Told(NamedTuple):
    """What a run says of its data. dataset: None for docs/studies/records, made before it."""

    run: str
    data: str
    dataset: Fingerprint | None


def data_keys(results: Sequence[Result]) -> list[str]:
    """Return a text for each run, the same for runs on the same images to train and to test on.

    Runs in docs/studies/records do not say theirs: they are on that of another of the same name.
    Raises DataError for what is no identity.
    """
    return _keys([_of_result(result) for result in results])


def different_data(results: Sequence[Result]) -> list[str]:
    """Return notes where runs are on different data, with the difference where it is known."""
    return _differences([_of_result(result) for result in results])


def different_validation(results: Sequence[Result]) -> list[str]:
    """Return a note where runs have chosen their best epochs by different images."""
    found = set(chosen_by(results))
    if len(found) < 2:
        return []
    held = sorted(told for told, _ in found if isinstance(told, float))
    own = [digest for told, digest in found if told == OWN]
    parts = [f"validation = {', '.join(f'{it:g}' for it in held)}"] if held else []
    parts += [f"{len(own)} validation parts of the data"] if len(own) > 1 else []
    parts += ["the data's validation part"] if len(own) == 1 else []
    parts += ["test images"] if (None, "") in found else []
    rule = f"runs have chosen their best epochs by different images ({'; '.join(parts)})"
    fewer = ", and those that held images out were trained on fewer"
    return [f"{rule}{fewer if held else ''}"]


def chosen_by(results: Sequence[Result]) -> list[tuple[float | str | None, str]]:
    """Return by which images each run chooses its best epoch.

    The fraction that it holds out, or `own` and a digest of that part, which is another's where a
    run has not said it yet; None: the test images.
    """
    told = [result.cell.get("validation") for result in results]
    held = [None if it.summary is None else it.summary.held_out for it in results]
    own = [
        str((held_out or {}).get("digest", "")) if it == OWN else ""
        for it, held_out in zip(told, held, strict=True)
    ]
    known = next((digest for digest in own if digest), "")
    return [(it, own[i] or known if it == OWN else "") for i, it in enumerate(told)]


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
    parts = [dataset.splits.get(name) for name in ("train", "test")]
    return repr((dataset.classes, dataset.channels, parts))


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
