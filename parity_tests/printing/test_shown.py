"""What results show at a prompt and in a notebook: a short table, with nothing unescaped."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_spec
from resnet_spec.comparing.comparison import of_folders
from resnet_spec.exporting import Exported
from resnet_spec.printing.cards import MOST_ROWS, Card, Shown, as_html, as_text
from resnet_spec.reporting.report import Finding, Item, Report, Row
from resnet_spec.running.evaluate import Evaluation
from resnet_spec.running.runs import Summary
from resnet_spec.weights.adopting import adopt
from resnet_spec.weights.checkpoint import load_checkpoint
from resnet_spec.weights.converting import convert, load_weights
from resnet_spec.weights.loading import load_pretrained
from resnet_spec.weights.recognising.recognise import recognise_file

TINY: dict[str, Any] = {
    "name": "tiny",
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
EVIL = '<img src=x onerror="alert(1)">&[bold]'


class Reader(HTMLParser):
    """Gathers the tags and the text of what a notebook is given."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    resnet_spec.train(TINY, "numpy", settings=["steps=1", "batch=8"], out=folder)
    return folder


def results_of(run: Path) -> dict[str, Any]:
    best = run / "best.safetensors"
    spec = load_checkpoint(best).spec
    weights = load_pretrained(best)
    return {
        "Summary": resnet_spec.train(resume=run),
        "Checkpoint": load_checkpoint(run / "last.safetensors"),
        "Loaded": load_weights(best),
        "Recognised": recognise_file(best),
        "Converted": convert(best, run / "copy.safetensors"),
        "Pretrained": weights,
        "Adopted": adopt(weights, spec),
        "Comparison": of_folders([run]),
        "Exported": Exported(Path("a.onnx"), "onnx", "opset 18", (1, 2), 0.5, 1_000_000, None),
        "Evaluation": Evaluation(0.5, 1.25, 8, 0, np.zeros(8, np.int64), np.ones(8)),
        "Report": Report("title", (Row("torch", "logits", "equal"),)),
        "Plan": resnet_spec.lower("resnet50"),
    }


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    return results_of(run)


NAMES = (
    *("Summary", "Checkpoint", "Loaded", "Recognised", "Converted", "Pretrained", "Adopted"),
    *("Comparison", "Exported", "Evaluation", "Report", "Plan"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_result_is_a_short_table(name: str, results: dict[str, Any]) -> None:
    result = results[name]
    assert type(result).__name__ == name
    lines = repr(result).splitlines()
    assert 1 <= len(lines) <= MOST_ROWS + 4
    assert max(map(len, lines)) <= 140
    assert "array(" not in repr(result) and "Spec(" not in repr(result)
    if isinstance(result, Shown):
        read = Reader(result._repr_html_())
        assert read.tags <= {"div", "table", "caption", "b", "thead", "tbody", "tr", "th", "td"}
        assert result.card().title in "".join(read.texts)


def test_every_result_is_tried(results: dict[str, Any]) -> None:
    def below(cls: type) -> set[str]:
        return {cls.__name__}.union(*map(below, cls.__subclasses__()))

    assert below(Shown) - {"Shown"} <= {*NAMES}
    assert set(results) == set(NAMES)


def test_what_a_summary_and_an_evaluation_say(results: dict[str, Any]) -> None:
    summary: Summary = results["Summary"]
    shown = repr(summary)
    assert shown.startswith("tiny on digits, recipe demo, numpy\n")
    plain = " ".join(shown.split())
    assert f"best of the test images {summary.best_accuracy:.4f} (epoch 1)" in plain
    assert f"calibration error (15 bins) {summary.final_calibration_error:.4f}" in plain
    assert "1 epoch, 1 step, " in shown and "trained by" not in shown
    legs = [{"backend": "flax", "first_step": 1}, {"backend": "numpy", "first_step": 2}]
    on = replace(summary, legs=legs, complete=False, final_accuracy=None, best_accuracy=None)
    assert "numpy, not complete" in repr(on) and "final test accuracy -" in " ".join(
        repr(on).split()
    )
    assert "flax from step 1, numpy from step 2" in repr(on)
    assert repr(results["Evaluation"]).splitlines() == [
        "8 images",
        "  accuracy  0.5000",
        "  loss      1.2500",
        "  ties      0",
    ]
    broken = replace(results["Evaluation"], accuracy=math.nan, loss=math.inf)
    assert "accuracy  -" in repr(broken) and "nan" not in repr(broken)


def test_a_report_shows_the_worst_first() -> None:
    rows = (
        Row("torch", "names", "equal"),
        Row("torch", "logits", "different", (Item("fc", "different", 1.0, 0.5, floor=1e-7),), 4.0),
    )
    finding = Finding("torch", "forward", "bn1", 100.0, "eps", "eps = 0.001 instead of 1e-05")
    lines = repr(Report("net", rows, findings=(finding,))).splitlines()
    assert lines[0] == "differ: net"
    assert lines[2].split() == ["torch", "logits", "different", "fc", "5.0e-01", "1.0e-07", "5e+06"]
    assert lines[3].split()[:3] == ["torch", "names", "equal"]
    assert lines[4].strip() == str(finding)


def test_nothing_that_a_stranger_named_is_markup() -> None:
    rows = (Row(EVIL, "logits", "different", (Item(EVIL, "different", 1.0, 0.5),)),)
    report = Report(EVIL, rows, findings=(Finding(EVIL, "forward", EVIL, 1.0, EVIL, EVIL),))
    read = Reader(report._repr_html_())
    assert "img" not in read.tags and EVIL in "".join(read.texts)
    assert EVIL in repr(report)


def test_a_long_table_is_cut_and_says_so() -> None:
    card = Card("t", [(n, n) for n in range(MOST_ROWS + 5)], notes=["end"])
    assert as_text(card).splitlines()[-2:] == ["  and 5 rows more", "  end"]
    assert as_text(card).count("\n") == MOST_ROWS + 2
    assert "and 5 rows more" in as_html(card)
    assert as_text(Card("t", [("name", "x" * 500)])).count("x") < 70
    assert as_text(Card("t", ())) == "t"


def test_equal_results_stay_equal_and_fields_stay() -> None:
    one = Evaluation(0.5, 1.25, 8, 0, np.zeros(8, np.int64), np.ones(8))
    assert is_dataclass(one) and [f.name for f in fields(one)][:2] == ["accuracy", "loss"]
    assert not hasattr(one, "__dict__")
