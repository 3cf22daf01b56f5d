"""scripts/environment.sh: the Python it takes and what it says; the Pythons are only played."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash")
TOOLS = ("bash", "cat", "cksum", "dirname", "env", "mkdir", "cp", "chmod")
pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed")

# A program called like a Python: it runs -c as that version, "makes" environments and "installs".
PLAYED = """#!{bash}
case "$1" in
-c) exec {real} -c "
import collections, platform, sys
V = collections.namedtuple('V', 'major minor micro releaselevel serial')
sys.version_info = V({version}, 0, 'final', 0)
platform.python_version = lambda: '.'.join(map(str, sys.version_info[:3]))
if {bare}:
    sys.modules['ensurepip'] = None
exec(sys.argv[1])" "$2" ;;
-m) case "$2" in
    venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && chmod +x "$3/bin/python" ;;
    pip) echo "pip of {name}: $*" ;;
    esac ;;
esac
"""


class Machine:
    """A folder of programs that is the whole PATH, and a checkout of the scripts."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.tree = folder / "bin", folder / "tree"
        self.bin.mkdir()
        (self.tree / "scripts").mkdir(parents=True)
        for name in ("scripts/environment.sh", "scripts/constraints.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, self.tree / name)
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None, name
            (self.bin / name).symlink_to(found)

    def add(self, name: str, version: tuple[int, int], bare: bool = False) -> None:
        path = self.bin / name
        fields = {"bash": BASH, "real": sys.executable, "bare": bare, "name": name}
        path.write_text(PLAYED.format(version=f"{version[0]}, {version[1]}", **fields))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def source(self, **variables: str) -> subprocess.CompletedProcess[str]:
        script = 'set -euo pipefail; source scripts/environment.sh; echo "PATH ${PATH%%:*}"'
        return subprocess.run(
            [str(self.bin / "bash"), "-c", script],
            cwd=self.tree,
            env={"PATH": str(self.bin)} | variables,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3": (3, 11)}, "python3"),
        ({"python3": (3, 12), "python3.11": (3, 11)}, "python3"),
        ({"python3": (3, 14), "python3.12": (3, 12), "python3.11": (3, 11)}, "python3.12"),
        ({"python3": (3, 13), "python3.11": (3, 11)}, "python3.11"),
        ({"python3": (3, 9), "python3.12": (3, 12)}, "python3.12"),
        ({"python3.11": (3, 11)}, "python3.11"),
    ],
)
def test_a_python_that_mindspore_has_packages_for_is_taken(
    machine: Machine, there: dict[str, tuple[int, int]], taken: str
) -> None:
    for name, version in there.items():
        machine.add(name, version)
    done = machine.source()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Setting up .venv with torch, jax/flax and mindspore" in done.stdout
    assert f"pip of {taken}: -m pip install" in done.stdout
    assert done.stdout.endswith(f"PATH {machine.tree.resolve()}/.venv/bin\n")
    again = machine.source()
    assert again.returncode == 0 and "pip" not in again.stdout


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3": (3, 13)}, "python3"),
        ({"python3": (3, 14), "python3.10": (3, 10)}, "python3"),
        ({"python3": (3, 9), "python3.13": (3, 13)}, "python3.13"),
    ],
)
def test_a_newer_one_goes_on_without_mindspore_and_says_so_in_a_line(
    machine: Machine, there: dict[str, tuple[int, int]], taken: str
) -> None:
    for name, version in there.items():
        machine.add(name, version)
    version = ".".join(map(str, there[taken]))
    for _ in range(2):  # Each time, not only when it installs.
        done = machine.source()
        assert done.returncode == 0, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("MindSpore is left out: it has packages up to Python 3.12")
        assert f".venv has {version}.0;" in line
    first = machine.tree / ".venv" / "installed"
    first.unlink()
    out = machine.source().stdout
    assert "with torch and jax/flax and the test tools" in out
    assert f"pip of {taken}: -m pip" in out


def test_one_without_pip_is_passed_over(machine: Machine) -> None:
    machine.add("python3", (3, 14))
    machine.add("python3.12", (3, 12), bare=True)
    machine.add("python3.11", (3, 11))
    assert "pip of python3.11: " in machine.source().stdout


def test_the_one_that_is_asked_for_is_taken(machine: Machine) -> None:
    machine.add("python3", (3, 12))
    machine.add("mine", (3, 13))
    done = machine.source(PYTHON=str(machine.bin / "mine"))
    assert "pip of mine: " in done.stdout and "MindSpore is left out" in done.stderr


@pytest.mark.parametrize("version", [(3, 10), None])
def test_without_a_fitting_one_a_line_says_what_is_needed(
    machine: Machine, version: tuple[int, int] | None
) -> None:
    if version:
        machine.add("python3", version)
    done = machine.source()
    assert done.returncode == 2
    assert done.stderr.startswith("python3: no Python 3.11 or newer, with venv and pip, was found")
    asked = machine.source(PYTHON="/nowhere/python3")
    assert asked.returncode == 2 and asked.stderr.startswith("PYTHON = /nowhere/python3: must be")
    assert len(asked.stderr.splitlines()) == 1 and not (machine.tree / ".venv").exists()


def test_the_packages_asked_for_leave_mindspore_out_by_themselves() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "mindspore>=2.5; python_version < '3.13'" in text
    assert os.access(ROOT / "scripts" / "demo", os.X_OK)
