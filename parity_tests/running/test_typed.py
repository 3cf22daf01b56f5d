"""What type checkers read: `pyright` checks the assertions here, and the wheel has the markers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

import resnet_spec
from resnet_spec.running import building, typed

ROOT = Path(__file__).parents[2]

if TYPE_CHECKING:
    from typing import assert_type

    from flax import nnx
    from mindspore.nn.cell import Cell  # pyright: ignore
    from torch import nn as torch_nn

    from resnet_spec.contract import Session

    assert_type(resnet_spec.build(Path("a.toml"), "mindspore", classes=3), Cell)
    assert_type(resnet_spec.build("resnet18", "torch"), torch_nn.Module)
    assert_type(resnet_spec.build({"base": "resnet18"}, backend="flax", seed=1), nnx.Module)
    assert_type(resnet_spec.build("resnet18", str(ROOT)), Any)
    assert_type(resnet_spec.session("resnet18", "torch").native, torch_nn.Module)
    assert_type(resnet_spec.session("resnet18", "flax", "demo", device="cpu").native, nnx.Module)
    assert_type(resnet_spec.session("resnet18", "mindspore"), typed.MindSporeSession)
    assert_type(resnet_spec.session("resnet18", str(ROOT)), Session)
    resnet_spec.build("resnet18", "torch", clases=3)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    "package", ["resnet_spec", *sorted(path.name for path in (ROOT / "backends").glob("resnet_*"))]
)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    folder = ROOT if package == "resnet_spec" else ROOT / "backends"
    assert (folder / package / "py.typed").read_bytes() == b""


@pytest.mark.parametrize(
    ("function", "options", "beside"),
    [
        (building.build, typed.BuildOptions, {"source", "backend"}),
        (building.session, typed.SessionOptions, {"source", "backend", "recipe"}),
    ],
)
def test_the_overloads_have_the_options_of_the_function(
    function: Any, options: type, beside: set[str]
) -> None:
    assert set(inspect.signature(function).parameters) - beside == set(options.__annotations__)
    assert get_type_hints(options)["classes"] == int | None


def test_the_types_import_no_framework() -> None:
    listed = "{'torch', 'jax', 'mindspore'} & {*sys.modules}"
    code = f"import sys, resnet_spec.running.typed; print({listed})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
