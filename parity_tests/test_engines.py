"""Networks in engines: the reference's logits, a backend's predictions, a check that can fail."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import CASES

from resnet_spec.contract import Array, Batch, State
from resnet_spec.errors import BackendError, OutputError, ResnetSpecError
from resnet_spec.exporting import LIMIT, EngineSession, engine_session
from resnet_spec.exporting.engine_session import AT_ONCE, STEPS
from resnet_spec.loader import export_formats, load_backend
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.functions import normalised
from resnet_spec.parity.setup import make_recipe, make_setup, worn_state
from resnet_spec.parity.side import Side
from resnet_spec.plan import Plan
from resnet_spec.running import engines
from resnet_spec.running.engines import ENGINES, Engine, Program
from resnet_spec.running.evaluate import evaluate

pytestmark = pytest.mark.xdist_group("engines")

Patching = pytest.MonkeyPatch

CASE = CASES["bottleneck"]
STATE = worn_state(CASE.plan, 0)
COUNT = 37
PARTS = (1, 2, AT_ONCE - 1, AT_ONCE + 1, 2)


def needs(engine: str) -> None:
    wanted = export_formats()["onnx"]
    packages = ("torch", *wanted.needs, *ENGINES[engine].needs)
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{engine} needs {package}, not installed")


@pytest.fixture(scope="module", params=ENGINES)
def session(request: pytest.FixtureRequest) -> EngineSession:
    needs(request.param)
    with pytest.MonkeyPatch.context() as patching:
        patching.setenv("OMP_NUM_THREADS", "1")
        return engine_session(CASE.spec, STATE, request.param)


@pytest.fixture(scope="module")
def expected() -> Side:
    setup = make_setup(CASE.plan, make_recipe(steps=1, batch=COUNT), state=STATE)
    return Side("numpy", setup, "float64")


def batches(batch: Batch, counts: Iterable[int]) -> Iterator[Batch]:
    start = 0
    for count in counts:
        rows = slice(start, start + count)
        yield Batch(batch.images[rows], batch.labels[rows], batch.indices[rows])
        start += count


def test_logits_are_the_reference_s_whatever_the_batches(
    session: EngineSession, expected: Side
) -> None:
    assert sum(PARTS) == COUNT
    found = list(session.predict(batches(expected.batch, PARTS)))  # All kept: none is overwritten.
    assert [len(logits) for logits in found] == list(PARTS)
    logits = np.concatenate(found)
    assert logits.dtype == np.float32
    floor = Floors(expected, "float32").of("logits")["logits"]
    assert difference("logits", logits, expected.logits).max_rel <= LIMIT * floor
    whole = np.concatenate(list(session.predict([expected.batch])))
    assert difference("logits", whole, logits).max_rel <= LIMIT * floor
    assert np.array_equal(whole.argmax(axis=1), expected.logits.argmax(axis=1))
    # Another image's logits are further off than the limit.
    shifted = np.roll(expected.logits, 1, axis=0)
    assert difference("logits", logits, shifted).max_rel > LIMIT * floor


def test_normalised_images_are_taken_as_they_are(session: EngineSession, expected: Side) -> None:
    batch = expected.batch
    planes = normalised(batch.images, CASE.plan.input, "float64").transpose(0, 2, 3, 1)
    (given,) = session.predict([replace(batch, images=planes)])
    (usual,) = session.predict([batch])
    np.testing.assert_allclose(given, usual, rtol=0, atol=1e-5 * np.abs(usual).max())


class _Split:
    """Images with labels, as `data.dataset.Split` has them."""

    def __init__(self, batch: Batch) -> None:
        self._images, self.labels = batch.images, batch.labels

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Array) -> Array:
        return self._images[indices]


def test_an_evaluation_is_a_backend_s(session: EngineSession, expected: Side) -> None:
    split: Any = _Split(expected.batch)
    backend = load_backend("numpy").Session(CASE.plan, precision="float32")
    backend.load(STATE)
    ours, theirs = (evaluate(it, split, batch=10) for it in (session, backend))
    assert np.array_equal(ours.predictions, theirs.predictions)
    assert (ours.accuracy, ours.count, ours.ties) == (theirs.accuracy, COUNT, 0)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert ours.calibration_error == pytest.approx(theirs.calibration_error, rel=1e-5)
    assert np.array_equal(ours.class_accuracies, theirs.class_accuracies)


def test_it_says_what_computes(session: EngineSession) -> None:
    info = session.info
    name = info["framework"]
    assert name in ENGINES
    assert info["version"] == importlib.import_module(name).__version__
    told = {key: info[key] for key in ("device", "precision", "math", "threads")}
    assert told == {"device": "cpu", "precision": "float32", "math": "strict", "threads": "1"}
    assert info["export"].startswith("by torch (onnx, opset ")
    assert "), within " in info["export"]
    assert info["export"].endswith(" noise floors of the reference")


# What is refused


@pytest.fixture
def made(tmp_path: Path, monkeypatch: Patching) -> Iterator[Path]:
    """Where temporary files lie: a folder that none of ours is left in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert [it.name for it in tmp_path.iterdir() if it.name.startswith("resnet-spec")] == []


