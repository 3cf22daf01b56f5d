"""Checkpoints: one safetensors file that holds the arrays and everything needed to go on.

The metadata has a single key, `resnet_spec`, with canonical JSON: with several keys the format's
bytes differ from save to save. A digest of the tensors in it tells a damaged file from a sound one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from resnet_spec.contract import Array, State
from resnet_spec.errors import CheckpointError, RecipeError, SpecError
from resnet_spec.files import replacing
from resnet_spec.lowering import lower
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe
from resnet_spec.spec import Spec
from resnet_spec.weights.safetensors_file import mapped_safetensors
from resnet_spec.weights.weight_file import finite_problems

FORMAT = 1
_KEY = "resnet_spec"


@dataclass(frozen=True)
class Checkpoint:
    """A network's state with its description and, in the middle of a run, where the run stands.

    state: what `Session.state` returns. class_names: () when unknown. data: how the training data
    was named on the command line. progress: what `fit` needs to go on, {} for weights alone.
    """

    spec: Spec
    state: State = field(repr=False)
    recipe: Recipe | None = None
    backend: Mapping[str, str] = field(default_factory=dict[str, str])
    data: str = ""
    class_names: tuple[str, ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def plan(self) -> Plan:
        """Return the plan of the spec at the size it was trained with."""
        return lower(self.spec)

    def evaluated(self) -> Checkpoint:
        """Return weights alone, the moving average where there is one, as evaluation uses them."""
        plain = {name: a for name, a in self.state.items() if not name.startswith(_SLOTS)}
        average = {
            name.removeprefix("ema/"): a
            for name, a in self.state.items()
            if name.startswith("ema/")
        }
        return replace(self, state={**plain, **average}, progress={})


_SLOTS = ("momentum/", "ema/", "loss_scale/")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all.

    Raises CheckpointError when the folder cannot be written.
    """
    from safetensors import numpy as safetensors

    # The format's writer corrupts arrays that are not contiguous.
    arrays = {name: np.ascontiguousarray(a) for name, a in sorted(checkpoint.state.items())}
    header = {
        "format": FORMAT,
        "spec": checkpoint.spec.to_dict(),
        "recipe": None if checkpoint.recipe is None else checkpoint.recipe.to_dict(),
        "backend": dict(checkpoint.backend),
        "data": checkpoint.data,
        "class_names": list(checkpoint.class_names),
        "progress": dict(checkpoint.progress),
        "digest": _digest(arrays),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    try:
        with replacing(path) as temporary:
            cast(Any, safetensors).save_file(arrays, temporary, metadata={_KEY: text})
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint written by `save_checkpoint`. Executes nothing.

    Raises CheckpointError for a file that is missing, damaged, of another kind, or that does not
    fit its own spec.
    """
    header, arrays = _read(path)
    if header.get("format") != FORMAT:
        found = header.get("format")
        raise CheckpointError(
            f"{path}: has format {found}, and this version reads {FORMAT}; update"
        )
    if not _matches(header.get("digest"), arrays):
        raise CheckpointError(f"{path}: its tensors do not match their digest; the file is damaged")
    try:
        spec = Spec.from_dict(header["spec"])
        recipe = None if header["recipe"] is None else Recipe.from_dict(header["recipe"])
        checkpoint = Checkpoint(
            spec=spec,
            state=arrays,
            recipe=recipe,
            backend=dict(header["backend"]),
            data=str(header["data"]),
            class_names=tuple(header["class_names"]),
            progress=dict(header["progress"]),
        )
    except (KeyError, TypeError, SpecError, RecipeError) as error:
        raise CheckpointError(f"{path}: its header is damaged: {error}") from None
    _check_tensors(path, checkpoint)
    return checkpoint


def _read(path: Path) -> tuple[dict[str, Any], State]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        with cast(Any, safe_open)(path, framework="np") as file:
            metadata: dict[str, str] = file.metadata() or {}
            text = metadata.get(_KEY)
            if text is None:
                raise CheckpointError(
                    f"{path}: is a safetensors file without a resnet_spec header; "
                    "it was not written by this tool"
                )
        return json.loads(text), mapped_safetensors(path)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a sound safetensors file: {error}") from None


def _check_tensors(path: Path, checkpoint: Checkpoint) -> None:
    """Refuse a file whose tensors are not those of its own spec, or are not finite."""
    expected = {tensor.name: tensor.shape for tensor in checkpoint.plan().tensors}
    lines = mismatches(expected, checkpoint.evaluated().state)
    own = {name: checkpoint.state[name] for name in expected if name in checkpoint.state}
    lines += finite_problems(own)
    if lines:
        raise CheckpointError(*(f"{path}: {line}" for line in lines))


def mismatches(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Array]) -> list[str]:
    """Return one line per missing, unexpected and misshapen name; empty when `state` fits."""
    lines = [f"{name}: is missing" for name in expected if name not in state]
    lines += [f"{name}: is unexpected" for name in state if name not in expected]
    lines += [
        f"{name} = {list(state[name].shape)}: must have shape {list(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    return lines


_PIECE = 4 << 20


def _digest(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 digest of all names, types, shapes, and digests of pieces of 4 MiB.

    Pieces are hashed side by side: one after another they would take as long as all the rest.
    """
    digest, pieces = hashlib.sha256(), list[memoryview]()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        pieces += (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
    with ThreadPoolExecutor() as pool:
        for piece in pool.map(_hashed, pieces):
            digest.update(piece)
    return f"sha256-pieces:{digest.hexdigest()}"


def _hashed(piece: memoryview) -> bytes:
    return hashlib.sha256(piece).digest()


def _plain_digest(arrays: Mapping[str, Array]) -> str:
    """Return the digest that earlier versions wrote, over all bytes in a row."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def _matches(digest: object, arrays: Mapping[str, Array]) -> bool:
    is_plain = isinstance(digest, str) and digest.startswith("sha256:")
    return digest == (_plain_digest if is_plain else _digest)(arrays)
