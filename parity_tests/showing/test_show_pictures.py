"""What the pictures of `resnet-spec show` say: rows, titles, colours and numbers, not drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from resnet_spec.contract import Array, Batch, Session
from resnet_spec.data import load_data
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import DataError
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.reporting.report import Item, Report, Row
from resnet_spec.running.metrics import Epoch
from resnet_spec.showing import confusion, curves, drift, features, filters, predictions
from resnet_spec.showing.canvas import grid_shape, short, unit_range
from resnet_spec.showing.part import First
from resnet_spec.showing.terminal import bar, sparkline, thumbnail

# --- Predictions ----------------------------------------------------------------------------------


class Fixed:
    """A session that predicts what it is told."""

    def __init__(self, logits: Array) -> None:
        self._logits = logits

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        for batch in batches:
            yield self._logits[batch.indices]


def fixed(logits: Array) -> Session:
    return cast(Session, Fixed(logits))


def test_predictions_have_title_colour_mark_and_probability() -> None:
    split = load_data("digits").test
    names = [f"class {i}" for i in range(10)]
    logits = np.zeros((2, 10), np.float32)
    logits[0, split.labels[0]] = 3.0
    wrong = int(split.labels[1] + 1) % 10
    logits[1, wrong] = 2.0
    right, miss = predictions.predictions(fixed(logits), split, names, 2)
    assert right.right and not miss.right
    assert right.probability == pytest.approx(math.exp(3) / (math.exp(3) + 9))
    assert miss.predicted == f"class {wrong}" and miss.label == names[int(split.labels[1])]
    first, second = predictions.tiles([right, miss])
    assert (first.colour, second.colour) == (predictions.RIGHT, predictions.WRONG)
    assert first.title == f"{right.label} ({right.label})\n✓ 69.1 %"
    assert second.title == f"{miss.predicted} ({miss.label})\n✗ 45.1 %"
    assert predictions.summary([right, miss]) == "1 of 2 right"
    assert predictions.lines([right, miss])[2].split()[1] == "✗"


def test_long_names_have_the_true_class_on_a_line_of_its_own() -> None:
    split = load_data("digits").test
    logits = np.zeros((1, 10), np.float32)
    names = ["automobile"] * 10
    (found,) = predictions.predictions(fixed(logits), split, names, 1)
    assert predictions.tiles([found])[0].title.startswith("automobile\n(automobile)\n")


def test_no_probability_is_rounded_up_to_certainty() -> None:
    split = load_data("digits").test
    logits = np.zeros((1, 10), np.float32)
    logits[0, 0] = 20.0
    (found,) = predictions.predictions(fixed(logits), split, list("0123456789"), 1)
    assert predictions.tiles([found])[0].title.endswith(">99.9 %")


# --- Confusion ------------------------------------------------------------------------------------

NAMES = ("cat", "dog", "ship")


def matrix() -> confusion.Matrix:
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    return confusion.confusion_matrix(labels, np.array([0, 1, 1, 2, 1, 0, 2]), 3)


def test_confusion_counts_true_by_row() -> None:
    assert matrix().tolist() == [[1, 2, 1], [1, 1, 0], [0, 0, 1]]
    assert confusion.accuracy(matrix()) == pytest.approx(3 / 7)
    assert confusion.class_accuracies(matrix()) == [0.25, 0.5, 1.0]
    assert confusion.shares(matrix())[0].tolist() == [0.25, 0.5, 0.25]


def test_a_class_without_images_has_no_accuracy() -> None:
    empty = confusion.confusion_matrix(np.array([0]), np.array([0]), 2)
    assert confusion.class_accuracies(empty) == [1.0, None]
    assert np.isfinite(confusion.shares(empty)).all()


def test_the_largest_confusions_are_named() -> None:
    found = confusion.largest(matrix(), NAMES, 2)
    assert found[0] == confusion.Confusion("cat", "dog", 2, 4)
    text = confusion.lines(matrix(), NAMES)
    assert text[1].split() == ["cat", "1", "2", "1", "25.0", "%"]
    assert len({len(line) for line in text[1:4]}) == 1
    assert "cat taken for dog 2 of 4 50.0 %" in [" ".join(line.split()) for line in text]


def test_names_too_wide_for_a_table_become_numbers() -> None:
    labels = np.arange(20)
    text = confusion.lines(confusion.confusion_matrix(labels, labels, 20), ["a long name"] * 20)
    assert text[0].split()[3:6] == ["0", "1", "2"]
    assert text[20].split()[:4] == ["19", "a", "long", "name"]
    assert max(map(len, text)) < 120


def test_many_classes_have_no_numbers_in_cells() -> None:
    labels = np.arange(40)
    big = confusion.confusion_matrix(labels, labels, 40)
    text = confusion.lines(big, [f"c{i}" for i in range(40)])
    assert text[0].split() == ["class", "images", "accuracy"]
    assert text[-1] == "no image is taken for one of another class"
    pytest.importorskip("matplotlib")
    drawn = confusion.figure(big, [f"c{i}" for i in range(40)], "many")
    assert not drawn.axes[0].texts
    assert len(confusion.figure(matrix(), NAMES, "few").axes[0].texts) > 6


# --- Curves ---------------------------------------------------------------------------------------


def epoch(number: int, loss: float, accuracy: float | None) -> Epoch:
    return Epoch(number, number * 10, 0.1, loss, 0.5, accuracy and 1.0, accuracy, 100.0, 1.0)


def test_runs_as_sparklines() -> None:
    run = [epoch(1, 2.0, 0.1), epoch(2, 1.0, None), epoch(3, 0.5, 0.9), epoch(4, 0.4, 0.8)]
    head, row = curves.lines({"a": run})
    assert head.split()[0] == "run"
    assert "▁·█▇" in row and "█▅▂▁" in row
    assert row.endswith("0.9000 in epoch 3")


def test_runs_are_named_by_what_tells_them_apart() -> None:
    assert curves.short_names([Path("/r/a"), Path("/r/b")]) == ["a", "b"]
    assert curves.short_names([Path("/r/a/x"), Path("/s/a/x")]) == ["r/a/x", "s/a/x"]
    with pytest.raises(DataError, match="given twice"):
        curves.short_names([Path("/r/a"), Path("/r/b/../a")])


# --- Filters and features -------------------------------------------------------------------------


def a_spec(channels: int = 3, **fields: Any) -> Spec:
    small: dict[str, Any] = {
        "name": "small",
        "classes": 4,
        "block": "basic",
        "input": {"size": 8, "channels": channels},
        "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
        "stages": [{"width": 4, "blocks": 1}, {"width": 8, "blocks": 1, "stride": 2}],
    }
    return Spec(**(small | fields))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_filters_are_scaled_to_their_own_range(channels: int) -> None:
    plan = lower(a_spec(channels))
    found = filters.first_filters(plan, initial_state(plan, 0))
    tiles = filters.tiles(found)
    assert found.name == "conv1" and len(tiles) == 4
    assert tiles[0].pixels.shape == ((3, 3, 3) if channels == 3 else (3, 3))
    top = 255 if channels == 3 else 1.0
    assert all((tile.pixels.min(), tile.pixels.max()) == (0, top) for tile in tiles)
    assert found.norms[1] == pytest.approx(np.linalg.norm(found.weight[1]))
    assert "scaled to its own range" in filters.about(found, "x")[1]
    assert len(filters.lines(found)) == 5
    zero = replace(found, weight=np.zeros((1, channels, 3, 3)))
    assert filters.lines(zero)[1].split() == ["0", "0.0000", "0.0000", "0.0000"]


@pytest.mark.parametrize("order", ["post_activation", "pre_activation"])
def test_features_are_the_stages_outputs(order: str) -> None:
    plan = lower(a_spec(order=order))
    stages = features.last_nodes(plan)
    expected = {
        "post_activation": ["act1", "layer1.0.act2", "layer2.0.act2"],
        "pre_activation": ["stem.conv", "stages.0.blocks.0.add", "stages.1.blocks.0.add"],
    }
    assert list(stages.values()) == expected[order]
    outputs = {name: np.zeros((1, 2, 2, 2), np.float32) for name in plan.observed}
    outputs[expected[order][1]][0, 1] = [[-3.0, 0.0], [1.0, 0.0]]

    class Still:
        def activations(self, batch: Batch, train: bool = False) -> Iterator[tuple[str, Array]]:
            yield from outputs.items()

    batch = Batch(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int64))
    found = features.stage_features(cast(Session, Still()), plan, batch)
    assert [it.stage for it in found] == list(stages)
    assert found[1].strongest == (1, 0)
    assert (found[1].mean, found[1].zeros) == (-0.25, 0.75)
    assert found[1].maps[0].tolist() == [[-3.0, 0.0], [1.0, 0.0]]
    assert features.lines(found)[2].split()[-2:] == ["1,", "0"]


# --- Drift ----------------------------------------------------------------------------------------


def a_report(path: Path, *rows: Row) -> Path:
    path.write_text(json.dumps(Report("two against numpy", rows).to_dict()))
    return path


def items(*errors: float, suffix: str = "") -> tuple[Item, ...]:
    names = ("conv1", "layer1.0.conv1", "layer1.0.bn1", "fc")
    return tuple(
        Item(f"{name}{suffix}", "rounding", error, error, floor=1e-7)
        for name, error in zip(names, errors, strict=True)
    )


def test_drift_has_a_panel_per_level_and_mode(tmp_path: Path) -> None:
    both = items(1e-7, 0.0, 3e-7, 2e-7, suffix=" (eval)") + items(*[1e-7] * 4, suffix=" (train)")
    path = a_report(
        tmp_path / "parity.json",
        Row("torch", "activations", "rounding", both, limit=8.0),
        Row("flax", "activations", "rounding", items(*[2e-7] * 4, suffix=" (eval)"), limit=8.0),
        Row("torch", "gradients", "different", items(1e-7, 1e-7, math.inf, 1e-7), limit=8.0),
        Row("torch", "names", "equal"),
    )
    title, panels = drift.read_panels(path)
    assert title == "two against numpy"
    names = ["activations (eval)", "activations (train)", "gradients"]
    assert [panel.name for panel in panels] == names
    evaluated, _, gradients = panels
    assert evaluated.nodes == ("conv1", "layer1.0.conv1", "layer1.0.bn1", "fc")
    backend, worst = evaluated.worst
    assert (backend, worst.node, worst.multiples) == ("torch", "layer1.0.bn1", pytest.approx(3.0))
    assert math.isinf(gradients.worst[1].error)
    assert drift.stage_spans(evaluated.nodes) == [("", 0, 1), ("layer1", 1, 3), ("", 3, 4)]
    text = drift.lines(panels, 2)
    assert text[1].split()[2:5] == ["layer1.0.bn1", "not", "comparable"]
    second = "torch activations (eval) layer1.0.bn1 3.0e-07 1.0e-07 3 rounding"
    assert " ".join(text[2].split()) == second
    assert text[-1] == "the worst 2 of 16 comparisons"
    only = drift.read_panels(path, ["gradients"])[1]
    assert [panel.name for panel in only] == ["gradients"]
    pytest.importorskip("matplotlib")
    assert drift.figure(title, panels).axes[0].get_yscale() == "log"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "is not JSON"),
        ("[]", "is no parity report"),
        ('{"accuracy": 1}', "is no parity report"),
        ('{"backends": {}}', "holds no errors by node"),
        ('{"backends": {"torch": {"levels": {"gradients": {"items": [{}]}}}}}', "is a damaged"),
        ('{"backends": {"torch": 3}}', "is a damaged"),
    ],
)
def test_what_is_no_parity_report(text: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rule) as caught:
        drift.read_panels(path)
    assert len(caught.value.problems) == 1


# --- What they share ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (24, (3, 8)), (32, (4, 8)), (64, (8, 8))]
)
def test_grids_leave_few_places_empty(count: int, shape: tuple[int, int]) -> None:
    assert grid_shape(count) == shape


def test_every_grid_holds_its_tiles_and_has_no_empty_row() -> None:
    for count in range(1, 200):
        rows, columns = grid_shape(count)
        assert (rows - 1) * columns < count <= rows * columns


def test_long_names_lose_their_middle() -> None:
    assert short("maple_tree") == "maple tree"
    assert short("great grey owl of the north", 11) == "great…north"


def test_a_part_of_a_split_is_its_beginning() -> None:
    whole = load_data("digits").test
    part = First(whole, 5)
    assert len(part) == 5 and len(First(whole, 10_000)) == len(whole)
    assert np.array_equal(part.labels, whole.labels[:5])


def test_sparklines_and_bars() -> None:
    assert sparkline([0.0, 0.5, 1.0, None, math.nan]) == "▁▅█··"
    assert sparkline([2.0, 2.0]) == "▄▄" and sparkline([None]) == "·"
    assert len(sparkline([float(i) for i in range(100)], 24)) == 24
    assert bar(0.5, 4) == "██" and bar(0.0, 4) == "" and bar(2.0, 4) == "████"
    assert bar(0.28, 4) == "█▏"


def test_a_thumbnail_has_two_pixels_to_a_character() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0] = (255, 0, 0)
    lines = thumbnail(image, 4)
    assert [line.plain for line in lines] == ["▀▀▀▀", "▀▀▀▀"]
    assert str(lines[0].spans[0].style) == "#ff0000 on #000000"


def test_equal_values_are_in_the_middle_of_the_range() -> None:
    assert unit_range(np.array([2.0, 2.0])).tolist() == [0.5, 0.5]
    assert unit_range(np.array([-1.0, 0.0, 3.0])).tolist() == [0.0, 0.25, 1.0]