def writes(monkeypatch: Patching, change: Any) -> None:
    """Put a function in the place of the `write` of who writes ONNX files."""
    needs("onnxruntime")
    package: Any = load_backend(export_formats()["onnx"].backend)
    module = importlib.import_module(f"{package.__name__}.export")
    write = module.write
    monkeypatch.setattr(module, "write", lambda *args, **more: change(write, *args, **more))


def refused(engine: str, state: State = STATE) -> str:
    with pytest.raises(BackendError) as raised:
        engine_session(CASE.spec, state, engine)
    (line,) = raised.value.problems
    return line


def test_another_weight_is_seen(made: Path, monkeypatch: Patching) -> None:
    def faulty(write: Any, path: Path, plan: Plan, state: State, *args: Any, **more: Any) -> str:
        changed = state["layer2.0.conv3.weight"].copy()
        changed[3, 0] += 1e-3 * np.abs(changed).max()
        return write(path, plan, {**state, "layer2.0.conv3.weight": changed}, *args, **more)

    writes(monkeypatch, faulty)
    line = refused("onnxruntime")
    start, _, rest = line.partition(" are ")
    assert start == "engine = onnxruntime: the logits of onnxruntime"
    floors, _, rest = rest.partition(" ")
    assert float(floors) > LIMIT
    rule = "noise floors from the reference; 8 is the limit, and nothing is computed; use a backend"
    assert rest == rule


def test_an_engine_s_own_logits_are_held_against_the_reference(
    made: Path, monkeypatch: Patching
) -> None:
    """Not those of ONNX Runtime alone, which are right here."""
    needs("onnxruntime")
    opened = ENGINES["onnxruntime"].open

    def open(path: Path, threads: int) -> Program:
        program = opened(path, threads)
        return replace(program, run=lambda images: program.run(images) * np.float32(1 + 1e-4))

    monkeypatch.setitem(ENGINES, "wrong", Engine("Wrong", (), "", open))
    assert refused("wrong").startswith("engine = wrong: the logits of wrong are ")


@pytest.mark.parametrize(
    ("fault", "kind", "line"),
    [
        (
            ValueError("no such op\nand a long story"),
            BackendError,
            "engine = onnxruntime: torch fails: ValueError: no such op",
        ),
        (
            OSError(28, "No space left on device"),
            OutputError,
            "network.onnx: cannot be written: No space left on device",
        ),
    ],
)
def test_an_exporter_that_fails_is_one_line(
    fault: Exception,
    kind: type[ResnetSpecError],
    line: str,
    made: Path,
    monkeypatch: Patching,
) -> None:
    def fails(write: Any, path: Path, *args: Any, **more: Any) -> str:
        path.write_text("half")
        raise fault

    writes(monkeypatch, fails)
    with pytest.raises(kind) as raised:
        engine_session(CASE.spec, STATE, "onnxruntime")
    (said,) = raised.value.problems
    assert said.replace(str(made), "").endswith(line)


