"""`show spec`: what the diagram and the tree of a network say, apart from how they are drawn."""

from __future__ import annotations

from functools import cache

import pytest

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.ops import Conv
from resnet_spec.plan import walk
from resnet_spec.planning.lowering import lower
from resnet_spec.showing import diagram, tree
from resnet_spec.showing.network import Network, network_of
from resnet_spec.showing.op_text import amount, op_text
from resnet_spec.showing.shapes import Box, Disc, Sheet, Wire, Words

DRAWN = (
    "resnet18",
    "resnet50d",
    "resnet20_cifar",
    "preact110_cifar",
    "resnext50_32x4d",
    "seresnet50",
    "resnet152",
    "plain20_cifar",
)


@cache
def network(name: str, *settings: str) -> Network:
    return network_of(lower(load_spec(name, settings)))


def repeats(found: Network) -> list[list[tuple[str, int]]]:
    return [[(it.letter, it.count) for it in stage.repeats] for stage in found.stages]


def texts(sheet: Sheet) -> list[str]:
    return [shape.text for shape in sheet.shapes if isinstance(shape, Words)]


def test_blocks_are_sorted_into_kinds_with_repeat_counts() -> None:
    assert [kind.about for kind in network("resnet152").kinds] == [
        "bottleneck, projection",
        "bottleneck, identity",
        "bottleneck, projection, stride 2",
    ]
    assert repeats(network("resnet152")) == [
        [("A", 1), ("B", 2)],
        [("C", 1), ("B", 7)],
        [("C", 1), ("B", 35)],
        [("C", 1), ("B", 2)],
    ]
    assert [len(kind.names) for kind in network("resnet152").kinds] == [1, 46, 3]


def test_kinds_of_other_networks() -> None:
    def about(*name: str) -> list[str]:
        return [kind.about for kind in network(*name).kinds]

    assert about("resnet20_cifar") == ["basic, identity", "basic, zero-padded, stride 2"]
    assert about("resnet50d")[2] == "bottleneck, pooled projection, stride 2"
    assert about("plain20_cifar") == ["basic, no shortcut", "basic, no shortcut, stride 2"]
    # Drop rates differ from block to block, and make no kinds; a block without one does.
    dropped = about("resnet18", "stochastic_depth=0.2")
    assert dropped == [
        "basic, identity",
        "basic, identity, drop path",
        "basic, projection, stride 2, drop path",
    ]


def test_uneven_pads_make_kinds_of_their_own() -> None:
    assert len(network("resnet18").kinds) == 2
    same = network("resnet18", "padding=same", "input.size=72")
    pads = {
        op_text(op).numbers
        for kind in same.kinds
        for op in walk(kind.example)
        if isinstance(op, Conv)
    }
    assert {"stride 2, pad 0/1/0/1", "stride 2, pad 1"} <= pads


def test_costs_are_those_of_describe() -> None:
    found = network("resnet50d")
    assert (found.params, found.macs) == (25_576_264, 4_328_825_832)
    rows = [found.stem.row, *(stage.row for stage in found.stages), found.head.row]
    assert sum(row.params for row in rows) == found.params
    assert [row.output_shape for row in rows[:2]] == [(64, 56, 56), (256, 56, 56)]
    assert [op_text(op).name for op in found.head.ops] == ["global average pool", "linear"]


def test_ops_in_words() -> None:
    ops = {op.name: op for op in lower(load_spec("seresnext50_32x4d", ["padding=same"])).ops}
    assert str(op_text(ops["conv1"])) == "conv 7×7, 3 → 64, stride 2, pad 2/3/2/3"
    assert op_text(ops["layer1.0.conv2"]).numbers == "pad 1, 32 groups"
    assert str(op_text(ops["layer1.0.se.fc1"])) == "conv 1×1, 256 → 16, bias"
    both = {op.name: op for op in lower(load_spec("resnet20_cifar", ["zero_pad_at=both"])).ops}
    shortcut = op_text(both["layer2.0.downsample"])
    assert str(shortcut) == "zero channels, 16 → 32, 8 before, 8 after, every 2nd pixel"
    zero = {op.name: op for op in lower(load_spec("resnet18", ["zero_init_last_norm=true"])).ops}
    assert op_text(zero["layer1.0.bn2"]).numbers == "scale starts at 0"
    assert not op_text(zero["layer1.0.bn1"]).numbers


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (28_768, "28.8 k"), (999_700, "1.00 M")],
)
def test_amounts_have_three_digits(count: int, text: str) -> None:
    assert amount(count) == text


# --- The diagram ----------------------------------------------------------------------------------


def test_a_deeper_network_has_no_more_boxes() -> None:
    shallow, deep = (diagram.sheet_of(network(name)) for name in ("resnet50", "resnet152"))
    assert len(shallow.shapes) == len(deep.shapes)
    assert "× 35" in texts(deep) and "× 35" not in texts(shallow)


