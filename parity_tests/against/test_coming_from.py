"""The pages of docs/coming-from, run as a reader would: their Python, then their commands.

Each needs the package that it is about; where that is not installed, its test says so.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from test_packages import package  # pyright: ignore[reportMissingImports]

from resnet_spec.cli.main import main

FOLDER = Path(__file__).parents[2] / "docs" / "coming-from"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
FAST = ("inspect", "convert", "list", "describe")


def run_page(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the page's code in `folder`; return the commands that ran to their end."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    done: list[str] = []
    for kind, body in FENCE.findall((FOLDER / f"{name}.md").read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(body, f"{name}.md", "exec"), names)
        for line in body.splitlines() if kind == "console" else ():
            words = shlex.split(line, comments=True)[2:]
            if words[0] in FAST and _has_files(words):
                assert main(words) == 0, line
                done.append(words[0])
    return done


def _has_files(words: list[str]) -> bool:
    """Whether the weight file that a command reads was made by the page's code before it."""
    return words[0] not in ("inspect", "convert") or Path(words[1]).is_file()


# Keras 3.15's variables have an __array__ of NumPy 1.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "client", "commands"),
    [
        ("torchvision", "torchvision", ["inspect", "convert", "convert"]),
        ("timm", "timm", ["inspect", "convert", "convert"]),
        ("flax", "flax", ["describe"]),
        ("mindcv", "mindcv", ["inspect", "convert", "convert"]),
        ("keras", "keras", ["inspect", "convert", "convert"]),
    ],
)
def test_the_page_does_what_it_says(
    name: str, client: str, commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    package(client)
    assert run_page(name, tmp_path, monkeypatch) == commands
