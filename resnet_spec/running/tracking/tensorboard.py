"""TensorBoard: event files in OUT/tensorboard, by TensorBoard's own writer.

That writer needs neither torch nor TensorFlow. A resumed run writes a further file beside the
first, and TensorBoard shows both as one.
"""

from __future__ import annotations

import importlib
import itertools
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_spec.files.json_text import json_text
from resnet_spec.running.metrics import Epoch
from resnet_spec.running.runs import Summary
from resnet_spec.running.tracking.tracker import Outcome, Tracked, measured, results

FOLDER = "tensorboard"
_VERSION = "brain.Event:2"
"""The first event of every file says so."""
_COUNT = itertools.count()
"""Tells files of one process and second apart."""


class TensorBoard:
    """Scalars by step; spec, recipe and backend as text, and as hyperparameters for its table."""

    def __init__(self, folder: Path) -> None:
        records = importlib.import_module("tensorboard.summary.writer.record_writer")
        self._protos: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summaries: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}"
        # TensorBoard's own event writer has a thread, whose errors come late and as a traceback.
        self._file = (folder / f"events.out.tfevents.{name}").open("xb")
        self._records: Any = records.RecordWriter(self._file)
        self._event(self._protos.Event(wall_time=time.time(), file_version=_VERSION))
        self.id = FOLDER
        self.where = str(folder)

    def describe(self, tracked: Tracked) -> None:
        """Write down what is trained."""
        hparams: Any = importlib.import_module("tensorboard.plugins.hparams.summary_v2")
        for name, table in tracked.tables.items():
            self._text(name, table)
        self._write(hparams.hparams_pb(tracked.parameters(), trial_id=str(tracked.out)))
        self._file.flush()

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch at its step."""
        self._scalars(measured(epoch), epoch.step)
        self._file.flush()

    def finish(self, summary: Summary, best: Path) -> None:
        """Record what the run came to."""
        self._text("summary", {**asdict(summary), "best_checkpoint": str(best)}, summary.steps)
        self._scalars(results(summary), summary.steps)
        self._file.flush()

    def close(self, outcome: Outcome) -> None:
        """Close the file."""
        del outcome
        self._file.close()

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        value = self._summaries.Summary.Value
        rows = [value(tag=name, simple_value=number) for name, number in values.items()]
        self._write(self._summaries.Summary(value=rows), step)

    def _text(self, name: str, table: Mapping[str, Any], step: int = 0) -> None:
        text: Any = importlib.import_module("tensorboard.plugins.text.summary_v2")
        code = json_text(table, indent=2).replace("\n", "\n    ")  # Indented: code in Markdown.
        self._write(text.text_pb(name, f"    {code}"), step)

    def _write(self, summary: Any, step: int = 0) -> None:
        self._event(self._protos.Event(wall_time=time.time(), step=step, summary=summary))

    def _event(self, event: Any) -> None:
        self._records.write(event.SerializeToString())


def start(tracked: Tracked, id: str | None) -> TensorBoard:
    """Open a new event file in the run's folder."""
    tracker = TensorBoard(tracked.out / FOLDER)
    if id is None:
        tracker.describe(tracked)
    return tracker
