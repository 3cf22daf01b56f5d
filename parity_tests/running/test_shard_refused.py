"""What a backend's manifest does not offer is refused: one line, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec.cli.main import main
from resnet_spec.loader import installed_backends, manifest_of
from resnet_spec.running import job_of_group, launching, meeting
from resnet_spec.running.request import Request

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


@pytest.mark.parametrize(
    ("nodes", "words", "is_refused"),
    [
        ("2", ["tiny.toml", "--backend", "mindspore"], True),
        ("2", ["--resume", "run"], True),
        ("2", ["--resume", "not_seen_here"], False),
        ("2", ["tiny.toml", "--backend", "torch"], False),
        ("1", ["tiny.toml", "--backend", "mindspore"], False),
    ],
)
def test_processes_that_would_not_notice_are_not_started_again_on_several_machines(
    nodes: str,
    words: list[str],
    is_refused: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"run": "mindspore"}
    monkeypatch.setattr(job_of_group, "_backend_in", lambda path: named.get(path.parent.name))
    monkeypatch.setattr(Request, "goes_on_from", lambda it: Path(it.resume) / "last.safetensors")
    monkeypatch.setattr(launching, "launched", lambda *given: 0)
    monkeypatch.setattr(meeting, "_keep", lambda failure, seconds: None)
    machines = ["--nodes", nodes, "--address", "first:1", "--max-restarts", "1"]
    status = main(["launch", "--processes", "1", *machines, "--", "train", *words])
    line = (
        "resnet-spec: error: --max-restarts: mindspore does not notice at once that a process on "
        "another machine is lost; leave it out, and have the cluster start all again, with train "
        "--auto-resume\n"
    )
    assert (status, capsys.readouterr().err) == ((2, line) if is_refused else (0, ""))


@pytest.mark.parametrize("backend", WHOLE)
def test_their_manifests_say_so(backend: str) -> None:
    found = manifest_of(backend)
    assert found is not None and not found.shards