def test_every_border_has_its_shape_and_every_kind_its_panel() -> None:
    found = texts(diagram.sheet_of(network("resnet50d")))
    for shape in ("3 × 224 × 224", "64 × 56 × 56", "256 × 56 × 56", "1024 × 14 × 14"):
        assert shape in found
    for text in ("layer3", "average pool 2×2", "stride 2, pad 1", "256 → 512", "identity"):
        assert text in found
    assert "layer2.0, one of 3 of its kind" in found
    assert "1,000 classes, 25,576,264 params, 4.33 G MACs for an image of 3 × 224 × 224" in found


def test_a_gate_is_a_branch_with_a_product() -> None:
    def signs(name: str) -> list[str]:
        sheet = diagram.sheet_of(network(name))
        return [it.sign for it in sheet.shapes if isinstance(it, Disc) and it.sign in "×+"]

    assert [sign for sign in signs("seresnet50") if sign] == ["×", "+"] * 3
    assert [sign for sign in signs("resnet50") if sign] == ["+"] * 3
    assert [sign for sign in signs("plain20_cifar") if sign] == []


def _split_and_first_box(name: str, letter: str) -> tuple[float, float]:
    """Return how far down the shortcut leaves, and where the first op of the panel begins."""
    found = network(name)
    kind = next(kind for kind in found.kinds if kind.letter == letter)
    from resnet_spec.showing.diagram_block import kind_sheet

    shapes = kind_sheet(kind, "black", "white").shapes
    dots = [it.y for it in shapes if isinstance(it, Disc) and not it.sign]
    return dots[0], min(it.top for it in shapes if isinstance(it, Box))


def test_the_shortcut_leaves_where_the_plan_says() -> None:
    # Pre-activation: the identity is of the block's input, a projection of what is activated.
    split, first = _split_and_first_box("preact110_cifar", "A")
    assert split < first
    split, first = _split_and_first_box("preact110_cifar", "B")
    assert split > first + 17
    split, first = _split_and_first_box("resnet18", "B")
    assert split < first


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_leaves_its_box_or_meets_another(name: str) -> None:
    """Measured with the font that is drawn."""
    sheet = diagram.sheet_of(network(name))
    words = [shape for shape in sheet.shapes if isinstance(shape, Words)]
    boxes = [shape for shape in sheet.shapes if isinstance(shape, Box)]
    places = [_place(it) for it in words]
    for it, (left, top, right, bottom) in zip(words, places, strict=True):
        assert min(left, top) >= 0 and right <= sheet.width and bottom <= sheet.height, it
        around = [box for box in boxes if _holds(box, it.x, it.y)]
        if around:
            box = min(around, key=lambda box: box.width * box.height)
            assert box.left < left and right < box.left + box.width, it
    for i, one in enumerate(places):
        for other in places[:i]:
            apart_x = one[2] <= other[0] or other[2] <= one[0]
            assert apart_x or one[3] <= other[1] or other[3] <= one[1], words[i]
    for wire in (shape for shape in sheet.shapes if isinstance(shape, Wire)):
        assert all(0 <= x <= sheet.width and 0 <= y <= sheet.height for x, y in wire.points)


def _holds(box: Box, x: float, y: float) -> bool:
    return box.left <= x <= box.left + box.width and box.top <= y <= box.top + box.height


def _place(words: Words) -> tuple[float, float, float, float]:
    width = _drawn_width(words.text, words.size, words.bold)
    left = words.x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[words.align]
    return left, words.y - 0.55 * words.size, left + width, words.y + 0.55 * words.size


@cache
def _drawn_width(text: str, size: float, bold: bool) -> float:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    width, _, _ = RendererAgg(8, 8, 120).get_text_width_height_descent(text, font, ismath=False)
    return width * 72 / 120


def test_kinds_beyond_the_eighth_are_listed_and_not_drawn() -> None:
    stages = [{"width": 4, "blocks": 1, "dilation": n} for n in range(1, 11)]
    spec = load_spec({"name": "many", "block": "basic", "stages": stages})
    found = network_of(lower(spec))
    assert len(found.kinds) == 10
    sheet = diagram.sheet_of(found)
    assert sum(text.endswith("of its kind") for text in texts(sheet)) == diagram.MOST_KINDS
    assert any("2 more kinds of blocks are not drawn" in text for text in texts(sheet))


# --- The tree -------------------------------------------------------------------------------------


def test_the_tree_has_stages_counts_and_ops() -> None:
    lines = tree.lines(network("resnet20_cifar"))
    assert lines[0] == (
        "resnet20_cifar  3 × 32 × 32 -> 10 classes, 269,722 params, 40,551,050 MACs"
    )
    assert "     2 x A: basic, identity" in lines
    squeezed = [" ".join(line.split()) for line in lines]
    assert "conv1 conv 3×3, 16 → 32, stride 2, pad 1" in squeezed
    assert "  shortcut: identity" in lines


def test_the_tree_names_the_gate_and_the_pre_activation_identity() -> None:
    lines = tree.lines(network("seresnet50"))
    gate = lines.index("    se: times what follows from it")
    assert lines[gate + 1].split() == ["pool", "global", "average", "pool"]
    pre = tree.lines(network("preact110_cifar"))
    assert "  shortcut: identity on the input of stages.0.blocks.0" in pre
