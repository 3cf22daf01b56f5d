"""Where memory runs out, one line says what was wanted and how less is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import here as here

import resnet_spec
from resnet_spec.cli import evaluate as evaluate_command
from resnet_spec.cli.main import main
from resnet_spec.errors import BackendError, RecipeError, out_of_memory
from resnet_spec.planning.costs import describe
from resnet_spec.running import evaluate, training

SAID = [
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((64, 4096, 4096, 3), np.dtype("u1")),  # pyright: ignore
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 2147483648 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of ..."),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.\nmore\n"),
    RuntimeError("\n----\n- Framework Error:\nMemory not enough: current free memory size[0]\n"),
    RuntimeError("Allocate memory failed, size 17179869184"),
    RuntimeError("std::bad_alloc"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", SAID, ids=lambda it: type(it).__name__)
def test_how_frameworks_say_it_is_known(error: Exception) -> None:
    said = out_of_memory(error)
    assert said is not None and "\n" not in said and len(said) < 170


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError(""), RecipeError("out of memory")]
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert out_of_memory(error) is None


def fails(*_: Any, **__: Any) -> Any:
    raise SAID[4]


def test_a_run_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pass keeps is by `describe`; the folder tells of it, too."""
    monkeypatch.setattr(training, "fit", fails)
    settings = ["epochs=2", "batch=128", "accumulate=2", "evaluation.size=64"]
    settings += ["augment.progressive=[8]"]
    fixed = {"backend": "numpy", "settings": settings, "out": tmp_path / "run"}
    with pytest.raises(BackendError) as caught:
        resnet_spec.train("resnet20_cifar", **fixed)
    described = describe(resnet_spec.lower("resnet20_cifar", 16))
    gigabytes = 64 * described.activation_bytes / 1e9
    assert str(caught.value) == (
        "memory = RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.: is not enough: a "
        f"pass over 64 images of 16 px keeps about {gigabytes:.2g} GB in float32, and evaluations "
        "take 256 of 64 px at once; lower evaluation.size, lower batch or --input-size, raise "
        "accumulate, lower augment.progressive or set remat=all"
    )


def test_a_run_that_fails_so_leaves_its_word(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wants(*_: Any, **__: Any) -> Iterator[Any]:
        raise SAID[1]

    monkeypatch.setattr(evaluate, "_even", wants)
    line = ["train", "tiny.toml", "--backend", "numpy", "--set", "epochs=1", "--input-size", "8"]
    assert main([*line, "--set", "batch=512", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("resnet-spec: error: memory = Unable to allocate 3.00 GiB for an array")
    assert "Traceback" not in said and said.count("\n") == 1
    kept = json.loads((here / "run" / "summary.json").read_text())
    assert not kept["complete"] and kept["failed"].startswith("Unable to allocate 3.00 GiB")


def test_every_command_says_it_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate_command, "run", fails)
    assert main(["evaluate", "any.safetensors", "--backend", "numpy"]) == 2
    assert capsys.readouterr().err == (
        "resnet-spec: error: memory = RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 "
        "bytes.: is not enough; take fewer images at once (--batch), or smaller ones\n"
    )
