"""Which weights are meant where a folder is named: by what stands in it, and never by a guess.

A run's folder, a folder as the hub has it, an Orbax item, a step's or a manager's folder, or one
that holds a single weight file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.weights.files.source import refused, shown, unreadable

ENDINGS = (
    *(".safetensors", ".pth", ".pt", ".th", ".bin", ".ckpt", ".msgpack", ".npz"),
    *(".h5", ".hdf5", ".keras", ".pth.tar", ".orbax"),
)
"""How the names of weight files end."""

_RUN = ("best.safetensors", "last.safetensors")
_HUB = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "flax_model.msgpack",
)
"""In the order in which the library transformers looks for them."""
_ITEM = "_METADATA"
_ITEMS = ("default", "state", "params", "model")
_STEP = re.compile(r"(?:[\w-]*[_-])?(\d{1,18})")
_UNFINISHED = ".orbax-checkpoint-tmp"
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where weights are: a file, or the folder of one Orbax item. notes: why just these."""

    path: Path
    notes: tuple[str, ...] = ()


def weights_at(path: Path) -> Place:
    """Return the weights that `path` means; a path that is no folder means itself.

    Raises CheckpointError for a folder without weights, or with several of which none is the one.
    """
    if not path.is_dir():
        return Place(path)
    names = _names(path)
    for rule in _RULES:
        found = rule(path, names)
        if found is not None:
            return found
    raise refused(path, *_stranger(path, names))


def _names(folder: Path) -> list[str]:
    try:
        names = sorted(it.name for _, it in zip(range(_MOST), folder.iterdir(), strict=False))
    except OSError as error:
        raise unreadable(folder, error) from None
    return [name for name in names if _UNFINISHED not in name]


def _item(folder: Path, names: list[str]) -> Place | None:
    return Place(folder) if _ITEM in names else None


def _run(folder: Path, names: list[str]) -> Place | None:
    return _first_of(_RUN, folder, names)


def _hub(folder: Path, names: list[str]) -> Place | None:
    return _first_of(_HUB, folder, names)


def _first_of(wanted: tuple[str, ...], folder: Path, names: list[str]) -> Place | None:
    there = [name for name in wanted if name in names]
    if not there:
        return None
    others = f", not from {', '.join(there[1:])}" if len(there) > 1 else ""
    return Place(folder / there[0], (f"taken from {there[0]} in the folder{others}",))


def _step(folder: Path, names: list[str]) -> Place | None:
    """The folder of one step, with its items below."""
    items = [name for name in names if (folder / name / _ITEM).is_file()]
    if not items or any(_STEP.fullmatch(name) for name in items):
        return None
    if len(items) == 1:
        taken = items[0]
    else:
        usual = [name for name in _ITEMS if name in items]
        if not usual:
            raise refused(folder, f"holds several items, {_listed(items)}", f"name one: {folder}/x")
        taken = usual[0]
    others = [name for name in items if name != taken]
    beside = f"; beside it: {_listed(others)}" if others else ""
    return Place(folder / taken, (f"taken from the item {taken} in the folder{beside}",))


def _manager(folder: Path, names: list[str]) -> Place | None:
    """A folder of steps, of Orbax's manager or of `flax.training.checkpoints`; the last counts."""
    found = [(int(match[1]), name) for name in names if (match := _STEP.fullmatch(name))]
    steps = [it for it in found if _is_step(folder / it[1])]
    if not steps:
        return None
    number, name = max(steps)
    twins = [other for step, other in steps if step == number]
    if len(twins) > 1:
        raise refused(folder, f"holds step {number} as {_listed(twins)}", f"name one: {folder}/x")
    inner = weights_at(folder / name)
    others = f" of {len(steps)}; name another as {folder}/x" if len(steps) > 1 else ""
    return Place(inner.path, (f"taken from {name}, the last step{others}", *inner.notes))


def _is_step(path: Path) -> bool:
    if path.is_dir():
        return (path / _ITEM).is_file() or any(path.glob(f"*/{_ITEM}"))
    # flax.training.checkpoints wrote a file of msgpack for each step, without an ending.
    return path.is_file() and path.name.startswith("checkpoint_")


def _only(folder: Path, names: list[str]) -> Place | None:
    """The only weight file in a folder of other things."""
    files = [name for name in names if name.endswith(ENDINGS)]
    if len(files) > 1:
        raise refused(folder, f"holds several weight files: {_listed(files)}", "name one of them")
    if not files:
        return None
    return Place(folder / files[0], (f"taken from {files[0]}, the only weight file in the folder",))


_Rule = Callable[[Path, list[str]], Place | None]
_RULES: tuple[_Rule, ...] = (_item, _run, _hub, _step, _manager, _only)


def _stranger(folder: Path, names: list[str]) -> tuple[str, str]:
    """Return what a folder without weights is, and what to do."""
    if "saved_model.pb" in names:
        return "is a SavedModel of TensorFlow", "save the weights as .weights.h5 or .h5"
    if any(name.endswith(".distcp") for name in names):
        tool = "torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
        return "is a distributed checkpoint of torch", f"join it with {tool}"
    if "data.pkl" in names:
        return "is a file of torch that was unpacked", "name the file itself, or zip it again"
    if any(name.endswith(".index") for name in names):
        return "is a checkpoint of TensorFlow", "save the weights as .weights.h5 or .h5"
    runs = [name for name in names if any((folder / name / it).is_file() for it in (*_RUN, *_HUB))]
    if runs:
        return f"holds weights in {_listed(runs)}", "name one of these folders"
    return "is a folder without weights", "name a weight file"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"{', '.join(shown(name, 60) for name in names[:6])}{more}"
