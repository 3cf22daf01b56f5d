"""`resnet-spec show` as a user types it: each picture as text and drawn, and bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.cli.show_data import print_thumbnails
from resnet_spec.reporting import plots
from resnet_spec.reporting.report import Item, Report, Row

WEIGHTS = ("--backend", "numpy", "--count", "4")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny network's run on digits, and a parity report."""
    folder = tmp_path_factory.mktemp("show")
    (folder / "tiny.toml").write_text(TINY)
    run = ["--backend", "numpy", "--input-size", "8", "--set", "steps=2"]
    assert main(["train", str(folder / "tiny.toml"), *run, "--out", str(folder / "run")]) == 0
    row = Row("torch", "gradients", "rounding", (Item("conv1", "rounding", 1e-7, 1e-7),), 8.0)
    (folder / "parity.json").write_text(json.dumps(Report("a report", (row,)).to_dict()))
    return folder


@pytest.fixture
def here(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty folder and return that of the run."""
    monkeypatch.chdir(tmp_path)
    return work


def arguments(what: str, work: Path) -> list[str]:
    best = str(work / "run" / "best.safetensors")
    more = {
        "samples": ["--data", "digits", "--count", "5"],
        "predictions": [best, *WEIGHTS],
        "confusion": [best, *WEIGHTS],
        "filters": [best],
        "features": [best, "--backend", "numpy", "--index", "2"],
        "curves": [str(work / "run")],
        "drift": [str(work / "parity.json")],
        "spec": [str(work / "tiny.toml"), "--input-size", "8"],
    }
    return ["show", what, *more[what]]


TEXTS = {
    "samples": "crop (y, x)",
    "predictions": "probability",
    "confusion": "true \\ predicted",
    "filters": "largest",
    "features": "layer1.0.act2",
    "curves": "test accuracy",
    "drift": "the worst 1 of 1 comparisons",
    "spec": "basic, identity; layer1.0, the only one",
}
NAMES = {
    "samples": "samples-digits",
    "predictions": "predictions-run-best",
    "confusion": "confusion-run-best",
    "filters": "filters-run-best",
    "features": "features-run-best",
    "curves": "curves-run",
    "drift": "drift-parity",
    "spec": "spec-tiny",
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_picture_as_text(what: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(what, here), "--text"]) == 0
    captured = capsys.readouterr()
    assert TEXTS[what] in captured.out and "left in" not in captured.out
    assert captured.err == ""
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("what", TEXTS)
def test_a_picture_drawn(what: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(arguments(what, here)) == 0
    captured = capsys.readouterr()
    name = NAMES[what]
    assert captured.out.splitlines()[-1] == f"left in {name}.png and {name}.svg"
    assert captured.err == ""
    assert sorted(path.name for path in Path().iterdir()) == [f"{name}.png", f"{name}.svg"]
    with Image.open(f"{name}.png") as image:
        image.load()
        assert min(image.size) >= 150 and max(image.size) <= 2400
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
    root = ET.parse(f"{name}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for file in Path().iterdir():
        assert 1_000 < file.stat().st_size < 400_000


def test_every_picture_is_tested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--help"]) == 0
    shown = capsys.readouterr().out
    assert TEXTS.keys() == NAMES.keys()
    assert [word for word in shown.split() if word in TEXTS] >= list(TEXTS)


def test_the_same_figure_has_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found: list[bytes] = []
    for _ in range(2):
        figure = plots.new_figure(2, 2, "$one$")
        figure.subplots().plot([1, 2])
        written = plots.write_figure(figure, plots.both_files(tmp_path / "runs.v2"))
        assert [path.name for path in written] == ["runs.v2.png", "runs.v2.svg"]
        found += [path.read_bytes() for path in written]
    assert found[:2] == found[2:]


def test_pictures_keep_their_exact_colours(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = plots.new_figure(2, 2)
    axes = figure.subplots()
    axes.plot([1, 2], color="#D55E00")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    figure.figimage(noise)
    plots.write_figure(figure, [tmp_path / "drawing.png"])
    with Image.open(tmp_path / "drawing.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    photograph = {tuple(colour) for colour in noise.reshape(-1, 3).tolist()}
    assert {(255, 255, 255), (0xD5, 0x5E, 0x00)} | photograph <= colours


def test_one_ending_gives_one_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main([*arguments("spec", here), "--out", "new/x.svg"]) == 0
    assert capsys.readouterr().out.endswith("left in new/x.svg\n")
    assert [path.name for path in Path("new").iterdir()] == ["x.svg"]


def test_without_matplotlib_the_text_is_printed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "can_draw", lambda: False)
    assert main(arguments("spec", here)) == 0
    out = capsys.readouterr().out
    assert TEXTS["spec"] in out
    assert out.splitlines()[-1].endswith("run: pip install 'resnet-spec[plots]'")
    assert main([*arguments("spec", here), "--out", "x.png"]) == 2
    assert "--out = x.png: needs matplotlib" in capsys.readouterr().err


def test_text_imports_neither_matplotlib_nor_a_framework() -> None:
    code = (
        "import sys\nfrom resnet_spec.cli.main import main\n"
        "main(['show', 'spec', 'resnet18', '--text'])\n"
        "heavy = {'matplotlib', 'torch', 'jax', 'mindspore', 'PIL'} & sys.modules.keys()\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_thumbnails_for_terminals_with_colour() -> None:
    from rich.console import Console

    from resnet_spec.showing.samples import Sample

    screen = StringIO()
    console = Console(file=screen, force_terminal=True, color_system="truecolor", width=60)
    image = np.full((8, 8, 1), 200, np.uint8)
    print_thumbnails(console, [Sample(image, i, "seven", None, None) for i in range(3)])
    shown = screen.getvalue()
    assert "7 seven"[2:] in shown and "\x1b[38;2;200;200;200;48;2;200;200;200m▀" in shown
    assert max(line.count("▀") for line in shown.splitlines()) == 24


def test_the_name_of_a_drawing_of_runs_is_cut(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    names = [letter * 31 for letter in "abc"]
    for name in names:
        shutil.copytree(here / "run", tmp_path / name)
    assert main(["show", "curves", *names]) == 0
    assert f"left in curves-{names[0]}-{'b' * 28}.png and" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ([], "WHAT"),
        (["sampels"], "did you mean 'samples'?"),
        (["samples", "--data", "digits", "--cuont", "1"], "did you mean '--count'?"),
        (["samples", "--data", "digits", "--count", "0"], "--count = 0: must be 1..400"),
        (["samples", "--data", "digitz"], "did you mean 'digits'?"),
        (["samples", "--data", "digits", "--split", "test", "--seed", "1"], "is not augmented"),
        (["samples", "--data", "digits", "--out", "x.jpg"], "must end in .png or .svg"),
        (["samples", "--data", "digits", "--out", "RUN"], "is a folder; name a file"),
        (["samples", "--data", "digits", "--out", "x", "--text"], "leave one out"),
        (["predictions", "BEST", "--data", "synthetic", "--count", "500"], "must be 1..400"),
        (["predictions", "BEST", "--backend", "nump"], "did you mean 'numpy'?"),
        (["predictions", "none", "--backend", "numpy"], "is neither published weights"),
        (["predictions", "--backend", "numpy"], "one must be given"),
        (["predictions", "OTHER", "--backend", "numpy", "--data", "digits"], "has 10 classes"),
        (["confusion", "BEST", "--backend", "numpy", "--count", "0"], "must be >= 1"),
        (["features", "BEST", "--backend", "numpy", "--index", "360"], "must be 0..359"),
        (["filters", "SPEC"], "is no weight file"),
        (["curves", "none"], "is this the folder of a run?"),
        (["curves", "RUN", "RUN"], "is given twice"),
        (["drift", "none.json"], "there is no such file"),
        (["drift", "SPEC"], "is not JSON"),
        (["drift", "REPORT", "--level", "gradient"], "did you mean 'gradients'?"),
        (["spec", "resnet51"], "did you mean 'resnet50'?"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(
    more: list[str], line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "BEST": here / "run" / "best.safetensors",
        "OTHER": here / "other.safetensors",
        "RUN": here / "run",
        "SPEC": here / "tiny.toml",
        "REPORT": here / "parity.json",
    }
    if "OTHER" in more:
        _save_other(places["OTHER"])
    assert main(["show", *(str(places.get(word, word)) for word in more)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("resnet-spec: error: ") and error.count("\n") == 1
    assert line in error
    assert list(Path().iterdir()) == []


def _save_other(path: Path) -> None:
    """Leave a network of three classes."""
    from resnet_spec.describing.spec_files import load_spec
    from resnet_spec.planning.initial_weights import initial_state
    from resnet_spec.planning.lowering import lower
    from resnet_spec.weights.checkpoint import Checkpoint, save_checkpoint

    spec = load_spec(path.with_name("tiny.toml"), ["classes=3", "input.size=8"])
    save_checkpoint(path, Checkpoint(spec, initial_state(lower(spec), 0)))


def test_damaged_metrics_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (here / "run" / "metrics.jsonl").read_text()
    for name, content, rule in (
        ("binary", b"\xff\xfe\x00", "is not an epoch's metrics"),
        ("list", b"[1]\n", "is not an epoch's metrics"),
        ("words", whole.replace('"epoch": 1', '"epoch": "one"').encode(), "what is no number"),
        ("empty", b"", "holds no epoch yet"),
    ):
        Path(name).mkdir()
        Path(name, "metrics.jsonl").write_bytes(content)
        assert main(["show", "curves", name]) == 2
        assert rule in capsys.readouterr().err


# --- Real images and weights ----------------------------------------------------------------------

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_real_weights_have_real_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = SHARED / "checkpoints" / "resnet20-12fca82f.th"
    if not weights.exists():
        pytest.skip("the published CIFAR weights are not here")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main(["show", "filters", str(weights), "--out", "f.png"]) == 0
    assert "conv1 of resnet20-12fca82f: 16 filters of 3 x 3" in capsys.readouterr().out
