"""`--engine` of `predict` and `evaluate`: prints what a backend does, or says why not."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import heard
from pets import SETTINGS, SPEC, paint

import resnet_spec
from resnet_spec.cli.completion_words import all_words
from resnet_spec.cli.main import main
from resnet_spec.errors import BackendError
from resnet_spec.exporting import check_engine
from resnet_spec.exporting.engine_session import AT_ONCE
from resnet_spec.loader import export_formats, installed_backends, load_backend
from resnet_spec.plan import Plan
from resnet_spec.running.engines import ENGINES, Program
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.xdist_group("engines")

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with pets and a run on them; what is exported is kept and written once.

    Temporary files lie in `home / "made"`, where nothing of ours is left in the end.
    """
    home = tmp_path_factory.mktemp("pets")
    paint(home / "pets")
    given: dict[str, Any] = {"settings": SETTINGS, "out": home / "run", "input_size": 8}
    resnet_spec.train(SPEC, "numpy", home / "pets", **given)
    (home / "made").mkdir()
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(tempfile, "tempdir", str(home / "made"))
        if "torch" in installed_backends():
            _keep_exports(home, patching)
        yield home
    assert [it.name for it in (home / "made").iterdir() if it.name.startswith("resnet-spec")] == []


def _keep_exports(home: Path, patching: pytest.MonkeyPatch) -> None:
    package: Any = load_backend(export_formats()["onnx"].backend)
    module = importlib.import_module(f"{package.__name__}.export")
    write = module.write

    def kept(path: Path, plan: Plan, *args: Any, **more: Any) -> str:
        place, about = home / "kept.onnx", home / "kept.txt"
        if not place.exists():
            about.write_text(write(place, plan, *args, **more))
        shutil.copyfile(place, path)
        return about.read_text()

    patching.setattr(module, "write", kept)


def needs(engine: str) -> None:
    try:
        check_engine(engine)
    except BackendError as error:
        pytest.skip(str(error))


def weights(home: Path) -> str:
    return str(home / "run" / "last.safetensors")


