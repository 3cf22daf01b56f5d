"""`resnet-spec backends`: what is known to be slow or wrong here, and --check."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import loader
from resnet_spec.cli.main import main
from resnet_spec.running import trial

ROOT = Path(__file__).parents[2]
AVX512 = "flags : sse4_1 avx avx2 avx512f avx512bw avx512vl avx512dq"


def conditions(backend: str, cpu: str = "", gpu: bool = False, here: bool = True) -> Any:
    """Return the function of the backend's file, on a machine with this CPU and GPU."""
    file = ROOT / "backends" / f"resnet_spec_{backend}" / "conditions.py"
    found = runpy.run_path(str(file))["conditions"]

    class Fake:
        def exists(self) -> bool:
            return gpu

        def read_text(self, **_: object) -> str:
            return cpu

    found.__globals__["find_spec"] = lambda name: ModuleSpec(name, None) if here else None
    found.__globals__["has_avx512"] = lambda: "avx512f" in cpu
    for name in ("NVIDIA", "CPUINFO"):
        found.__globals__[name] = Fake()
    return found


@pytest.fixture(autouse=True)
def _a_python_with_packages_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this Python be one that every framework has packages for: its version is a condition."""
    if sys.version_info >= (3, 13):
        monkeypatch.setattr(sys, "version_info", (3, 12, 0))


CAPPED = "keeps torch's convolutions below the CPU's instruction sets; unset it"
SLOW = "MindSpore's convolutions are many times slower with AVX-512; unset it"
HIDDEN = "hides the GPU; unset it"


@pytest.mark.parametrize(
    ("backend", "environment", "lines"),
    [
        ("torch", {}, []),
        ("torch", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, [f"ONEDNN_MAX_CPU_ISA = AVX2: {CAPPED}"]),
        ("torch", {"DNNL_MAX_CPU_ISA": "avx"}, [f"DNNL_MAX_CPU_ISA = AVX: {CAPPED}"]),
        ("torch", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, []),
        (
            "torch",
            {"ATEN_CPU_CAPABILITY": "default"},
            ["ATEN_CPU_CAPABILITY = default: torch uses no vector instructions; unset it"],
        ),
        (
            "flax",
            {"JAX_DISABLE_JIT": "1"},
            ["JAX_DISABLE_JIT = 1: compiles nothing, which is slow; unset it"],
        ),
        ("flax", {"JAX_PLATFORMS": "cpu"}, []),
        (
            "flax",
            {"JAX_PLATFORMS": "cuda"},
            [
                "JAX_PLATFORMS = cuda: is a platform that is not there; "
                "unset JAX_PLATFORMS, or set it to cpu"
            ],
        ),
        ("mindspore", {}, []),
        (
            "mindspore",
            {"RESNET_SPEC_MINDSPORE_ISA": "default"},
            [f"RESNET_SPEC_MINDSPORE_ISA = default: {SLOW}"],
        ),
        (
            "mindspore",
            {"RESNET_SPEC_MINDSPORE_ISA": "avx512"},
            ["RESNET_SPEC_MINDSPORE_ISA = avx512: must be avx2 or default; unset it"],
        ),
        ("mindspore", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, []),
        ("mindspore", {"ONEDNN_MAX_CPU_ISA": "ALL"}, [f"ONEDNN_MAX_CPU_ISA = ALL: {SLOW}"]),
        (
            "mindspore",
            {"MS_JIT": "0"},
            ["MS_JIT = 0: switches graph mode off, in which sessions run; unset it"],
        ),
    ],
)
def test_what_is_slow_on_a_cpu_with_avx512(
    backend: str, environment: dict[str, str], lines: list[str]
) -> None:
    assert conditions(backend, cpu=AVX512)(environment) == lines


@pytest.mark.parametrize("backend", ["torch", "mindspore"])
def test_an_older_cpu_has_nothing_to_lose(backend: str) -> None:
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX2", "RESNET_SPEC_MINDSPORE_ISA": "default"}
    assert conditions(backend, cpu="flags : avx avx2")(environment) == []


@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.parametrize("value", ["", "-1"])
def test_a_gpu_that_is_hidden(backend: str, value: str) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": value}
    assert conditions(backend)(environment) == []
    expected = [f"CUDA_VISIBLE_DEVICES = {value!r}: {HIDDEN}"]
    assert conditions(backend, gpu=True)(environment) == expected


def test_a_gpu_beside_a_build_for_cpus() -> None:
    found = conditions("torch", gpu=True)
    found.__globals__["version"] = lambda name: "2.13.0+cpu"
    (line,) = found({})
    assert line.startswith("torch = 2.13.0+cpu: is built for CPUs, and a GPU is there; install")
    found.__globals__["version"] = lambda name: "2.13.0"
    assert found({}) == []


@pytest.mark.parametrize("backend", ["torch", "flax", "mindspore"])
def test_a_framework_that_is_missing_is_not_slow(backend: str) -> None:
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX", "JAX_PLATFORMS": "cuda", "MS_JIT": "0"}
    assert conditions(backend, cpu=AVX512, gpu=True, here=False)(environment) == []


def test_a_python_without_packages_of_mindspore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    (line,) = conditions("mindspore", here=False)({})
    assert line == "Python = 3.14: MindSpore has packages up to 3.12; use Python 3.12"


def test_the_command_prints_a_note_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "conditions_of", lambda name: [f"{name} = slow: unset it"])
    assert main(["backends"]) == 0
    assert "note: torch: torch = slow: unset it" in capsys.readouterr().out.splitlines()
    assert main(["backends", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["notes"] for row in rows}["numpy"] == ["numpy = slow: unset it"]
    assert {row["works"] for row in rows} == {None}


def test_conditions_that_cannot_be_read_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModuleSpec("other", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(loader.importlib.util, "find_spec", lambda name: spec)
    assert loader.conditions_of("numpy") == []
    (tmp_path / "conditions.py").write_text("def conditions(): raise ValueError('no')")
    expected = ["backend = numpy: conditions.py cannot be run: no"]
    assert loader.conditions_of("numpy") == expected


# --- --check --------------------------------------------------------------------------------------


def test_a_backend_is_run_in_a_process_of_its_own() -> None:
    found = trial.tried("numpy")
    assert found.works and found.info["device"] == "cpu" and found.notes == []
    found = trial.tried("nosuch")
    assert not found.works and found.notes[0].startswith("backend = nosuch: does not exist")


@pytest.mark.parametrize(
    ("child", "note"),
    [
        ("import os; os.kill(os.getpid(), 9)", "its process was ended by SIGKILL (out of memory?)"),
        ("import sys; sys.exit('no driver')", "its process ended with status 1: no driver"),
        ("import time; time.sleep(60)", "does not start within 2 s"),
    ],
)
def test_a_process_that_ends_is_one_line(
    child: str, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = trial.subprocess.run
    command = [sys.executable, "-c", child]
    monkeypatch.setattr(trial.subprocess, "run", lambda _, **more: real(command, **more))
    monkeypatch.setattr(trial, "_SECONDS", 2)
    assert trial.tried("numpy") == trial.Trial(False, notes=[note])


def test_one_that_fails_is_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    works = trial.Trial(True, {"device": "cuda:0", "isa": "AVX2 (capped)"})
    monkeypatch.setattr(trial, "tried", lambda name: works)
    assert main(["backends", "--check"]) == 0
    assert "works on cuda:0, AVX2 (capped)" in capsys.readouterr().out
    fails = trial.Trial(False, notes=["no driver"])
    monkeypatch.setattr(trial, "tried", lambda name: fails)
    assert main(["backends", "--check"]) == 1
    assert "note: numpy: no driver" in capsys.readouterr().out
