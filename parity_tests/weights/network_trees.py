"""A small network, and trees of tensors that hold it in their midst."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Array, State
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.lifting import to_file
from resnet_spec.weights.recognising.recognise import Recognised, recognise_file

torch = pytest.importorskip("torch")


CLASSES = 7
SPEC = load_spec(
    {
        "name": "small",
        "block": "basic",
        "classes": CLASSES,
        "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
        "stages": [{"width": 4, "blocks": 1}, {"width": 8, "blocks": 2, "stride": 2}],
    }
)
PLAN = lower(SPEC)
STATE = initial_state(PLAN, 1)
FEATURES = 8

Tree = dict[Any, Any]
Tensors = Mapping[str, Any]


def named(name: str = "timm", state: State = STATE) -> dict[str, Any]:
    return {key: torch.tensor(it) for key, it in to_file(PLAN, scheme(name), state).items()}


NET = named()
BODY = {key: it for key, it in NET.items() if not key.startswith("fc.")}
HEAD = {key: it for key, it in NET.items() if key.startswith("fc.")}
OTHER = {key: it + 1 for key, it in NET.items()}


def below(prefix: str, tensors: Tensors = NET) -> dict[str, Any]:
    return {f"{prefix}{name}": it for name, it in tensors.items()}


def inside(step: str, tensors: Tensors = NET) -> dict[str, Any]:
    """Return names with `step` after the first one, as torch's wrappers have it."""
    firsts = {name: name.partition(".")[0] for name in tensors}
    return {
        f"{first}.{step}.{name.removeprefix(f'{first}.')}": tensors[name]
        for name, first in firsts.items()
    }


def numbered(roles: Mapping[str, str], tensors: Tensors = BODY) -> dict[str, Any]:
    return {
        ".".join([roles[(parts := name.split("."))[0]], *parts[1:]]): it
        for name, it in tensors.items()
    }


def found(tree: object, folder: Path, part: str | None = None) -> Recognised:
    torch.save(tree, folder / "w.pth")
    return recognise_file(folder / "w.pth", part=part)


def refusal(tree: object, folder: Path, part: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        found(tree, folder, part)
    (line,) = caught.value.problems
    return line


def same(one: Mapping[str, Array], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def layer(path: str, *shape: int) -> dict[str, Any]:
    return {f"{path}.weight": torch.ones(*shape), f"{path}.bias": torch.ones(shape[0])}
