"""The tutorial's notebook is the page's, and every cell of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "make_notebook.py"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    one_thread = {"OMP_NUM_THREADS": "1"}  # Beside the other tests.
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=one_thread | os.environ,
    )


def test_the_notebook_is_made_from_the_page(tmp_path: Path) -> None:
    pytest.importorskip("nbformat")
    done = make("--check")
    assert done.returncode == 0, done.stdout
    page = tmp_path / "tutorial.md"
    page.write_text((ROOT / "docs" / "tutorial.md").read_text("utf-8") + "\nOne line more.\n")
    page.with_suffix(".ipynb").write_bytes((ROOT / "docs" / "tutorial.ipynb").read_bytes())
    done = make(str(page), "--check")
    assert done.returncode == 1 and "is not made from" in done.stdout


CHOICE = 'BACKEND = os.environ["BACKEND"] = "torch"'
NETWORK, EPOCHS = "resnet20_cifar", "epochs=3"
SMALL = """
base = "resnet20_cifar"
stages = [
    {width = 16, blocks = 1},
    {width = 32, blocks = 1, stride = 2},
    {width = 64, blocks = 1, stride = 2},
]
"""
"""A network that shows as well that the cells run, and what they print and leave."""


QUICK = "numpy, torch"


def in_(text: str, backend: str) -> str:
    """Return the page with another framework chosen."""
    return text.replace(CHOICE, CHOICE.replace("torch", backend))


def made_quick(text: str, folder: Path) -> str:
    """Return the page with a small network, short runs and frameworks that compile nothing."""
    assert text.count(NETWORK) == 5 and text.count(EPOCHS) == 2
    assert text.count("--backend flax") == 2 and text.count("--backends $BACKEND ") == 1
    (folder / "small.toml").write_text(SMALL)
    text = text.replace(NETWORK, "small.toml").replace(EPOCHS, "epochs=1")
    text = text.replace("--backend flax", "--backend torch")
    return in_(text, "numpy")


@pytest.mark.parametrize(
    "backend",
    [
        QUICK,
        *(pytest.param(it, marks=pytest.mark.thorough) for it in ("torch", "flax", "mindspore")),
    ],
)
def test_every_cell_of_the_notebook_runs(backend: str, tmp_path: Path) -> None:
    for name in ("nbclient", "ipykernel", *(("torch",) if backend == QUICK else ("flax", backend))):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    assert text.count(CHOICE) == 1
    page = tmp_path / "tutorial.md"
    page.write_text(made_quick(text, tmp_path) if backend == QUICK else in_(text, backend), "utf-8")
    done = make(str(page), "--run", str(tmp_path))
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "tutorial.ipynb").read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    text = "".join("".join(output.get("text", ())) for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert "fc: 10 -> 2 classes" in text
    assert text.count("left in tutorial/") == 4
    assert "different" not in text.rpartition("float32 against numpy")[2]


def test_a_cell_that_fails_is_seen(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    page = tmp_path / "page.md"
    page.write_text("```console\n$ resnet-spec train nothing_such --backend numpy\n```\n")
    done = make(str(page), "--run", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "nothing_such" in done.stderr
