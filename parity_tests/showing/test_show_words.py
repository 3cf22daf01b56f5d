"""Words of pictures: rows of a diagram, lines of a tree, headings of filters, tables."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from resnet_spec.data.dataset import Dataset
from resnet_spec.planning.lowering import lower
from resnet_spec.reporting import plot_text
from resnet_spec.showing.canvas import Tile, page, picture
from resnet_spec.showing.confusion import MOST_NUMBERED, lines
from resnet_spec.showing.diagram import _end_rows
from resnet_spec.showing.features import figure
from resnet_spec.showing.filters import Filters, about
from resnet_spec.showing.network import network_of
from resnet_spec.showing.part import First
from resnet_spec.showing.tree import lines as tree_lines


def test_a_norm_and_an_activation_stand_behind_what_they_follow() -> None:
    network = network_of(lower("resnet18"))
    (conv, said), (pool, _) = _end_rows(network.stem)
    assert (conv.name, pool.name) == ("conv1", "maxpool")
    before, *after = said.numbers.rsplit(", ", 2)
    assert before and after == ["batch norm", "relu"]


def test_what_a_gate_multiplies_by_stands_further_in() -> None:
    found = tree_lines(network_of(lower("seresnet50")))
    gate = next(i for i, line in enumerate(found) if line.endswith("times what follows from it"))
    indents = [len(line) - len(line.lstrip()) for line in found]
    assert indents[gate + 1] == indents[gate] + 2


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (1, "each filter scaled to its own range"),
        (2, "the mean of each filter's 2 channels; each filter scaled to its own range"),
        (
            3,
            "each filter scaled to its own range, which its red, green and blue weights share",
        ),
    ],
)
def test_filters_are_said_to_be_shown_as_they_are(channels: int, said: str) -> None:
    filters = Filters("conv1", np.zeros((4, channels, 3, 3)))
    assert about(filters, "a.pth") == ("conv1 of a.pth: 4 filters of 3 x 3", said)


@pytest.mark.parametrize("classes", [MOST_NUMBERED, MOST_NUMBERED + 1])
def test_the_matrix_is_printed_up_to_its_last_number_of_classes(classes: int) -> None:
    names = [f"c{i}" for i in range(classes)]
    width = max(map(len, lines(2 * np.eye(classes, dtype=np.int64), names)))
    assert (width > 2 * MOST_NUMBERED) == (classes == MOST_NUMBERED)


def test_the_first_images_are_told_from_those_of_other_data() -> None:
    def first_two(images: np.ndarray) -> bytes:
        labels = np.array([0, 1, 0])
        data = Dataset.from_arrays("a", (images, labels), (images, labels), ["x", "y"])
        return b"".join(First(data.train, 2).content())

    images = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    assert first_two(images) == first_two(images.copy()) != first_two(images + 1)
    assert first_two(images).startswith(b"first 2\n")


def test_fonts_to_fall_back_on_are_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = pytest.importorskip("matplotlib.font_manager")
    there = [SimpleNamespace(name=name) for name in ("Other", plot_text._FALLBACKS[-1])]
    monkeypatch.setattr(manager, "fontManager", SimpleNamespace(ttflist=there))
    assert plot_text._installed.__wrapped__() == (plot_text._FALLBACKS[-1],)


def test_a_drawing_of_features_says_what_of() -> None:
    pytest.importorskip("matplotlib")
    drawn = figure([], np.zeros((4, 4, 3), np.uint8), "resnet18 of a.pth", "cat")
    texts = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert "resnet18 of a.pth" in texts and "cat" in texts
    assert any(text.endswith("(dark) to its largest (light)") for text in texts)


def test_a_tile_is_drawn_where_it_is_to_be() -> None:
    pytest.importorskip("matplotlib")
    _, axes = page(4.0, 4.0)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    picture(axes, Tile(pixels, ""), 1.0, 2.0, 0.5)
    (drawn,) = axes.images
    times = drawn.get_array().shape[0] // 4
    assert drawn.get_extent() == [1.0, 1.5, 2.5, 2.0]
    assert np.array_equal(drawn.get_array()[::times, ::times], pixels)
