"""A backend of another distribution: installed, listed, judged, and harmless where it is broken.

The package in out_of_tree/ is the one that docs/backends.md walks through.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from border import CONTRACT
from heard import heard

HERE = Path(__file__).parent
PACKAGE = HERE / "out_of_tree"
SMALL = str(PACKAGE / "small.toml")
NETWORKS = ("small.toml", "resnet20_cifar")
"""Of the document's commands."""
DOCUMENT = HERE.parent / "docs" / "backends.md"
COMMAND = (sys.executable, "-m", "resnet_spec.cli.main")

pytestmark = pytest.mark.xdist_group("third_party")
Done = subprocess.CompletedProcess[str]


def run(*argv: str, path: tuple[Path, ...] = (), fault: str = "") -> Done:
    """Run a program that finds what is installed in `path`, too."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    changes = {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "RESNET_SPEC_TAPE_FAULT": fault,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        argv, env=kept | changes, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package as a user would, into a folder of its own and without a network."""
    folder = tmp_path_factory.mktemp("site")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", *options)
    done = run(*pip, "--target", str(folder), str(PACKAGE))
    assert done.returncode == 0, done.stderr
    return folder


def plugin(folder: Path, name: str, source: str) -> Path:
    """Lay out in `folder` what an installed backend called `name` consists of."""
    metadata = folder / f"{name}_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0")
    (metadata / "entry_points.txt").write_text(f"[resnet_spec.backends]\n{name} = {name}_plugin\n")
    (folder / f"{name}_plugin.py").write_text(source)
    return folder


# --- A sound one ----------------------------------------------------------------------------------


def backends_on(*path: Path) -> dict[str, Any]:
    listed = run(*COMMAND, "backends", "--format", "json", path=path)
    assert listed.returncode == 0, listed.stderr
    return {row["name"]: row for row in json.loads(listed.stdout)}


def test_it_is_listed_where_it_is_installed(tape: Path) -> None:
    row = backends_on(tape)["tape"]
    assert (row["distribution"], row["package"]) == ("resnet-spec-tape", "resnet_spec_tape")
    assert row["installed"]
    assert "tape" not in backends_on()


def parity(tape: Path, *argv: str, fault: str = "") -> tuple[int, Any]:
    command = (*COMMAND, "parity", SMALL, "--backends", "tape", "--format", "json", *argv)
    done = run(*command, path=(tape,), fault=fault)
    assert heard(done.stderr) == []
    return done.returncode, json.loads(done.stdout)


def levels_of(report: Any) -> dict[str, str]:
    return {name: row["verdict"] for name, row in report["backends"]["tape"]["levels"].items()}


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_it_agrees_at_every_level(tape: Path, precision: str) -> None:
    status, report = parity(tape, "--precision", precision)
    assert (status, report["verdict"]) == (0, "agree")
    levels = levels_of(report)
    assert len(levels) >= 11
    assert set(levels.values()) == {"equal", "rounding"}


def test_a_planted_fault_is_found_located_and_named(tape: Path) -> None:
    status, report = parity(tape, fault="variance")
    assert (status, report["verdict"]) == (1, "differ")
    differing = {name for name, verdict in levels_of(report).items() if verdict == "different"}
    assert differing == {"statistics", "trajectory"}
    command = (*COMMAND, "bisect", SMALL, "--backends", "tape", "--mode", "statistics")
    found = run(*command, path=(tape,), fault="variance")
    assert found.returncode == 1
    assert "first wrong node is bn1: biased variance" in found.stdout


@pytest.mark.parametrize(
    ("fault", "status"), [pytest.param("", 0, marks=pytest.mark.thorough), ("variance", 1)]
)
def test_the_suite_runs_against_it(tape: Path, fault: str, status: int) -> None:
    files = [str(HERE / f"test_{name}.py") for name in ("statistics", "gradients", "training")]
    chosen = "tape and (plain or resumed)"
    options = ("-q", "-p", "no:cacheprovider", "-k", chosen)
    done = run(sys.executable, "-m", "pytest", *options, *files, path=(tape,), fault=fault)
    assert done.returncode == status, done.stdout
    # Eight tests of the network in two precisions, and four that stop and resume a run.
    assert ("12 passed" if status == 0 else "2 failed, 10 passed") in done.stdout


# What the command line's recipe leaves out. Prints the largest difference of loss and of state.
OTHER_TERMS = """
import numpy as np
from resnet_spec import load_spec, lower
from resnet_spec.parity.setup import make_recipe, make_setup
from resnet_spec.parity.side import Side

terms = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02, "decay_biases": False}
recipe = make_recipe(accumulate=3, ema={"decay": 0.9}, optimizer=terms)
setup = make_setup(lower(load_spec("SMALL")), recipe)
(losses, end), (others, other) = (Side(name, setup, "float64").run for name in ("tape", "numpy"))
assert end.keys() == other.keys() and "ema/fc.bias" in end
print(np.abs(losses - others).max(), max(np.abs(end[k] - a).max() for k, a in other.items()))
"""


