"""What people type first is answered with what to type here, and that works."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from resnet_spec.cli.hints import HINTS, VALUES, WORDS, answer
from resnet_spec.cli.main import COMMANDS, main, parser_of
from resnet_spec.cli.parsing import Parser
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.describing.split_settings import sorted_settings


def told(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """Return what stands behind `error: ` on the one line that `line` ends with."""
    assert main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.removeprefix("resnet-spec: error: ").strip()


def parsers() -> Iterator[Parser]:
    for name in COMMANDS:
        parser = parser_of(name)
        yield from parser.inner().values() or [parser]


def options(parser: Parser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("train resnet18 --epochs 5", "--epochs: unknown option; use --set epochs=5"),
        ("train resnet18 --epochs=5", "--epochs: unknown option; use --set epochs=5"),
        ("train resnet18 --epochs", "--epochs: unknown option; use --set epochs=5"),
        ("train --backend torch --lr 0.3 x", "--lr: unknown option; use --set schedule.rate=0.3"),
        ("train x --lr -1", "--lr: unknown option; use --set schedule.rate=-1"),
        ("train x --batch-size 32", "--batch-size: unknown option; use --set batch=32"),
        ("evaluate --batch-size 32 x", "--batch-size: unknown option; use --batch 32"),
        ("train x --amp --lr 1", "--amp: unknown option; use --set precision=bfloat16"),
        ("train x --teacher a.pth", "--teacher: unknown option; use --set loss.teacher=a.pth"),
        (
            "train x --distillation-alpha 0.5",
            "use --set loss.teacher=FILE --set loss.teacher_weight=0.5",
        ),
        ("train x --distillation-tau 3", "loss.teacher=FILE --set loss.temperature=3"),
        ("train x --seed 1", "--seed: unknown option; use --set seed=1"),
        ("compare --gpu 0", "--gpu: unknown option; use --device cuda:0"),
        ("train x --pretrained-weights y", "use --pretrained y"),
        ("train x --data-dir '/my data'", "use --data '/my data'"),
        ("train x --num-classes 10", "leave it out: the classes are those of --data"),
        ("describe x --num-classes 10", "use --classes 10"),
        ("train x --workers 4", "leave it out: images are decoded by as many threads"),
        ("train --model resnet50", "use resnet-spec train resnet50: the network comes first"),
        ("compare --model resnet50", "use --specs resnet50"),
        ("evaluate --weights a.pth", "use resnet-spec evaluate a.pth: weights come first"),
        ("evaluate x --epochs 5", "in resnet-spec train it is: --set epochs=5"),
        ("show samples --epochs 5", "use --set epochs=5; see: resnet-spec show samples --help"),
        ("show sampels", "WHAT = sampels: must be samples, "),
        ("show sampels", "did you mean 'samples'?"),
        ("list --format jsn", "--format = jsn: must be table or json; did you mean 'json'?"),
        ("evaluate x --split val", "did you mean 'validation'?"),
        ("version", "version: unknown command; use resnet-spec --version"),
        ("-V", "-V: unknown option; use resnet-spec --version"),
        ("help", "use resnet-spec --help"),
        ("help train", "use resnet-spec train --help"),
        ("run resnet18", "use resnet-spec train resnet18"),
        ("eval", "use resnet-spec evaluate CHECKPOINT"),
        ("summary resnet18", "use resnet-spec describe resnet18"),
        ("resnet50", "a command comes first, as in resnet-spec describe resnet50"),
        ("mine.toml", "a command comes first, as in resnet-spec describe mine.toml"),
        ("weights.pth", "a command comes first, as in resnet-spec inspect weights.pth"),
        ("--backend torch", "a command comes first, as in resnet-spec train"),
    ],
)
def test_what_is_typed_first_is_answered(
    line: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert remedy in told(capsys, line)


def test_an_unknown_option_is_named_before_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert told(capsys, "evaluate --batch-size 8").startswith("--batch-size: unknown option")


def test_a_value_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "describe resnet18 --classes -5") == "classes = -5: must be >= 1"
    assert told(capsys, "describe -- --epochs").startswith("spec = --epochs: ")


def test_no_word_is_an_option_of_the_command_that_it_is_answered_for() -> None:
    """An answer that names the option itself would send people round in circles."""
    for parser in parsers():
        own = options(parser)
        for word in (word for hint in HINTS for word in hint.words.split() if word not in own):
            assert word not in (answer(word, "7", parser.command, own) or "").split()


def without_option(words: list[str]) -> list[str]:
    """Return the settings of an answer, each of which stands behind a --set of its own."""
    settings = [word for word in words if word != "--set"]
    assert len(settings) - words.count("--set") in (0, 1)
    return settings


def test_every_answer_works() -> None:
    """Options are the command's own; settings are those of a recipe or a network."""
    answered: set[str] = set()
    for parser in parsers():
        own = options(parser)
        for hint in HINTS:
            word = next((word for word in hint.words.split() if word not in own), None)
            found = word and answer(word, None, parser.command, own)
            if not found or not found.startswith("use --"):
                continue
            answered.add(hint.words)
            option, *rest = shlex.split(found.removeprefix("use "))
            assert option in own, (parser.prog, found)
            if option == "--set":
                for_recipe, for_spec = sorted_settings(without_option(rest))
                load_spec("resnet50", for_spec)
                takes = ("train", "find-rate", "compare", "show samples")
                assert not for_recipe or parser.command in takes
    assert len(answered) > 30


def test_settings_of_answers_are_fields_of_a_recipe() -> None:
    from resnet_spec.describing.recipes import load_recipe

    own, settings = options(parser_of("train")), set[str]()
    for hint in HINTS:
        found = answer(hint.words.split()[0], None, "train", own) or ""
        if found.startswith("use --set "):
            for_recipe, _ = sorted_settings(without_option(shlex.split(found)[1:]))
            load_recipe("imagenet-90", for_recipe)  # An unknown field is an error.
            settings.update(for_recipe)
    assert len(settings) >= 5


def test_words_lead_to_commands() -> None:
    for word, told in WORDS.items():
        assert word not in COMMANDS
        first = told.split()[0]
        assert first in COMMANDS or first in ("--version", "--help"), told
        if first in COMMANDS:
            own = options(parser_of(first))
            assert {it for it in told.split() if it.startswith("-")} <= own, told


def test_values_of_others_lead_to_choices() -> None:
    found: dict[str, set[str]] = {}
    for parser in parsers():
        for action in parser._actions:
            for option in action.option_strings:
                found.setdefault(option, set()).update(map(str, action.choices or ()))
    for option, meant in VALUES.items():
        assert set(meant.values()) <= found[option]
