"""What runs minimise that stand side by side: training losses of different ones do not compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnet_spec.comparing.results import Result
from resnet_spec.comparing.standing import read_summary
from resnet_spec.data.classes import few
from resnet_spec.describing.from_text import Fields, table_at
from resnet_spec.errors import ResnetSpecError
from resnet_spec.running.run_folder import LAST
from resnet_spec.weights.checkpoint import checkpoint_header

_MOST_NAMED = 3
_SHARES = ("mixup", "cutmix", "mix_probability", "switch_probability")
"""What of a recipe's `augment` changes the targets, and not the images alone."""
_USUAL = {"mix_probability": 1.0, "switch_probability": 0.5}

_UNSAID = ("kind", "teacher_digest")


def different_losses(results: Sequence[Result]) -> list[str]:
    """Return a note where runs have minimised different losses, with which did which."""
    return _note([(result.folder.name, result.cell["recipe"]) for result in results])


def different_losses_of(folders: Mapping[str, Path]) -> list[str]:
    """Return that note on the runs in `folders`, by name; one that does not say is left out."""
    known = {name: _recipe(folder) for name, folder in folders.items()}
    return _note([(name, recipe) for name, recipe in known.items() if recipe])


def _recipe(folder: Path) -> Fields:
    try:
        summary = read_summary(folder)
        asked = summary.asked if summary is not None and summary.asked else None
        return (asked or checkpoint_header(folder / LAST) or {}).get("recipe") or {}
    except ResnetSpecError:  # Who needs more of it says so.
        return {}


def _note(runs: Sequence[tuple[str, Fields]]) -> list[str]:
    named: dict[str, list[str]] = {}
    losses: dict[str, Fields] = {}
    for name, recipe in runs:
        parts = _minimised(recipe)
        key = json.dumps(without_place(parts), sort_keys=True)
        named.setdefault(key, []).append(name)
        losses.setdefault(key, parts)
    if len(named) < 2:
        return []
    words = {key: _words(parts) for key, parts in losses.items()}
    if len(set(words.values())) < len(words):  # Teachers of one name, and of other weights.
        words = {key: _words(parts, "teacher_digest") for key, parts in losses.items()}
    told = "; ".join(f"{words[key]}: {few(names, _MOST_NAMED)}" for key, names in named.items())
    return [f"the runs have minimised different losses ({told}): training losses do not compare"]


def without_place(loss: Fields) -> Fields:
    """Return `loss` without where its teacher is, where its digest says which one that is."""
    known = loss.get("teacher_digest")
    return {name: value for name, value in loss.items() if not (known and name == "teacher")}


def _minimised(recipe: Fields) -> Fields:
    """Return what of a recipe the training loss is made of, without what changes nothing."""
    loss, augment = table_at(recipe, "loss"), table_at(recipe, "augment")
    parts = {"kind": "cross_entropy", **loss}
    if loss.get("teacher_digest"):
        parts["teacher"] = Path(str(loss.get("teacher"))).name
    parts["label_smoothing"] = recipe.get("label_smoothing")
    if augment.get("mixup") or augment.get("cutmix"):
        parts |= {name: augment.get(name) for name in _SHARES}
    if not loss.get("teacher"):
        parts |= dict.fromkeys(("teacher_weight", "temperature"))
    return {name: value for name, value in parts.items() if value}


def _words(parts: Fields, *more: str) -> str:
    """Return a loss in words, without what is usual; `more` are told besides."""
    told = [
        f"{name} = {json.dumps(value) if isinstance(value, list) else value}"
        for name, value in parts.items()
        if name in more or (name not in _UNSAID and value != _USUAL.get(name))
    ]
    return ", ".join((str(parts["kind"]), *told))
