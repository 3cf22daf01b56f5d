"""Tables, figures and the page of a comparison, from runs of every age and state."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from browsing import OPTIONS, browser, looked_at
from grid_runs import write_run
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.cli.report import told
from resnet_spec.comparing.comparison import of_folders
from resnet_spec.comparing.grid import Grid
from resnet_spec.comparing.tables import Table, tables_of
from resnet_spec.errors import DataError
from resnet_spec.files.writing import write_json
from resnet_spec.reporting.plots import can_draw

EVIL = 'wide <b onload="alert(1)"> & $x$'
FIGURES = ("curves", "accuracy", "cost")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a comparison's folder, with its report."""
    out = tmp_path_factory.mktemp("compared")
    for seed in range(3):
        write_run(out, "narrow", "torch", seed, [0.2, 0.5, 0.61 + seed / 100])
        write_run(out, EVIL, "torch", seed, [0.3, 0.6, 0.72 + seed / 200])
        write_run(out, "deep", "torch", seed, [0.1], error=f"nan at step {seed}")
    grid = Grid(
        name="three networks",
        networks=["narrow", {"spec": "a", "label": EVIL}, "deep"],
        backends=["torch"],
        seeds=[0, 1, 2],
        target_accuracy=0.6,
        show="error",
        notes=["scaled down: 3 epochs in the place of 164"],
    )
    write_json(out / "grid.json", grid.to_dict())
    assert main(["report", str(out)]) == 0
    return out


def tables(out: Path) -> dict[str, Table]:
    return {table.title: table for table in tables_of(of_folders([out]))}


def test_the_tables(out: Path) -> None:
    found = tables(out)
    assert list(found) == ["Accuracy", "Runs that failed", "Differences", "Cost"]
    narrow, wide, deep = found["Accuracy"].rows
    assert narrow == (
        *("narrow", "torch", "3", "0.6200 ± 0.0100", "0.6300"),
        *("38.00 ± 1.00", "43.00 ± 1.00", "0.8360 ± 0.0220"),
    )
    assert wide[3] == "0.7250 ± 0.0050" and deep[2:] == ("0 of 3", *["-"] * 5)
    assert found["Runs that failed"].rows[1] == ("deep", "torch", "seed 1: nan at step 1")
    (difference,) = found["Differences"].rows
    # Differences of 11, 10.5 and 10 points: std 0.5, t(2) = 4.303, so 10.5 +- 1.24.
    assert difference[1:4] == ("3", "+10.50", "+9.26 to +11.74")
    assert "corrected for 1 comparison." in " ".join(found["Differences"].notes)
    cost = found["Cost"].rows[0]
    assert cost[2:] == ("400 ± 0", "1.5 ± 0.0", "512", "30.0 s", "30.0 s", "1 x 2")
    text = found["Accuracy"].text()
    lines = [line for line in text.splitlines() if "torch" in line]
    assert len({line.index("torch") for line in lines}) == 1, "columns are aligned"


def test_one_seed_and_other_shares_are_told(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "torch", 0, [0.5])
    write_run(tmp_path, "b", "torch", 0, [0.6])
    cell = tmp_path / "runs" / "b-torch-seed0" / "cell.json"
    cell.write_text(cell.read_text().replace('"threads": 2', '"threads": 1'))
    found = {t.title: t for t in tables_of(of_folders(sorted((tmp_path / "runs").iterdir())))}
    assert found["Differences"].rows[0][1:] == ("1", "+10.00", "n = 1: no interval", "-", "-")
    assert "n = 1: no standard deviation, no interval." in found["Accuracy"].notes
    assert "jobs x threads differ: speeds and times do not compare." in found["Cost"].notes


