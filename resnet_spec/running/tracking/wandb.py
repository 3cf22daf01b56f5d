"""Weights & Biases, through its own client; its environment variables say where and how.

WANDB_MODE=offline writes to OUT/wandb alone, for `wandb sync` later.
"""

from __future__ import annotations

import importlib
import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_spec.running.metrics import Epoch
from resnet_spec.running.runs import Summary
from resnet_spec.running.tracking.tracker import PROJECT, Outcome, Tracked, measured, results

_EXIT: dict[Outcome, int] = {"finished": 0, "interrupted": 130, "failed": 1}


class WeightsAndBiases:
    """Settings as the configuration, epochs as its history, the summary as its summary."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.id = str(run.id)
        self.where = str(Path(run.dir).parent) if run.offline else str(run.url)

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch at its step."""
        self._run.log(measured(epoch), step=epoch.step)

    def finish(self, summary: Summary, best: Path) -> None:
        """Record what the run came to."""
        texts = {"best_checkpoint": str(best), "summary": asdict(summary)}
        self._run.summary.update({**results(summary), **texts})

    def close(self, outcome: Outcome) -> None:
        """Send the rest and let go."""
        self._run.finish(exit_code=_EXIT[outcome])


def start(tracked: Tracked, id: str | None) -> WeightsAndBiases:
    """Begin a run in the project, or go on with the run `id`."""
    client: Any = importlib.import_module("wandb")
    tracked.out.mkdir(parents=True, exist_ok=True)
    run = client.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=tracked.name,
        id=id or secrets.token_hex(4),
        resume="allow",
        dir=str(tracked.out),
        config=dict(tracked.tables) if id is None else None,
        # The terminal belongs to the progress bar.
        settings=client.Settings(console="off", silent=True),
    )
    return WeightsAndBiases(run)
