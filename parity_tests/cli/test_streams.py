"""Closed streams, full disks and terminals that cannot show a name: a line, never a traceback."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_spec.cli import streams
from resnet_spec.reporting.plot_text import printable

RUN = f"{sys.executable} -c 'import sys; from resnet_spec.cli.main import main; sys.exit(main())'"
linux = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


def encoded(text: str, encoding: str) -> str:
    codecs.register_error(streams.ERRORS, streams._encodable)
    return text.encode(encoding, streams.ERRORS).decode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("猫", "ascii", "\\u732b"),
        ("猫", "cp1252", "\\u732b"),
        ("caf\udce9", "utf-8", "caf\\udce9"),
        ("😀", "latin-1", "\\U0001f600"),
        ("├── 3 × 3 │ ▁▄█ …", "ascii", "+-- 3 x 3 | _=# ."),
        ("├── 3 × 3 …", "cp1252", "+-- 3 × 3 …"),
        ("plain", "ascii", "plain"),
    ],
)
def test_what_cannot_be_encoded_is_drawn_or_escaped(text: str, encoding: str, shown: str) -> None:
    assert encoded(text, encoding) == shown


def test_drawings_keep_their_width() -> None:
    for code, drawn in streams._DRAWN.items():
        assert isinstance(drawn, str) and len(drawn) == 1 and drawn.isascii(), chr(code)


@linux
@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        (
            "{} list resnet18 >&-",
            2,
            b"standard output is closed; to print nothing, use > /dev/null",
        ),
        ("{} list resnet18 <&- 2>&-", 0, b""),
        ("{} lst 2>&-", 2, b""),
        ("{} list >&- 2>&- <&-", 2, b""),
        ("{} list --help >/dev/full", 2, b"output: No space left on device"),
        ("{} --version >/dev/full", 2, b"output: No space left on device"),
        ("{} lst 2>/dev/full", 2, b""),
        ("{} describe resnet1202_cifar --format json | head -1", 141, b""),
    ],
)
@pytest.mark.parametrize("buffering", ["", "1"])
def test_streams_that_cannot_be_written(
    line: str, status: int, error: bytes, buffering: str
) -> None:
    result = shell(line.format(RUN), PYTHONUNBUFFERED=buffering)
    assert result.returncode == status, result
    lines = [b"resnet-spec: error: " + error] if error else []
    assert result.stderr.splitlines() == lines


@linux
def test_a_command_draws_in_ascii_where_no_more_is_there() -> None:
    result = shell(f"{RUN} show spec resnet10 --text", PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert result.stdout.isascii() and b"\\u" not in result.stdout


@linux
def test_a_name_that_is_no_text_is_escaped() -> None:
    result = shell(f"{RUN} describe $'caf\\xe9.toml'", PYTHONIOENCODING="utf-8:strict")
    error = b"resnet-spec: error: caf\\udce9.toml: cannot be read: No such file or directory"
    assert (result.returncode, result.stderr.strip()) == (2, error)


def test_printable() -> None:
    assert printable("caf\udce9 猫 $x$") == "caf\\udce9 猫 $x$"


def test_files_are_utf8_whatever_they_hold(tmp_path: Path) -> None:
    from resnet_spec.files.writing import write_json, write_text

    write_text(tmp_path / "page.html", "caf\udce9 猫")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "caf\\udce9 猫"
    write_json(tmp_path / "a.json", "caf\udce9")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == "caf\udce9"


def test_figures_take_every_name(tmp_path: Path) -> None:
    """Titles, legends, ticks and texts: bytes that are no text, no glyph, and no formula."""
    pytest.importorskip("matplotlib")
    import numpy as np

    from resnet_spec.reporting.plots import both_files, curves_figure, write_figure
    from resnet_spec.running.metrics import Epoch
    from resnet_spec.showing.confusion import figure

    name = "caf\udce9 猫 $x^$"
    epochs = [Epoch(1, 1, 0.1, 1.0, 0.5, 1.0, 0.5, 1.0, 1.0)]
    write_figure(curves_figure({name: epochs}, name), both_files(tmp_path / "curves"))
    matrix = np.eye(2, dtype=np.int64)
    write_figure(figure(matrix, [name, "dog"], name), both_files(tmp_path / "confusion"))
    assert (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 4