def printed(capsys: Captured, *argv: str) -> list[str]:
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert list(heard(captured.err)) == []
    return captured.out.splitlines()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_evaluation_prints_what_a_backend_s_does(
    engine: str, home: Path, capsys: Captured
) -> None:
    needs(engine)
    # Of 36 images, neither 7 nor 16 is a divisor.
    start = ["evaluate", weights(home), "--batch", "7"]
    ours = printed(capsys, *start, "--engine", engine)
    theirs = printed(capsys, *start, "--backend", "numpy")
    notes = [line for line in ours if line.startswith(f"note: {engine} ")]
    assert len(notes) == 1
    assert ", runs an export by torch (onnx, opset " in notes[0]
    assert notes[0].endswith(" noise floors of the reference")
    ours.remove(notes[0])
    assert [line.replace(f", {engine}: ", ", numpy: ") for line in ours] == theirs
    assert any(f"pets test, {engine}: accuracy " in line for line in ours)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_written_of_an_evaluation(
    engine: str, home: Path, tmp_path: Path, capsys: Captured
) -> None:
    needs(engine)
    start = ["evaluate", weights(home), "--format", "json", "--predictions"]
    found = {}
    for option, name in (("--engine", engine), ("--backend", "numpy")):
        assert main([*start, str(tmp_path / f"{name}.csv"), option, name]) == 0
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
        found[name] = json.loads(capsys.readouterr().out), rows
    (ours, own_rows), (theirs, rows) = found[engine], found["numpy"]
    assert (ours["backend"], ours["engine"]) == (None, engine)
    assert (theirs["backend"], theirs["engine"]) == ("numpy", None)
    assert ours["environment"]["framework"] == engine
    assert ours["environment"]["precision"] == "float32"
    assert ours["classes"] == theirs["classes"]
    for name in ("accuracy", "count", "ties", "not_finite", "top5_accuracy"):
        assert ours[name] == theirs[name], name
    for name in ("loss", "calibration_error"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
    assert len(own_rows) == 36
    for row, other in zip(own_rows, rows, strict=True):
        assert row["prediction_name"] == other["prediction_name"]
        assert float(row["confidence"]) == pytest.approx(float(other["confidence"]), rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_are_a_backend_s(engine: str, home: Path, capsys: Captured) -> None:
    needs(engine)
    start = ["predict", weights(home), str(home / "pets" / "val"), "--format", "json"]
    found = {}
    for option, name in (("--engine", engine), ("--backend", "numpy")):
        assert main([*start, option, name]) == 0
        captured = capsys.readouterr()
        found[name] = json.loads(captured.out)
        assert (f"note: {name} " in captured.err) == (option == "--engine")
    assert len(found[engine]) == 36
    for row, other in zip(found[engine], found["numpy"], strict=True):
        assert row["image"] == other["image"]
        assert [it["class"] for it in row["classes"]] == [it["class"] for it in other["classes"]]
        shares = [[it["probability"] for it in one["classes"]] for one in (row, other)]
        np.testing.assert_allclose(shares[0], shares[1], rtol=1e-5)


def test_images_whose_logits_are_not_finite(
    home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is sound, as far as the check sees; some images are too much for it."""
    needs("onnxruntime")
    opened = ENGINES["onnxruntime"].open

    def open(path: Path, threads: int) -> Program:
        program = opened(path, threads)

        def run(images: Any) -> Any:
            logits = program.run(images)
            return logits * np.float32(np.nan) if len(logits) == 36 % AT_ONCE else logits

        return replace(program, run=run)

    monkeypatch.setitem(ENGINES, "onnxruntime", replace(ENGINES["onnxruntime"], open=open))
    assert main(["evaluate", weights(home), "--engine", "onnxruntime"]) == 1
    rule = "the logits of 4 of 36 images are not finite: there is no accuracy"
    assert list(heard(capsys.readouterr().err)) == [
        f"resnet-spec: error: tiny on pets test, onnxruntime: {rule}"
    ]


def error(capsys: Captured, *argv: str) -> str:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = heard(captured.err)
    return line.removeprefix("resnet-spec: error: ")


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("", "--backend: is required, or --engine; see: resnet-spec backends"),
        (
            "--backend numpy --engine onnxruntime",
            "--backend, --engine: one of them computes; leave the other out",
        ),
        (
            "--backend onnxruntime",
            "--backend = onnxruntime: is an engine; use --engine onnxruntime",
        ),
        (
            "--engine onnxrutime",
            "--engine = onnxrutime: must be onnxruntime or openvino; did you mean 'onnxruntime'?; "
            "see: resnet-spec {command} --help",
        ),
        (
            "--engine ort",
            "--engine = ort: must be onnxruntime or openvino; did you mean 'onnxruntime'?; "
            "see: resnet-spec {command} --help",
        ),
        (
            "--engine onnxruntime --device cuda:0",
            "--device = cuda:0: onnxruntime is set up on the CPU here; use auto, or cpu",
        ),
        (
            "--engine openvino --precision bfloat16",
            "--precision = bfloat16: openvino computes in float32 here; use a backend",
        ),
    ],
)
def test_what_means_nothing_is_refused(
    command: str, more: str, line: str, home: Path, capsys: Captured
) -> None:
    image = [str(home / "pets" / "val" / "cat" / "00.png")] if command == "predict" else []
    found = error(capsys, command, weights(home), *image, *more.split())
    assert found == line.format(command=command)


def test_several_processes_are_refused(
    home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resnet_spec.running import meeting

    monkeypatch.setattr(meeting, "_keep", lambda *failure: None)  # Nobody waits for this one.
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", **address}.items():
        monkeypatch.setenv(name, value)
    line = "--engine = onnxruntime: cannot be one of 2 processes; start one process of it"
    assert error(capsys, "evaluate", weights(home), "--engine", "onnxruntime") == line


def test_a_check_that_fails_is_one_line_and_nothing_is_written(
    home: Path, tmp_path: Path, capsys: Captured
) -> None:
    needs("onnxruntime")
    last = load_checkpoint(home / "run" / "last.safetensors")
    other = {**last.state, "fc.bias": last.state["fc.bias"] + np.float32(1e-3)}
    path, out = tmp_path / "other.safetensors", tmp_path / "p.csv"
    save_checkpoint(path, type(last)(**{**vars(last), "state": other}))
    needed = ["evaluate", weights(home), "--engine", "onnxruntime"]
    assert main(needed) == 0  # So that the file is kept; those weights are another network.
    capsys.readouterr()
    data = ["--data", str(home / "pets"), "--predictions", str(out)]
    line = error(capsys, "evaluate", str(path), *data, "--engine", "onnxruntime")
    assert line.startswith("engine = onnxruntime: the logits of onnxruntime are ")
    end = "8 is the limit, and nothing is computed; use a backend"
    assert line.endswith(f" noise floors from the reference; {end}")
    assert not out.exists()


def test_a_missing_engine(home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    there = dict.fromkeys(("torch", "onnx", "onnxscript", "onnxruntime"), find("json"))
    known: dict[str, Any] = {**there, "openvino": None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: known[name] if name in known else find(name)
    )
    line = "engine = openvino: needs openvino, not installed; run: pip install openvino"
    assert error(capsys, "evaluate", weights(home), "--engine", "openvino") == line
    shown = printed(capsys, "list", "--engines", "--format", "json")
    rows = json.loads("\n".join(shown))
    assert [(row["name"], row["installed"]) for row in rows] == [
        ("onnxruntime", True),
        ("openvino", False),
    ]
    table = " ".join(" ".join(printed(capsys, "list", "--engines")).split())
    assert table.endswith("; missing, run: pip install openvino")


def test_the_tab_key_completes_engines() -> None:
    options = {
        words.command: {name: option.values for option in words.options for name in option.names}
        for words in all_words()
    }
    assert options["predict"]["--engine"] == options["evaluate"]["--engine"] == tuple(ENGINES)
    assert "numpy" in (options["predict"]["--backend"] or ())
