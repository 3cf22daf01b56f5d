"""SIGTERM ends a command that has nothing to save, and what it opened is closed before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from resnet_spec.running.interruption import tidy_on_sigterm

CODE = """
import sys, tempfile, time
from resnet_spec.cli import computing
import resnet_spec.exporting

def prepared(*_, **__):
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        print(folder, flush=True)
        time.sleep(60)

resnet_spec.exporting.engine_session = prepared
args = type("Args", (), {"engine": "onnxruntime", "backend": "torch"})
computing.predictor(args, None, {})
"""


def test_who_prepares_an_engine_leaves_no_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.parent == tmp_path and folder.is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_afterwards_the_signal_is_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with tidy_on_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_takes_the_signal_otherwise_keeps_it() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with tidy_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
