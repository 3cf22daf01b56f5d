"""Predictions as tables, of images with labels and without, and what `evaluate` says of classes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pets import COLOURS, SETTINGS, SPEC, paint
from PIL import Image

import resnet_spec
from resnet_spec.cli.evaluated import more_lines, of_classes
from resnet_spec.cli.images import Images
from resnet_spec.cli.main import main
from resnet_spec.running.evaluate import Evaluation
from resnet_spec.weights.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pets and a run on them."""
    home = tmp_path_factory.mktemp("pets")
    paint(home / "pets")
    given: dict[str, Any] = {"settings": SETTINGS, "out": home / "run", "input_size": 8}
    resnet_spec.train(SPEC, "numpy", home / "pets", **given)
    return home


def table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        parquet: Any = pytest.importorskip("pyarrow.parquet")
        return parquet.read_table(path).to_pylist()
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def evaluated(home: Path, *more: str) -> list[str]:
    return ["evaluate", str(home / "run" / "last.safetensors"), "--backend", "numpy", *more]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predictions_are_a_row_per_image(
    ending: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"p.{ending}"
    assert main(evaluated(home, "--predictions", str(path), "--format", "json")) == 0
    said = json.loads(capsys.readouterr().out)
    rows = table(path)
    assert [int(row["image"]) for row in rows] == list(range(36))
    right = [row["label"] == row["prediction"] for row in rows]
    assert said["accuracy"] == np.mean(right) and said["top5_accuracy"] is None
    assert all(Path(row["file"]).parent.name == row["label_name"] for row in rows)
    names = sorted(COLOURS)
    assert all(names[int(row["prediction"])] == row["prediction_name"] for row in rows)
    assert all(1 / 3 <= float(row["confidence"]) <= 1 and float(row["margin"]) >= 0 for row in rows)
    confidences = np.array([float(row["confidence"]) for row in rows])
    bins = np.ceil(confidences * 15)
    gaps = [abs((np.array(right) - confidences)[bins == it].sum()) for it in range(1, 16)]
    assert said["calibration_error"] == pytest.approx(sum(gaps) / 36, abs=1e-12)
    per_class = {it["class"]: it for it in said["classes"]}
    for name in names:
        own = [ok for ok, row in zip(right, rows, strict=True) if row["label_name"] == name]
        assert per_class[name] == {"class": name, "images": 12, "accuracy": np.mean(own)}


def test_what_is_not_finite_has_no_prediction(home: Path, tmp_path: Path) -> None:
    last = load_checkpoint(home / "run" / "last.safetensors")
    # A huge scale, and images that some of which overflow: of black ones nothing does.
    state = {**last.state, "fc.bias": np.array([3e38, 3e38, 3e38], np.float32)}
    state["fc.weight"] = np.full_like(last.state["fc.weight"], 3e38)
    path = tmp_path / "bad.safetensors"
    save_checkpoint(path, type(last)(**{**vars(last), "state": state}))
    line = ["evaluate", str(path), "--backend", "numpy", "--predictions"]
    assert main([*line, str(tmp_path / "p.csv")]) == 1
    rows = table(tmp_path / "p.csv")
    bad = [row for row in rows if not row["prediction"]]
    assert bad and all(row["confidence"] == row["margin"] == "" for row in bad)
    assert "nan" not in (tmp_path / "p.csv").read_text()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--predictions", "p.json"], "--predictions = p.json: must end in .csv or .parquet"),
        (["--predictions", "."], "--predictions = .: is a folder; give the name of a .csv or"),
        (
            ["--predictions", "there.csv"],
            "there.csv: is there already; replace it",
        ),
    ],
)
def test_a_table_that_cannot_be_written_is_refused_before_any_work(
    more: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").write_text("old")
    assert main(["evaluate", "none.safetensors", "--backend", "numpy", *more]) == 2
    assert line in capsys.readouterr().err
    monkeypatch.setattr("resnet_spec.files.tables.find_spec", lambda name: None)
    out = ["--out", "p.parquet"]
    assert main(["predict", "none.safetensors", "a.png", "--backend", "numpy", *out]) == 2
    assert "--out = p.parquet: needs pyarrow, which is not installed" in capsys.readouterr().err


def test_few_classes_are_all_printed_and_of_many_the_worst(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluated(home)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("expected calibration error 0.") and lines[1].endswith("(15 bins)")
    assert lines[2] == "" and [line.split()[0] for line in lines[3:]] == ["class", *sorted(COLOURS)]
    names = [f"c{i:02}" for i in range(30)]
    shares = np.linspace(0, 1, 30)
    shares[7] = np.nan
    result = Evaluation(
        accuracy=0.5,
        loss=1.0,
        count=29,
        ties=0,
        top5=0.75,
        predictions=np.zeros(29, np.int64),
        margins=np.ones(29),
        calibration_error=0.125,
        class_accuracies=shares,
    )
    labels = np.delete(np.arange(30), 7)
    classes = of_classes(result, labels, names)
    assert classes[7] == {"class": "c07", "images": 0, "accuracy": None}
    more = more_lines(result, classes)
    assert more[0] == "top-5 accuracy 0.7500, expected calibration error 0.1250 (15 bins)"
    assert more[2] == "the 10 of 30 classes with the lowest accuracy:"
    assert [line.split()[0] for line in more[4:]] == [f"c{i:02}" for i in range(11) if i != 7]


# --- Images without labels ------------------------------------------------------------------------


def test_a_folder_of_images_is_predicted_as_its_files_are(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "found"
    (folder / "deep").mkdir(parents=True)
    (folder / "notes.txt").write_text("no image")
    for place, colour in (("b.png", "cat"), ("deep/a.png", "fox")):
        Image.new("RGB", (8, 8), COLOURS[colour]).save(folder / place)
    start = ["predict", str(home / "run" / "last.safetensors")]
    end = ["--backend", "numpy", "--top", "2", "--format", "json"]
    assert main([*start, str(folder / "b.png"), str(folder / "deep" / "a.png"), *end]) == 0
    wanted = json.loads(capsys.readouterr().out)
    for ending in ("csv", "parquet"):
        out = tmp_path / f"p.{ending}"
        assert main([*start, str(folder), *end, "--out", str(out)]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out) == wanted and ".txt" in said.err
        rows = table(out)
        assert list(rows[0]) == ["image", "class_1", "probability_1", "class_2", "probability_2"]
        for row, one in zip(rows, wanted, strict=True):
            assert row["image"] == one["image"]
            for place, it in enumerate(one["classes"], 1):
                assert row[f"class_{place}"] == it["class"]
                assert float(row[f"probability_{place}"]) == it["probability"]
    before = out.read_bytes()
    assert main([*start, str(folder), *end, "--out", str(out)]) == 2
    assert out.read_bytes() == before


def test_many_images_are_run_a_batch_at_a_time_and_all_bad_ones_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_spec.cli.images._AT_ONCE", 2)
    kept = load_checkpoint(home / "run" / "last.safetensors")
    session = resnet_spec.session(kept.spec, "numpy")
    session.load(kept.evaluated().state)
    paths = sorted((home / "pets" / "val").glob("*/0[01].png"))[:5]
    parts = Images(paths, kept.spec, None).logits(session)
    monkeypatch.setattr("resnet_spec.cli.images._AT_ONCE", 256)
    whole = Images(paths, kept.spec, None).logits(session)
    assert parts.shape == (5, 3) and np.allclose(parts, whole, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("resnet_spec.cli.images._AT_ONCE", 2)
    bad = [tmp_path / "x.png", tmp_path / "y.png"]
    for path in bad:
        path.write_text("no image")
    with pytest.raises(resnet_spec.DataError) as caught:
        Images([*paths[:3], bad[0], paths[3], bad[1]], kept.spec, None).logits(session)
    assert [line.partition(":")[0] for line in caught.value.problems] == [str(it) for it in bad]