def test_accumulation_nesterov_and_averages(tape: Path) -> None:
    done = run(sys.executable, "-c", OTHER_TERMS.replace("SMALL", SMALL), path=(tape,))
    assert done.returncode == 0, done.stderr
    # 4e-16 and 7e-16 were measured.
    assert all(float(figure) < 1e-14 for figure in done.stdout.split())
    assert len(done.stdout.split()) == 2


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("augment={mixup=0.2}", "mixed images"),
        ("loss={class_weights=[1,2,3,4,5,6,7,8,9,10]}", "targets for every class"),
    ],
)
def test_a_loss_that_it_does_not_have_is_refused(
    tape: Path, tmp_path: Path, setting: str, what: str
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'base = "demo"\n{setting}\n')
    rule = f"tape does not compare logits with {what} so; use another backend"
    out = tmp_path / "run"
    for command in (("train", SMALL, "--backend", "tape", "--out", str(out)), _PARITY):
        done = run(*COMMAND, *command, "--recipe", str(recipe), path=(tape,))
        assert done.returncode == 2
        assert f"resnet-spec: error: loss.kind = cross_entropy: {rule}\n" in done.stderr
    assert not out.exists()


_PARITY = ("parity", SMALL, "--backends", "tape", "--level", "gradients", "--classes", "10")


def test_a_teacher_that_it_would_not_listen_to_is_refused(tape: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "run"), "--set", "loss.teacher=nobody.safetensors")
    done = run(*COMMAND, "train", SMALL, "--backend", "tape", *out, path=(tape,))
    rule = "tape learns from no teacher; remove it, or use another backend"
    assert done.stderr.endswith(f"error: loss.teacher = nobody.safetensors: {rule}\n")
    assert done.returncode == 2 and not (tmp_path / "run").exists()


def test_it_needs_no_more_of_the_core_than_the_contract() -> None:
    sources = list((PACKAGE / "resnet_spec_tape").glob("*.py"))
    assert len(sources) == 4
    text = "\n".join(path.read_text() for path in sources)
    whole = re.findall(r"from resnet_spec import (.+)", text)
    assert whole == ["ops"]
    names = {*re.findall(r"from resnet_spec\.(\w+)", text), *whole}
    # Only a backend that can be one of several processes needs the group, only one that keeps what
    # it compiles the place for it, only one that has losses of targets these, only one with peers
    # the case that they are given, and only one that folds norms how, and tells weights apart by a
    # digest; what a framework frees may be its own affair.
    spared = ("group", "compile_cache", "freed_memory", "digests", "losses", "bench", "folding")
    others = {f"resnet_spec.{name}" for name in spared}
    assert {f"resnet_spec.{name}" for name in names} == CONTRACT - others


# --- A broken one ---------------------------------------------------------------------------------


def judge(name: str, *path: Path) -> Done:
    return run(*COMMAND, "parity", SMALL, "--backends", name, "--level", "logits", path=path)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import driver_that_is_missing", "No module named 'driver_that_is_missing'"),
        ("raise RuntimeError('the driver is too old')", "the driver is too old"),
        ("x = 1", "lacks"),
    ],
)
def test_a_broken_plugin_is_one_line_and_harms_nobody(
    tape: Path, tmp_path: Path, source: str, why: str
) -> None:
    broken = plugin(tmp_path, "broken", source)
    assert {"broken", "tape", "numpy"} <= backends_on(tape, broken).keys()
    assert judge("tape", tape, broken).returncode == 0
    failed = judge("broken", tape, broken)
    assert (failed.returncode, failed.stdout) == (2, "")
    (line,) = heard(failed.stderr)
    assert line.startswith("resnet-spec: error: backend = broken: ")
    assert "broken_plugin" in line and why in line


# --- The document ---------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    """Return the document's blocks of code in `language`."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )


def test_the_document_shows_the_package_as_it_is() -> None:
    sources = [path.read_text() for path in sorted(PACKAGE.rglob("*.*")) if path.is_file()]
    shown = blocks("python") + blocks("toml")
    assert len(shown) >= 8
    for block in shown:
        forms = (block, indent(block, "    "))  # A method is shown without its class.
        assert any(form in source for form in forms for source in sources), block


def test_the_document_s_commands_exist(tape: Path) -> None:
    """Each is run, with the package's small network in the place of a larger one."""
    commands = [
        line
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("resnet-spec ")
    ]
    assert len(commands) >= 4
    for command in commands:
        words = [SMALL if word in NETWORKS else word for word in command.split()[1:]]
        done = run(*COMMAND, *words, path=(tape,))
        assert done.returncode == 0, f"{command}\n{done.stderr}"