def test_nothing_is_left_at_ctrl_c(made: Path, monkeypatch: Patching) -> None:
    def stopped(write: Any, path: Path, *args: Any, **more: Any) -> str:
        path.write_text("half")
        raise KeyboardInterrupt

    writes(monkeypatch, stopped)
    with pytest.raises(KeyboardInterrupt):
        engine_session(CASE.spec, STATE, "onnxruntime")


def test_a_network_without_finite_logits_is_refused(made: Path) -> None:
    needs("onnxruntime")
    huge = {n: np.full_like(a, 1e30) if n.endswith("bn2.weight") else a for n, a in STATE.items()}
    rule = "the network's logits are NaN or infinite, and no file can be held against them"
    line = f"engine = onnxruntime: {rule}; its weights are not sound"
    assert refused("onnxruntime", huge) == line


@pytest.mark.parametrize(
    ("absent", "engine", "line"),
    [
        (
            {"openvino"},
            "openvino",
            "needs openvino, not installed; run: pip install openvino",
        ),
        (
            {"onnxscript"},
            "onnxruntime",
            "needs onnxscript, not installed; run: pip install 'resnet-spec[export]'",
        ),
        (
            {"torch", "onnxruntime"},
            "onnxruntime",
            "needs torch and onnxruntime, not installed; "
            "run: pip install 'resnet-spec[torch]' && pip install 'resnet-spec[export]'",
        ),
    ],
)
def test_missing_packages(
    absent: set[str], engine: str, line: str, made: Path, monkeypatch: Patching
) -> None:
    find = importlib.util.find_spec
    there = find("json")
    known = dict.fromkeys(("torch", "onnx", "onnxscript", "onnxruntime", "openvino"), there)
    known |= dict.fromkeys(absent)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: known[name] if name in known else find(name)
    )
    assert refused(engine) == f"engine = {engine}: {line}"


def test_an_unknown_engine() -> None:
    line = "engine = onnxrutime: does not exist; did you mean 'onnxruntime'?"
    assert refused("onnxrutime") == line


def test_steps_are_told(monkeypatch: Patching) -> None:
    needs("onnxruntime")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    heard: list[str] = []
    made = engine_session(CASE.spec, STATE, "onnxruntime", begin=heard.append)
    assert heard == [
        "computing 3 images in float64",
        "exporting to ONNX",
        "checking the logits of ONNX Runtime",
    ]
    assert len(heard) == STEPS
    threads = engines.threads_of_each(1)
    assert made.native.get_session_options().intra_op_num_threads == threads
    assert made.info["threads"] == str(threads)


# What engines are told


def test_openvino_computes_in_float32_and_its_logits_are_the_caller_s(
    monkeypatch: Patching,
) -> None:
    """Of a module in its place: what it is asked for shows whether it is installed or not."""
    shared = np.zeros((1, 2), np.float32)
    asked: dict[str, Any] = {}

    class Core:
        def compile_model(self, path: str, device: str, settings: dict[str, Any]) -> Any:
            asked.update(settings, path=path, device=device)
            return lambda images: [np.add(shared, images.sum(), out=shared)]

    module = SimpleNamespace(Core=Core, __version__="1")
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    program = engines.read_program("openvino", Path("a.onnx"), 3)
    assert asked == {
        "path": "a.onnx",
        "device": "CPU",
        "INFERENCE_NUM_THREADS": 3,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    first = program.run(np.ones((1, 2), np.float32))
    program.run(np.ones((1, 2), np.float32))
    assert first.tolist() == [[2.0, 2.0]]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    needs("onnxruntime")
    path = tmp_path / "a.onnx"
    path.write_text("no ONNX")
    with pytest.raises(BackendError) as raised:
        engines.read_program("onnxruntime", path)
    (line,) = raised.value.problems
    assert line.startswith(f"{path}: cannot be run by onnxruntime: ")
    assert "\n" not in line
