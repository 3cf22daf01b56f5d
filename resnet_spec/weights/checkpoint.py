"""Checkpoints: one safetensors file that holds the arrays and everything needed to go on.

The metadata has a single key, `resnet_spec`, with canonical JSON: with several keys the format's
bytes differ from save to save. Digests in it, of the tensors and of the rest, tell damage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.data.held_out import HeldOut
from resnet_spec.describing.spec import Spec
from resnet_spec.digests import digest, text_digest
from resnet_spec.errors import (
    MOST_LINES,
    CheckpointError,
    DamagedError,
    DataError,
    OutputError,
    RecipeError,
    SpecError,
    few,
)
from resnet_spec.files.json_text import json_text
from resnet_spec.files.writing import replacing
from resnet_spec.plan import Plan
from resnet_spec.planning.lowering import lower
from resnet_spec.printing.cards import Card, Shown
from resnet_spec.recipe import Recipe
from resnet_spec.session_state import AVERAGE, LOSS_SCALE, family, is_slot
from resnet_spec.weights.files.safetensors_file import mapped_safetensors, safetensors_metadata
from resnet_spec.weights.files.weight_file import finite_problems
from resnet_spec.weights.header_kinds import check_kinds

FORMAT = 1
_KEY = "resnet_spec"
_OWN_DIGEST = "header_digest"


@dataclass(frozen=True, repr=False)
class Checkpoint(Shown):
    """A network's state with its description and, in the middle of a run, where the run stands.

    state: what `Session.state` returns. class_names: () when unknown. data: the place or name that
    the training data was read from. progress: what `fit` needs to go on, {} for weights alone.
    dataset: the identity of the training data; None for weights that no run here made.
    held_out: which images are for validation, of those to train on or of the data's own part; None:
    none are.
    chosen: of the weights of a run's best epoch, by which images they were chosen ("by"), with what
    "accuracy" and in which "epoch".
    """

    spec: Spec
    state: State = field(repr=False)
    recipe: Recipe | None = None
    backend: Mapping[str, str] = field(default_factory=dict[str, str])
    data: str = ""
    class_names: tuple[str, ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dataset: Fingerprint | None = None
    held_out: HeldOut | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [
            ("data", self.data or None),
            ("classes", self.spec.classes),
            ("recipe", None if self.recipe is None else self.recipe.name),
            ("trained by", " ".join(self.backend.get(key, "") for key in ("name", "version"))),
            ("step", self.progress.get("step")),
            ("tensors", len(self.state)),
        ]
        return Card(f"checkpoint of {self.spec.name}", rows)

    def plan(self) -> Plan:
        """Return the plan of the spec at the size it was trained with."""
        return lower(self.spec)

    @property
    def data_name(self) -> str:
        """The name of the dataset, without its place; "" when unknown."""
        return Path(self.data).name if self.dataset is None else self.dataset.name

    def evaluated(self) -> Checkpoint:
        """Return weights alone, the moving average where there is one, as evaluation uses them."""
        plain = {name: a for name, a in self.state.items() if not is_slot(name)}
        average = {
            name.removeprefix(f"{AVERAGE}/"): a
            for name, a in self.state.items()
            if family(name) == AVERAGE
        }
        return replace(self, state={**plain, **average}, progress={})


def save_checkpoint(path: Path, checkpoint: Checkpoint, kept: Path | None = None) -> None:
    """Write `checkpoint` to `path`, whole or not at all.

    kept: what the file that is there is called from then on; None: it goes (`writing.replacing`).

    Raises CheckpointError when the file cannot be written, for the disk is full or otherwise.
    """
    from safetensors import numpy as safetensors

    # The format's writer corrupts arrays that are not contiguous. `ascontiguousarray` would make a
    # list of a single number.
    arrays = {name: np.asarray(a, order="C") for name, a in sorted(checkpoint.state.items())}
    header = {
        "format": FORMAT,
        "spec": checkpoint.spec.to_dict(),
        "recipe": None if checkpoint.recipe is None else checkpoint.recipe.to_dict(),
        "backend": dict(checkpoint.backend),
        "data": checkpoint.data,
        "class_names": list(checkpoint.class_names),
        "progress": dict(checkpoint.progress),
        "finite": not finite_problems(arrays),
        "digest": digest(arrays),
        **({} if checkpoint.dataset is None else {"dataset": checkpoint.dataset.to_dict()}),
        **({} if checkpoint.held_out is None else {"held_out": checkpoint.held_out.to_dict()}),
        **({"chosen": dict(checkpoint.chosen)} if checkpoint.chosen else {}),
    }
    header[_OWN_DIGEST] = _header_digest(header)
    text = json_text(header, sort_keys=True, compact=True)
    try:
        with replacing(path, kept) as temporary:
            cast(Any, safetensors).save_file(arrays, temporary, metadata={_KEY: text})
    except OutputError as error:
        raise CheckpointError(*error.problems) from error


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a file that `save_checkpoint` wrote, by its header alone."""
    return path.is_file() and safetensors_metadata(path, _KEY) is not None


