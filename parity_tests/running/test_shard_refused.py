"""`train --shard` and `--compile` with a backend that does not: one line, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec.cli.main import main
from resnet_spec.loader import installed_backends, manifest_of

WHOLE = ("numpy", "mindspore")


@pytest.mark.parametrize("backend", WHOLE)
def test_what_cannot_be_sharded_is_refused(
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    monkeypatch.chdir(tmp_path)
    arguments = ["--backend", backend, "--input-size", "8", "--set", "steps=1", "--shard"]
    assert main(["train", "resnet20_cifar", *arguments]) == 2
    rule = f"{backend} holds all parameters in every process"
    remedy = "leave it out, or use a backend that shards"
    assert capsys.readouterr().err == f"resnet-spec: error: --shard: {rule}; {remedy}\n"
    assert list(tmp_path.iterdir()) == []


def test_what_compiles_nothing_refuses_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--backend", "numpy", "--set", "steps=1", "--compile"]
    assert main(["train", "tiny.toml", *arguments]) == 2
    line = "resnet-spec: error: --compile: numpy compiles nothing; leave it out\n"
    assert capsys.readouterr().err == line
    assert [path.name for path in here.iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize("backend", WHOLE)
def test_their_manifests_say_so(backend: str) -> None:
    found = manifest_of(backend)
    assert found is not None and not found.shards
