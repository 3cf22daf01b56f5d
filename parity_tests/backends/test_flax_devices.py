"""JAX's platforms that are not there, in processes of their own: JAX starts them once."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import Any

import pytest

from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend

pytest.importorskip("jax")
load_backend("flax")
devices: Any = importlib.import_module("resnet_spec_flax.devices")

WAYS = """
from resnet_spec import build, load_spec, session
from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend
from resnet_spec.planning.lowering import lower

plan = lower(load_spec("resnet10", ["input.size=32"]))
ways = {
    "build": lambda: build("resnet10", "flax"),
    "session": lambda: session("resnet10", "flax", input_size=32),
    "cpu": lambda: session("resnet10", "flax", input_size=32, device="cpu"),
    "shapes": lambda: load_backend("flax").abstract_shapes(plan),
}
for name, way in ways.items():
    try:
        way()
    except BackendError as error:
        print(error)
    else:
        print(name, "did not raise")
"""


@pytest.mark.parametrize("platform", ["cuda", "nosuch,cpu"])
def test_a_platform_that_is_not_there_is_one_line_everywhere(platform: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAYS],
        env={**os.environ, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    if platform == "cuda" and any("did not raise" in line for line in lines):
        pytest.skip(f"this machine has {platform}")
    assert len(lines) == 4 and len(set(lines)) == 1, done.stdout + done.stderr
    assert lines[0].startswith(f"JAX_PLATFORMS = {platform}: ")
    assert lines[0].endswith("; unset JAX_PLATFORMS, or set it to cpu")
    assert ": is a platform that is not there;" in lines[0] or "cannot be started here" in lines[0]


@pytest.mark.parametrize("name", ["", ":0", "cpu:-1", "cpu:x", "cpu:4711", "nosuch", "CPU"])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(BackendError) as error:
        devices.find_device(name)
    assert error.value.problems[0].startswith(f"device = {name}: cannot be used by jax here; ")
    assert "auto" in str(error.value) and "cpu" in str(error.value)


def test_a_start_that_fails_without_a_text_names_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[Any]:
        raise AssertionError

    monkeypatch.setattr(devices.jax, "devices", fails)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(BackendError, match=r"AssertionError|platform that is not there"):
        devices.find_device("auto")
