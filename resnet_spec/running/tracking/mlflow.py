"""MLflow, through its own client; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_spec.running.metrics import Epoch
from resnet_spec.running.runs import Summary
from resnet_spec.running.tracking.tracker import PROJECT, Outcome, Tracked, measured, results

_STATUS: dict[Outcome, str] = {
    "finished": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
_MOST_PARAMETERS = 100  # In one request, by MLflow's REST interface.


class MLflow:
    """Settings as parameters, epochs as metrics; the summary as metrics, tags and a file."""

    def __init__(self, client: Any, id: str) -> None:
        self._client = client
        self._entities: Any = importlib.import_module("mlflow.entities")
        self.id = id
        self.where = f"run {id} of {client.tracking_uri}"

    def describe(self, tracked: Tracked) -> None:
        """Write down what is trained."""
        rows = [self._entities.Param(k, str(v)) for k, v in tracked.parameters().items()]
        for first in range(0, len(rows), _MOST_PARAMETERS):
            part = rows[first : first + _MOST_PARAMETERS]
            self._client.log_batch(self.id, params=part)

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch at its step."""
        self._metrics(measured(epoch), epoch.step)

    def finish(self, summary: Summary, best: Path) -> None:
        """Record what the run came to."""
        self._metrics(results(summary), summary.steps)
        self._client.set_tag(self.id, "best_checkpoint", str(best))
        self._client.log_dict(self.id, asdict(summary), "summary.json")

    def close(self, outcome: Outcome) -> None:
        """Say how it ended."""
        self._client.set_terminated(self.id, status=_STATUS[outcome])

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(k, v, now, step) for k, v in values.items()]
        self._client.log_batch(self.id, metrics=metrics)


def start(tracked: Tracked, id: str | None) -> MLflow:
    """Begin a run in the experiment, or go on with the run `id`."""
    client: Any = importlib.import_module("mlflow.tracking").MlflowClient()
    if id is not None:
        client.update_run(id, status="RUNNING")
        return MLflow(client, id)
    run = client.create_run(_experiment(client), run_name=tracked.name)
    tracker = MLflow(client, run.info.run_id)
    tracker.describe(tracked)
    client.set_tag(tracker.id, "folder", str(tracked.out))
    return tracker


def _experiment(client: Any) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)
