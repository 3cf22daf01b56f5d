"""Scripts for shells: what they offer is what the parsers take."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from resnet_spec.cli.completion import SHELLS
from resnet_spec.cli.main import COMMANDS, main
from resnet_spec.describing.presets import list_presets


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from resnet_spec.cli.completion_scripts import SCRIPTS
    from resnet_spec.cli.completion_words import all_words

    folder, words = tmp_path_factory.mktemp("scripts"), all_words()
    for shell in SHELLS:
        (folder / shell).write_text(SCRIPTS[shell](words))
    return folder


def offered(scripts: Path, *typed: str) -> list[str]:
    """Return what bash offers once `typed` is typed, the last of it in part."""
    asked = """source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _resnet_spec
        printf '%s\\n' "${COMPREPLY[@]}" """
    words = ["bash", "-c", asked, "bash", str(scripts / "bash"), "resnet-spec", *typed]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stderr == ""
    return found.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_what_bash_offers(scripts: Path) -> None:
    assert offered(scripts, "") == [*COMMANDS, "--help", "--version"]
    assert offered(scripts, "tr") == ["train"]
    assert offered(scripts, "train", "") == list_presets()
    assert offered(scripts, "train", "resnet18", "--back") == ["--backend"]
    assert "torch" in offered(scripts, "train", "resnet18", "--backend", "")
    assert offered(scripts, "train", "--out", "") == []  # A file's name, which is bash's own.
    assert offered(scripts, "list", "--format", "j") == ["json"]
    assert offered(scripts, "show", "s") == ["samples", "spec"]
    assert offered(scripts, "show", "samples", "--split", "v") == ["validation"]
    assert offered(scripts, "completion", "z") == ["zsh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_can_be_read(shell: str, scripts: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not there")
    read = subprocess.run([shell, "-n", str(scripts / shell)], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


def test_every_command_and_option_is_in_every_script(scripts: Path) -> None:
    for shell in SHELLS:
        text = (scripts / shell).read_text()
        assert all(name in text for name in COMMANDS)
        assert "cifar-fast" in text and ("head-rate" in text)


def test_the_command_prints_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert "complete -o default -F _resnet_spec resnet-spec" in capsys.readouterr().out
    assert main(["completion", "powershell"]) == 2
    assert "SHELL = powershell: must be bash, zsh or fish" in capsys.readouterr().err


def test_fish_offers_commands_first_and_those_inside_one_behind_it(scripts: Path) -> None:
    first = " -n __fish_use_subcommand -f -a "
    lines = (scripts / "fish").read_text().splitlines()
    assert [line.partition(first)[2].split()[0] for line in lines if first in line] == [*COMMANDS]
    inside = "'__fish_seen_subcommand_from show; and __fish_seen_subcommand_from samples'"
    assert any(inside in line for line in lines)


def test_an_option_that_takes_nothing_wants_no_value(scripts: Path) -> None:
    lines = (scripts / "fish").read_text().splitlines()
    train = [line for line in lines if "'__fish_seen_subcommand_from train'" in line]
    wants = {
        name: " -r" in line
        for line in train
        for name in ("quiet", "overwrite", "backend", "out")
        if f" -l {name} " in line
    }
    assert wants == {"quiet": False, "overwrite": False, "backend": True, "out": True}
