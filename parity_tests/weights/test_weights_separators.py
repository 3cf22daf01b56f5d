"""Names joined with '/' are read as the same names joined with dots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import CheckpointError
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import read_weights, write_weights
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.conventions import applied
from resnet_spec.weights.naming.lifting import to_file
from resnet_spec.weights.recognising.recognise import recognise_file

NOTE = "names are joined with '/', and are read as with '.'"
VALUES = {f"params.conv{n}.kernel": np.full((2, n), n, np.float32) for n in (1, 2)}


def with_slashes(name: str) -> str:
    return name.replace(".", "/")


def with_output(name: str) -> str:
    return f"{with_slashes(name)}:0"


def from_the_root(name: str) -> str:
    return f"/{with_slashes(name)}"


def assert_equal(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def save(path: Path, values: dict[str, Any]) -> Path:
    """Write names as they are; `write_weights` would nest them in some kinds."""
    if path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".pth":
        write_weights(path, values)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file(values, path)
    else:
        serialization = pytest.importorskip("flax.serialization")
        path.write_bytes(serialization.msgpack_serialize(values))
    return path


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth", ".msgpack"])
@pytest.mark.parametrize("joined", [with_slashes, with_output, from_the_root])
def test_names_with_slashes_are_read(
    joined: Callable[[str], str], ending: str, tmp_path: Path
) -> None:
    values = {joined(name): value for name, value in VALUES.items()}
    state = {"opt_state/0/mu/conv1/kernel": np.ones(1, np.float32)}
    path = save(tmp_path / f"w{ending}", {**values, **state})
    if ending == ".npz" and joined is from_the_root:
        with pytest.raises(CheckpointError, match="has a member outside its folder, /params/conv"):
            read_weights(path)
        return
    file = read_weights(path)
    assert_equal(file.tensors, VALUES)
    assert file.notes == (NOTE, "left out: opt_state")


def test_names_with_dots_are_left_as_they_are(tmp_path: Path) -> None:
    file = read_weights(save(tmp_path / "w.npz", dict(VALUES)))
    assert_equal(file.tensors, VALUES)
    assert file.notes == ()


@pytest.mark.parametrize("names", ["jax-resnet", "mindcv", "timm"])
def test_a_network_is_recognised_by_either(names: str, tmp_path: Path) -> None:
    spec = applied(scheme(names), load_spec("resnet10", [f"stages[{n}].width=8" for n in range(4)]))
    plan = lower(spec)
    tensors = to_file(plan, scheme(names), initial_state(plan, 0))
    write_weights(tmp_path / "dots.npz", tensors)
    save(tmp_path / "slashes.npz", {with_output(n): a for n, a in tensors.items()})
    dots, slashes = (recognise_file(tmp_path / f"{it}.npz") for it in ("dots", "slashes"))
    assert (slashes.scheme, slashes.spec) == (dots.scheme, dots.spec)
    assert_equal(slashes.tensors, dots.tensors)
    assert slashes.notes == (NOTE, *dots.notes)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a/b", "a.b"), ("a/b", "/a/b"), ("a/b", "a/b:0"), ("a/b", "a/b/c"), ("a/b/c", "a/b")],
)
def test_two_tensors_of_one_name_are_refused(one: str, other: str, tmp_path: Path) -> None:
    values = {one: np.ones(1, np.float32), other: np.zeros(1, np.float32)}
    write_weights(tmp_path / "w.pth", values)
    with pytest.raises(CheckpointError, match="has two tensors named a") as caught:
        read_weights(tmp_path / "w.pth")
    assert len(caught.value.problems) == 1
