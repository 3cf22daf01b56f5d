"""A text that is empty, as of a variable of the shell that is not set, is refused everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnet_spec.cli.main import COMMANDS, main, parser_of


def places() -> Iterator[tuple[list[str], str]]:
    """Yield, for each argument that takes a value, what is typed before it, and its name."""
    for command in COMMANDS:
        outer = parser_of(command)
        inner = outer.inner()
        for words, parser in [([command, name], it) for name, it in inner.items()] or [
            ([command], outer)
        ]:
            first = True
            for action in parser._actions:
                if action.nargs == 0 or isinstance(action, argparse._HelpAction):
                    continue
                if action.option_strings:
                    for option in action.option_strings:
                        yield [*words, option], option
                elif first:
                    first = False
                    yield words, str(action.metavar or action.dest)


PLACES = list(places())


def test_many_arguments_are_tried() -> None:
    tried = {" ".join(words) for words, _ in PLACES}
    named = ("train --data", "train --out", "parity --backends", "show samples --data", "report")
    assert len(tried) > 120 and tried >= set(named)


@pytest.mark.parametrize("text", ["", " "], ids=["nothing", "blank"])
def test_an_empty_text_is_one_line_wherever_a_value_is_taken(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, where in PLACES:
        assert main([*words, text]) == 2, words
        line = f'resnet-spec: error: {where} = "": must not be empty; give a value, or leave it out'
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.count("\n") == 1
        assert shown.err.startswith(line), words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("parity", "resnet20_cifar", "--backends"),
        ("parity", "resnet20_cifar", "--level"),
        ("compare", "--specs"),
    ],
    ids=" ".join,
)
def test_a_list_of_no_names_is_not_the_usual_one(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, ","]) == 2
    line = f"resnet-spec: error: {words[-1]} = ,: names nothing"
    assert capsys.readouterr().err.startswith(line)


def test_an_argument_that_is_left_out_is_not_an_empty_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "--recipes"]) == 0
    assert "demo" in capsys.readouterr().out
