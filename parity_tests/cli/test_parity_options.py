"""What `parity` and `bisect` refuse in one line, and that no report is lost."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest

from resnet_spec.cli.main import main
from resnet_spec.errors import OutputError
from resnet_spec.files import writing

SMALL = ("resnet20_cifar", "--input-size", "8", "--backends", "numpy")


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line that wrong options print."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err.removeprefix("resnet-spec: error: ").strip()


@pytest.mark.parametrize("levels", [("--level", "names,names"), ("--level", "names") * 2])
def test_a_level_is_named_once(levels: tuple[str, ...], capsys: Any) -> None:
    line = refused(capsys, "parity", *SMALL, *levels)
    assert line == "level = names: is named twice; name it once"


@pytest.mark.parametrize("command", ["parity", "bisect"])
def test_so_is_a_backend(command: str, capsys: Any) -> None:
    line = refused(capsys, command, "resnet20_cifar", "--backends", "numpy,numpy")
    assert line == "--backends = numpy: is named twice; name it once"


def test_so_is_one_of_several_processes(capsys: Any) -> None:
    argv = ("parity", "resnet20_cifar", "--backends", "numpy,numpy", "--processes", "1")
    assert refused(capsys, *argv) == "backends = numpy: is named twice; name it once"


@pytest.mark.parametrize("command", ["parity", "bisect"])
def test_names_are_of_ones_own_network(command: str, capsys: Any) -> None:
    rule = "is of the tensors of a network of your own; give --against, too"
    assert refused(capsys, command, *SMALL, "--names", "timm") == f"--names = timm: {rule}"


@pytest.mark.parametrize("command", ["parity", "bisect"])
def test_a_precision_without_a_floor_is_one_line(command: str, capsys: Any) -> None:
    line = refused(capsys, command, "resnet20_cifar", "--precision", "float16")
    assert line == "--precision = float16: cannot be judged; use float32 or float64"


@pytest.mark.skipif(sys.platform != "linux", reason="of a folder that nobody can write to")
@pytest.mark.parametrize("command", ["parity", "bench"])
def test_a_folder_that_takes_no_files_is_refused_before_anything_is_computed(
    command: str, capsys: Any
) -> None:
    line = refused(capsys, command, *SMALL, "--out", "/proc/it")
    assert line == "--out = /proc/it: cannot be written: /proc does not allow it"


def test_a_report_that_cannot_be_written_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    def full(path: Path, text: str) -> None:
        raise OutputError(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(writing, "write_text", full)
    out = tmp_path / "report"
    assert main(["parity", *SMALL, "--level", "names,shapes", "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert "verdict: agree" in captured.out
    assert captured.err.count("\n") == 1 and "No space left on device" in captured.err
