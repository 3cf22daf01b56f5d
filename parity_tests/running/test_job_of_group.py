"""Of several processes the first one alone sees the run's folder, and reads it for all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from several import ended, environments
from tiny_run import NETWORK as TINY
from tiny_run import Stopped, Stops

import resnet_spec
from resnet_spec.cli import evaluate as evaluate_command
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.group import Group
from resnet_spec.loader import installed_backends
from resnet_spec.running import job_of_group
from resnet_spec.running.job import job_of
from resnet_spec.running.job_of_group import in_common, job_together
from resnet_spec.running.request import Request
from resnet_spec.running.together import Together
from resnet_spec.weights.checkpoint import load_checkpoint


class Recorded:
    """Rank 0's side of every message; then what rank 1 hears of it."""

    def __init__(self, heard: list[NDArray[np.float64]] | None = None) -> None:
        self.said = list[NDArray[np.float64]]()
        self._heard = heard

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._heard is None:
            self.said.append(values)
            return np.stack([values, np.zeros_like(values)])
        assert values.shape == self._heard[0].shape  # All give as many.
        return np.stack([self._heard.pop(0), values])

    def leave(self) -> None:
        pass


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 6 * 65_536, 6 * 65_536 + 1, 1_000_003])
def test_bytes_of_the_first_are_everybody_s(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    first = Recorded()
    assert Together(Group(0, 2), first).shared(data) == data
    assert Together(Group(1, 2), Recorded(first.said)).shared(b"something else") == data
    assert Together().shared(data) == data


@pytest.mark.parametrize(
    ("backend", "device", "precision", "line"),
    [
        ("torch", "tpu9", "float32", "device = tpu9: cannot be used by torch here; "),
        ("torch", "auto", "bfloat16", ""),
        ("flax", "auto", "bfloat16", ""),
        ("mindspore", "auto", "float64", "precision = float64: is not one of mindspore's"),
        ("mindspore", "cpu", "bfloat16", "precision = bfloat16: MindSpore has no bfloat16 convo"),
        ("mindspore", "tpu", "float32", "device = tpu: is not one of MindSpore's"),
        ("mindspore", "auto", "float16", ""),
    ],
)
def test_what_no_session_can_have_is_refused_before_they_meet(
    backend: str,
    device: str,
    precision: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    met = list[str]()
    monkeypatch.setattr(
        job_of_group, "joined", lambda *given: met.append(given[0]) or nullcontext()
    )
    settings = ["batch=8", f"precision={precision}"]
    request = Request(
        spec=TINY, backend=backend, device=device, settings=settings, input_size=8, out=tmp_path
    )
    try:
        with job_together(request, lambda said: None, Group(1, 2, "localhost:1")):
            pass
        problems = [""]
    except BackendError as error:
        problems = list(error.problems)
    assert [problem[: len(line)] for problem in problems] == [line]
    assert met == ([] if line else [backend])


def test_other_weights_to_begin_with_are_another_checkpoint(tmp_path: Path) -> None:
    def told(seed: int) -> dict[str, object]:
        given: dict[str, Any] = {"backend": "numpy", "out": tmp_path / "run", "head": "keep"}
        weights = tmp_path / f"{seed}" / "last.safetensors"
        if not weights.exists():
            settings = ("steps=1", "batch=8", f"seed={seed}")
            out = weights.parent
            resnet_spec.train(TINY, "numpy", settings=settings, input_size=8, out=out)
        return in_common(job_of(Request(**given, pretrained=weights), lambda line: None))

    one, other = told(1), told(2)
    assert [name for name in one if one[name] != other[name]] == ["checkpoint"]
    assert told(1) == one


class Labelled:
    """A split that says nothing of its images."""

    def __init__(self, *labels: int) -> None:
        self.labels = np.array(labels)

    def __len__(self) -> int:
        return len(self.labels)


ONE = Labelled(0, 1, 1)
EVALUATED: dict[str, dict[str, Any]] = {
    "checkpoint": {"bias": 2.0},
    "data": {"split": Labelled(0, 1, 0)},
    "--crop": {"crop": 0.5},
}


@pytest.mark.parametrize("name", EVALUATED)
def test_what_is_evaluated_together_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[Any]()

    def met(backend: str, group: Group, things: dict[str, object]) -> None:
        heard.append(things)
        raise BackendError("that is all")

    def evaluated(bias: float = 1.0, split: Any = ONE, crop: float = 1.0) -> None:
        args: Any = SimpleNamespace(backend="torch", precision="float32", batch=8, split="test")
        args.crop, args.engine = crop, None
        state = {"fc.bias": np.full(2, bias, np.float32)}
        loaded: Any = SimpleNamespace(weights=SimpleNamespace(state=state, view=None))
        loaded.spec = resnet_spec.load_spec("resnet18")
        loaded.data = SimpleNamespace(classes=("a", "b"))
        with pytest.raises(BackendError, match="that is all"):
            evaluate_command._evaluated(args, loaded, split, Group(1, 2))

    monkeypatch.setattr("resnet_spec.running.meeting.joined", met)
    evaluated()
    evaluated(**EVALUATED[name])
    evaluated()
    one, other, same = heard
    assert [key for key in one if one[key] != other[key]] == [name] and one == same


def begun(out: Path) -> None:
    """Leave a run that has one of its three epochs behind it."""
    settings = ("epochs=3", "batch=512", "precision=float64")
    with pytest.raises(Stopped):
        resnet_spec.train(
            TINY,
            "numpy",
            settings=settings,
            input_size=8,
            out=out,
            watch=Stops(),
            say=lambda line: None,
        )


def gone_on(folders: list[Path], *more: str) -> list[tuple[int, str]]:
    """Go on with `run`, a process in each folder, which need not hold it."""
    line = [sys.executable, "-P", "-m", "resnet_spec", "train", "--resume", "run", *more]
    return ended(
        [
            subprocess.Popen(
                line, cwd=folder, env=env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for folder, env in zip(folders, environments(len(folders)), strict=True)
        ],
        120,
    )  # fmt: skip


@pytest.mark.skipif("torch" not in installed_backends(), reason="torch is not installed")
def test_a_process_that_does_not_see_the_run_goes_on_with_it(tmp_path: Path) -> None:
    seen, unseen, alone = (tmp_path / name for name in ("seen", "unseen", "alone"))
    begun(seen / "run")
    shutil.copytree(seen, alone)
    unseen.mkdir()
    for _ in range(2):  # The second time it is finished, as the first process knows.
        ends = gone_on([seen, unseen], "--backend", "torch")
        assert [status for status, _ in ends] == [0, 0], ends
        assert list(unseen.iterdir()) == []
    assert resnet_spec.train(resume=alone / "run", backend="torch").complete
    found, whole = (load_checkpoint(at / "run" / "last.safetensors") for at in (seen, alone))
    assert found.progress["step"] == whole.progress["step"] == 6
    for name, array in whole.state.items():
        assert np.allclose(found.state[name], array, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, None])
def test_the_one_before_says_the_backend_where_the_last_is_damaged(
    damage: bytes | None, tmp_path: Path
) -> None:
    begun(tmp_path / "run")
    last, before = (tmp_path / "run" / f"{name}.safetensors" for name in ("last", "previous"))
    shutil.copy(last, before)
    if damage is None:
        last.unlink()
    else:
        last.write_bytes(damage)
    request = Request(resume=tmp_path / "run")
    group = Group(1, 2, "127.0.0.1:1")
    with (
        pytest.raises(BackendError, match="backend = numpy: cannot be one of 2 processes"),
        job_together(request, print, group),
    ):
        pass
    before.write_bytes(b"")
    rule = (
        "previous.*is empty" if damage is None else "neither of its checkpoints can be gone on from"
    )
    with (
        pytest.raises((CheckpointError, BackendError), match=rule),
        job_together(request, print, group),
    ):
        pass


def test_it_has_to_be_told_the_backend(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    request = Request(resume=tmp_path / "run")
    with (
        pytest.raises(BackendError, match="backend = numpy: cannot be one of 2 processes"),
        job_together(request, print, Group(1, 2, "127.0.0.1:1")),
    ):
        pass
