"""What is compiled is kept where RESNET_SPEC_CACHE says, and comes back with the same numbers."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from several import ended, start
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.compile_cache import VARIABLE, compile_cache
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import BackendError
from resnet_spec.planning.lowering import lower
from resnet_spec.weights.checkpoint import load_checkpoint


def test_nothing_is_kept_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert compile_cache("flax") is None
    monkeypatch.setenv(VARIABLE, "")
    assert compile_cache("flax") is None


def test_each_backend_has_a_folder_of_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kept"))
    found = {compile_cache(name) for name in ("flax", "torch", "flax")}
    assert found == {tmp_path / "kept" / "flax", tmp_path / "kept" / "torch"}
    assert {path.stat().st_mode & 0o777 for path in found if path} == {0o700}
    assert not list((tmp_path / "kept" / "flax").iterdir())


@pytest.mark.parametrize("backend", ["flax", "torch"])
def test_a_folder_that_cannot_be_written_to_is_one_line(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("jax" if backend == "flax" else backend)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    out = tmp_path / "run"
    arguments = ["--backend", backend, "--compile", "--input-size", "8", "--out", str(out)]
    assert main(["train", str(tmp_path / "tiny.toml"), *arguments]) == 2
    rule = "is no folder that compiled programs can be kept in (Not a directory)"
    line = f"{VARIABLE} = {tmp_path / 'file'}: {rule}; name another, or unset it"
    assert capsys.readouterr().err == f"resnet-spec: error: {line}\n"
    assert not out.exists()


# --- JAX ------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return `keep_programs` with a folder to keep in; JAX is left as it was."""
    jax = pytest.importorskip("jax")
    cache: Any = importlib.import_module("jax.experimental.compilation_cache.compilation_cache")
    module: Any = importlib.import_module("resnet_spec_flax.kept_programs")
    usual = {
        "jax_compilation_cache_dir": None,
        "jax_persistent_cache_min_compile_time_secs": 1.0,
    }
    before = {name: getattr(jax.config, name) for name in usual}
    for name, value in usual.items():
        jax.config.update(name, value)
    cache.reset_cache()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kept"))
    yield module.keep_programs
    for name, value in before.items():
        jax.config.update(name, value)
    cache.reset_cache()


def test_jax_keeps_every_program(kept: Any, tmp_path: Path) -> None:
    jax = pytest.importorskip("jax")
    jax.jit(lambda x: x + 1.25)(1.0)  # Which is not kept; what comes after it is.
    kept()
    assert jax.jit(lambda x: x * 3.75)(2.0) == 7.5
    assert [path.name for path in (tmp_path / "kept" / "flax").iterdir()]


def test_a_folder_given_to_jax_remains(kept: Any, tmp_path: Path) -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    kept()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1.0


@pytest.mark.thorough
def test_a_second_start_compiles_nothing_and_has_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    (tmp_path / "tiny.toml").write_text(TINY)
    kept, command = tmp_path / "kept", ["-m", "resnet_spec", "train", str(tmp_path / "tiny.toml")]
    command += ["--backend", "flax", "--input-size", "8", "--set", "steps=2"]
    states: list[Any] = []
    files: list[set[str]] = []
    for name in ("first", "second", "usual"):
        more = {} if name == "usual" else {VARIABLE: str(kept)}
        environment = {**{k: os.environ[k] for k in os.environ if "JAX_" not in k}, **more}
        out = str(tmp_path / name)
        (found,) = ended([start([*command, "--out", out], environment)], 300)
        assert found[0] == 0 and "warning" not in found[1].lower(), found[1]
        states.append(load_checkpoint(tmp_path / name / "last.safetensors").state)
        files.append({p.name for p in (kept / "flax").iterdir() if p.name.endswith("-cache")})
    assert len(files[0]) > 5 and files[1] == files[0]
    for state in states[:2]:
        assert state.keys() == states[2].keys()
        assert all(state[name].tobytes() == states[2][name].tobytes() for name in state)


# --- torch and MindSpore --------------------------------------------------------------------------


def test_torch_compile_has_its_folder_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    devices: Any = importlib.import_module("resnet_spec_torch.devices")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(devices.shutil, "which", lambda name: name)
    for own, expected in ((None, tmp_path / "torch"), (tmp_path / "own", tmp_path / "own")):
        with monkeypatch.context() as patch:
            if own is None:
                patch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
            else:
                patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(own))
            devices.ready_compiler(torch.device("cpu"))
            assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(expected)
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


def test_mindspore_s_own_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mindspore")
    backend: Any = importlib.import_module("resnet_spec_mindspore")
    conditions: Any = importlib.import_module("resnet_spec_mindspore.conditions")
    monkeypatch.setenv("MS_COMPILER_CACHE_ENABLE", "1")
    with pytest.raises(BackendError) as caught:
        backend.Session(lower(load_spec("resnet20_cifar")))
    (line,) = caught.value.problems
    assert line.startswith("MS_COMPILER_CACHE_ENABLE = 1: ") and line.endswith("; unset it")
    assert line in conditions.conditions()