class Page(HTMLParser):
    """Checks that elements are closed in order; keeps what could reach outside, and all ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("b", "img", "link", "iframe", "object", "image")
        if tag != "meta":
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "no attribute that runs something"
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_loads_nothing(out: Path) -> None:
    text = (out / "report.html").read_text()
    page = Page(text)
    assert page.text.count(EVIL) >= 3, "shown as text, wherever it stands"
    assert "scaled down: 3 epochs in the place of 164" in page.text
    assert all(reference.startswith("#") for reference in page.references)
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert not re.search(r"url\((?!#)|@import", text)
    assert 'content="default-src &#x27;none&#x27;; ' in text
    if can_draw():
        assert text.count('<svg role="img" class="plot" aria-label="') == len(FIGURES)
        assert "error in % (dashed: train, solid: test)" in page.text
        assert page.text.count("three networks (scaled down)") == len(FIGURES)


def test_notes_are_in_every_output(out: Path) -> None:
    note = "scaled down: 3 epochs in the place of 164"
    for text in (told(of_folders([out])), (out / "report.md").read_text()):
        assert note in text and "0.6200 ± 0.0100" in text
    for name, head in (("results.csv", 1), ("results.jsonl", 0)):
        lines = (out / name).read_text().splitlines()
        assert len(lines) == head + 9 and all(note in line for line in lines[head:])


def test_figures_are_files_too(out: Path) -> None:
    if not can_draw():
        pytest.skip("matplotlib is not installed")
    for name in FIGURES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"{name}.svg").read_text()


def report(folder: Path, out: Path) -> set[str]:
    """Return the names of the files in `out` after a report there."""
    assert main(["report", str(folder), "--out", str(out)]) == 0
    return {path.name for path in out.iterdir()}


def test_nothing_of_an_earlier_report_stays_beside_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = write_run(tmp_path, "a", "torch", 0, [0.5]).folder, tmp_path / "out"
    texts = {"report.html", "report.md", "results.csv", "results.jsonl"}
    drawn = {f"{name}{ending}" for name in FIGURES for ending in (".png", ".svg")}
    tables = {"results.parquet"} if find_spec("pyarrow") else set[str]()
    assert report(run, out) == texts | tables | (drawn if can_draw() else set())
    for name in (*drawn, "results.parquet", "loss.png"):
        (out / name).write_text("of an earlier report")
    monkeypatch.setattr("resnet_spec.comparing.writing.can_draw", lambda: False)
    assert report(run, out) == texts | {"results.parquet", "loss.png"}
    monkeypatch.setattr("resnet_spec.comparing.results.find_spec", lambda name: None)
    assert report(run, out) == texts | {"loss.png"}


def test_a_report_without_a_complete_run_has_no_figures_of_an_earlier_one(tmp_path: Path) -> None:
    if not can_draw():
        pytest.skip("matplotlib is not installed")
    out = tmp_path / "out"
    first = report(write_run(tmp_path, "a", "torch", 0, [0.5]).folder, out)
    assert "curves.png" in first
    failed = write_run(tmp_path, "b", "torch", 0, [0.5], error="nan").folder
    assert {Path(name).stem for name in first - report(failed, out)} == {*FIGURES}


def test_what_no_report_left_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a report beside them, files are somebody's own, whatever their names."""
    run, out = write_run(tmp_path, "a", "torch", 0, [0.5]).folder, tmp_path / "out"
    monkeypatch.setattr("resnet_spec.comparing.writing.can_draw", lambda: False)
    monkeypatch.setattr("resnet_spec.comparing.results.find_spec", lambda name: None)
    out.mkdir()
    own = [out / name for name in ("curves.png", "curves.svg", "report.html", "results.parquet")]
    for file in own:
        file.write_text("somebody's own")
    report(run, out)
    assert all(file.exists() for file in own)
    kept = [file for file in own if file.name != "report.html"]
    assert {file.read_text() for file in kept} == {"somebody's own"}


def test_it_opens_in_a_browser_without_a_network(out: Path, tmp_path: Path) -> None:
    options = [*OPTIONS, f"--user-data-dir={tmp_path}"]
    options += ["--enable-logging=stderr", "--dump-dom", (out / "report.html").as_uri()]
    found = subprocess.run(
        [browser(), *options], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in found.stderr, "nothing was refused, nothing failed"
    dom = Page(re.sub(r"(?is)<!doctype[^>]*>", "", found.stdout))
    assert "0.6200 ± 0.0100" in dom.text and "10.50" in dom.text
    assert len(dom.ids) == len(set(dom.ids))


@pytest.mark.parametrize("width", [360, 600])
def test_a_narrow_window_keeps_the_page_and_its_words_whole(
    width: int, out: Path, tmp_path: Path
) -> None:
    assert looked_at(out / "report.html", width, tmp_path) == (width, 0)


def test_a_page_that_is_too_wide_and_shredded_words_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    cell = '<td style="max-width: 1ch; overflow-wrap: anywhere">resnet20</td>'
    page.write_text(f'<body style="margin: 0"><div style="width: 500px">a</div><table>{cell}')
    assert looked_at(page, 360, tmp_path) == (500, 1)


def test_seeds_that_are_all_alike_have_no_interval(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, "a", "torch", seed, [0.5 + seed / 4])
        write_run(tmp_path, "b", "torch", seed, [0.4889 + seed / 4])
        write_run(tmp_path, "c", "torch", seed, [0.48890 + seed / 4 + seed * 1e-8])
    found = {t.title: t for t in tables_of(of_folders(sorted((tmp_path / "runs").iterdir())))}
    rows = {row[0]: row[2:5] for row in found["Differences"].rows}
    assert rows["b - a (torch)"] == ("-1.11", "both seeds alike: no interval", "-")
    low, _, high = rows["c - a (torch)"][1].partition(" to ")
    assert float(low) < -1.11 < float(high), "as many digits as tell the ends apart"
    notes = " ".join(found["Differences"].notes)
    assert (
        "p is not defined where all seeds differ by the very same amount, nor is an inter" in notes
    )


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.99, 1.0], [0.0, 1.0], [0.5, 0.9]])
def test_an_accuracy_s_axis_ends_at_1(values: list[float], tmp_path: Path) -> None:
    if not can_draw():
        pytest.skip("matplotlib is not installed")
    from resnet_spec.comparing.drawing import figures_of

    for seed, value in enumerate(values):
        write_run(tmp_path, "a", "torch", seed, [0.5, value])
    figures = figures_of(of_folders(sorted((tmp_path / "runs").iterdir())))
    (curve,) = (axes for axes in figures["curves"][0].axes if "accuracy" in axes.get_ylabel())
    (final,) = figures["accuracy"][0].axes
    for low, high, most in ((*curve.get_ylim(), 1.0), (*final.get_xlim(), 100.0)):
        assert 0 <= low < high <= most
    dots = [line for line in final.get_lines() if line.get_marker() == "o"]
    assert dots and not any(line.get_clip_on() for line in dots), "those on the edge are whole"


