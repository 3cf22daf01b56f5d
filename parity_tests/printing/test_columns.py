"""Tables that fit: what yields, what is left out, and that it is said."""

from __future__ import annotations

import pytest

from resnet_spec.cli.main import main
from resnet_spec.printing.columns import (
    Column,
    aligned,
    cells_of,
    fitted,
    hanging,
    pairs,
    shortened,
)

COLUMNS = (
    Column("name", least=8),
    Column("count", right=True),
    Column("second", drop=2),
    Column("first", drop=1),
)
ROWS = [("layer3.1.downsample.0.weight", "12", "bb", "aaaa"), ("fc.bias", "3", "b", "a")]


def test_without_a_width_all_is_whole() -> None:
    assert fitted(COLUMNS, ROWS) == [
        "name                          count  second  first",
        "layer3.1.downsample.0.weight     12  bb      aaaa",
        "fc.bias                           3  b       a",
    ]


@pytest.mark.parametrize(
    ("width", "head", "first", "told"),
    [
        (50, f"name{' ' * 26}count  second  first", "layer3.1.downsample.0.weight", ""),
        (40, "name                count  second  first", "layer3.1….0.weight", ""),
        (30, "name      count  second  first", "lay…ight", ""),
        (29, "name            count  second", "layer3….weight", "no room here for: first"),
        (20, "name           count", "layer3…weight", "no room here for: second, first"),
    ],
)  # fmt: skip
def test_names_are_shortened_then_columns_left_out_in_their_order(
    width: int, head: str, first: str, told: str
) -> None:
    lines = fitted(COLUMNS, ROWS, width)
    assert lines[0] == head
    assert lines[1].split()[0] == first
    assert " ".join(lines[3:]).replace("   ", " ").strip() == told
    assert all(len(line) <= width for line in lines)


def test_what_always_stays_stays() -> None:
    assert fitted([Column("a"), Column("b")], [("long", "longer")], 3) == [
        "a     b",
        "long  longer",
    ]


@pytest.mark.parametrize(
    ("text", "most", "tail", "short"),
    [
        ("abcdefghij", 10, False, "abcdefghij"),
        ("abcdefghij", 6, False, "ab…hij"),
        ("abcdefghij", 7, False, "abc…hij"),
        ("abcdefghij", 6, True, "abcde…"),
        ("猫猫猫猫", 5, False, "猫…猫"),
        ("猫猫猫猫", 6, True, "猫猫…"),
    ],
)
def test_shortened(text: str, most: int, tail: bool, short: str) -> None:
    assert shortened(text, most, tail=tail) == short
    assert cells_of(short) <= most


def test_wide_letters_take_two_cells() -> None:
    assert cells_of("猫 x") == 4
    assert cells_of("e\u0301") == 1
    assert aligned([("猫", "1"), ("dog", "22")], right=[1]) == ["猫    1", "dog  22"]


def test_pairs_stay_whole() -> None:
    found = {"framework": "torch", "version": "2.13.0+cpu", "optimizer": "sgd, fused"}
    assert pairs("torch", found, 200) == [
        "torch: framework torch, version 2.13.0+cpu, optimizer sgd, fused"
    ]
    assert pairs("torch", found, 46) == [
        "torch: framework torch, version 2.13.0+cpu,",
        "  optimizer sgd, fused",
    ]


def test_text_hangs_to_the_right_of_its_start() -> None:
    assert hanging("name   ", "some words that go on and on", 30) == [
        "name   some words that go on",
        "       and on",
    ]
    assert hanging("name   ", "some words that go on", None) == ["name   some words that go on"]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "line",
    [
        "list resnet1*",
        "list --pretrained resnet1*",
        "list --recipes",
        "list --data",
        "list --schemes",
        "list --engines",
        "describe resnet50",
        "compare --list",
    ],
)
def test_commands_fit_the_terminal(
    line: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(line.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and [it for it in lines if cells_of(it) > width] == []


def test_a_pipe_gets_whole_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown and "no room here" not in shown
    assert max(map(len, shown.splitlines())) > 120