def checkpoint_header(path: Path) -> dict[str, Any] | None:
    """Return what is written beside the arrays (spec, recipe, data, ...), which are not read.

    None for a file that `save_checkpoint` did not write, or that is not there. Raises
    CheckpointError for a header that is no table, or with a field of another kind.
    """
    text = safetensors_metadata(path, _KEY) if path.is_file() else None
    header = None if text is None else _parsed(path, text)
    if header is not None and header.get("format") == FORMAT:  # Another's may be of other kinds.
        check_kinds(path, header)
    return header


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint written by `save_checkpoint`. Executes nothing.

    Raises DamagedError for a file that no longer holds what was written, and CheckpointError for
    one that is missing, of another kind, or that does not fit its own spec.
    """
    header, arrays = _read(path)
    if _OWN_DIGEST in header and header[_OWN_DIGEST] != _header_digest(header):  # Older have none.
        raise DamagedError(f"{path}: its header does not match its digest; the file is damaged")
    if header.get("format") != FORMAT:
        found = header.get("format")
        raise CheckpointError(
            f"{path}: has format {found}, and this version reads {FORMAT}; update"
        )
    if header.get("digest") != digest(arrays):
        raise DamagedError(f"{path}: its tensors do not match their digest; the file is damaged")
    check_kinds(path, header)
    try:
        spec = Spec.from_dict(header["spec"])
        recipe = None if header["recipe"] is None else Recipe.from_dict(header["recipe"])
        checkpoint = Checkpoint(
            spec=spec,
            state={name: _as_number(name, array) for name, array in arrays.items()},
            recipe=recipe,
            backend=dict(header["backend"]),
            data=str(header["data"]),
            class_names=tuple(header["class_names"]),
            progress=dict(header["progress"]),
            dataset=dataset_of(header),
            held_out=held_out_of(header),
            chosen=dict(header.get("chosen") or {}),
        )
    except (KeyError, TypeError, SpecError, RecipeError, DataError) as error:
        raise CheckpointError(f"{path}: its header is damaged: {error}") from None
    lines = _problems(checkpoint, is_known_finite=header.get("finite") is True)
    if lines:
        raise CheckpointError(*(f"{path}: {line}" for line in lines))
    return checkpoint


def _as_number(name: str, array: Array) -> Array:
    """Return the numbers of loss scaling in shape (): some files have them as lists of one."""
    return array.reshape(()) if family(name) == LOSS_SCALE and array.size == 1 else array


def dataset_of(fields: Mapping[str, Any]) -> Fingerprint | None:
    """Return the identity of the data in a checkpoint's header or a summary; None without one.

    Raises DataError for what is no fingerprint.
    """
    found = fields.get("dataset")
    return None if found is None else Fingerprint.from_dict(found)


def held_out_of(fields: Mapping[str, Any]) -> HeldOut | None:
    """Return which images a checkpoint's header or a summary says validation is on; None for none.

    Raises DataError for what does not say so.
    """
    found = fields.get("held_out")
    return None if found is None else HeldOut.from_dict(found)


def _header_digest(header: Mapping[str, Any]) -> str:
    """Return the digest of all fields but itself: the tensors' says nothing of a step or a rate."""
    others = {name: value for name, value in header.items() if name != _OWN_DIGEST}
    return text_digest(json_text(others, sort_keys=True, compact=True))


def _read(path: Path) -> tuple[dict[str, Any], State]:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        text, arrays = mapped_safetensors(path, _KEY)
    except CheckpointError as error:
        raise DamagedError(*error.problems) from None
    if text is None:
        raise CheckpointError(
            f"{path}: is a safetensors file without a resnet_spec header; "
            "it was not written by this tool"
        )
    return _parsed(path, text), arrays


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        header: object = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise DamagedError(f"{path}: its header is damaged; get it again")
    return cast("dict[str, Any]", header)


def _problems(checkpoint: Checkpoint, *, is_known_finite: bool) -> list[str]:
    """Return a line for each tensor that is not one of the spec's, or is not finite."""
    expected = {tensor.name: tensor.shape for tensor in checkpoint.plan().tensors}
    lines = mismatches(expected, checkpoint.evaluated().state)
    if len(checkpoint.class_names) not in (0, checkpoint.spec.classes):
        named = len(checkpoint.class_names)
        lines.append(f"class_names: are {named}, for a network of {checkpoint.spec.classes}")
    if is_known_finite:  # What was looked at as it was written is still the same, by its digest.
        return lines
    own = {name: checkpoint.state[name] for name in expected if name in checkpoint.state}
    return lines + _few_finite(finite_problems(own), len(own))


def _few_finite(lines: list[str], of: int) -> list[str]:
    """Return the lines on tensors with NaN, or one for many."""
    if len(lines) <= MOST_LINES:
        return lines
    first = f"{len(lines)} of {of} hold NaN or infinite values; the first: {lines[0]}"
    return [f"tensors: {first}; and {len(lines) - 1} more"]


def mismatches(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Array]) -> list[str]:
    """Return a line per missing, unexpected and misshapen name, one for many; [] if all fit."""
    lines = [f"{name}: is missing" for name in expected if name not in state]
    lines += [f"{name}: is unexpected" for name in state if name not in expected]
    lines += [
        f"{name} = {list(state[name].shape)}: must have shape {list(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    return few(lines)