def test_a_few_epochs_have_ticks_at_whole_numbers(tmp_path: Path) -> None:
    if not can_draw():
        pytest.skip("matplotlib is not installed")
    from resnet_spec.comparing.drawing import figures_of

    result = write_run(tmp_path, "a", "torch", 0, [0.5, 0.6])
    for axes in figures_of(of_folders([result.folder]))["curves"][0].axes:
        ticks = axes.xaxis.get_major_locator()()
        assert {1.0, 2.0} <= {*ticks} and all(tick == round(tick) for tick in ticks)


def test_runs_whose_metrics_are_lost_are_drawn_without_curves(tmp_path: Path) -> None:
    if not can_draw():
        pytest.skip("matplotlib is not installed")
    from resnet_spec.comparing.drawing import figures_of

    result = write_run(tmp_path, "a", "torch", 0, [0.5])
    (result.folder / "metrics.jsonl").write_text("")
    figures = figures_of(of_folders([result.folder]))
    (loss,) = (axes for axes in figures["curves"][0].axes if "loss" in axes.get_ylabel())
    assert loss.get_yscale() == "linear"


def train(folder: Path, name: str, *more: str) -> Path:
    (folder / "tiny.toml").write_text(TINY)
    arguments = ["train", str(folder / "tiny.toml"), "--backend", "numpy", "--input-size", "8"]
    arguments += ["--out", str(folder / name), "--set", "batch=700", *more]
    assert main(arguments) == 0
    return folder / name


def test_runs_of_train_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        train(tmp_path, f"r{seed}", "--set", "steps=1", "--set", f"seed={seed}") for seed in (0, 1)
    ]
    runs.append(train(tmp_path, "longer", "--set", "steps=2"))
    # As where the system does not say.
    summary = json.loads((runs[0] / "summary.json").read_text())
    del summary["compile_s"], summary["peak_memory_mb"]
    (runs[0] / "summary.json").write_text(json.dumps(summary))
    found = of_folders(runs)
    assert [group.key.network for group in found.groups] == ["tiny #1 (demo)", "tiny #2 (demo)"]
    assert [result.seed for result in found.results] == [0, 1, 0]
    assert found.groups[0].sample("peak_memory_mb").values != ()
    accuracies = [json.loads((run / "summary.json").read_text())["final_accuracy"] for run in runs]
    assert found.groups[0].sample("final_accuracy").values == tuple(accuracies[:2])

    with pytest.raises(DataError, match="tiny, numpy, seed 0: has 2 runs with these settings"):
        of_folders([runs[0], runs[0]])
    (runs[0] / "last.safetensors").unlink()
    capsys.readouterr()
    assert main(["report", str(runs[0])]) == 2
    assert "is needed for the run's recipe and seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["."], ".: holds neither a finished run nor a comparison"),
        (["OUT", "--baseline", "narow"], "--baseline = narow: is no network"),
        (["OUT", "--target-accuracy", "7"], "--target-accuracy = 7.0: must be > 0 and < 1"),
    ],
)
def test_bad_arguments(
    arguments: list[str],
    line: str,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(out) if text == "OUT" else text for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"resnet-spec: error: {line}") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
