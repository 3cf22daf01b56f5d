"""What the trackers ask of their clients, which need not be installed: stand-ins hear it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_spec.running.tracking import mlflow, wandb
from resnet_spec.running.tracking.tracker import Tracked

TABLES = {"recipe": {"steps": 3}, "spec": {"name": "tiny"}}


class Client:
    """Stands for MLflow's client, and keeps what it is asked to do."""

    tracking_uri = "memory"

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def get_experiment_by_name(self, name: str) -> None:
        self.heard.append(("looked for", name))

    def create_experiment(self, name: str) -> str:
        return f"experiment {name}"

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.heard.append(("created", (experiment, run_name)))
        return SimpleNamespace(info=SimpleNamespace(run_id="new"))

    def update_run(self, id: str, status: str) -> None:
        self.heard.append(("updated", (id, status)))

    def log_batch(self, id: str, params: list[tuple[str, str]]) -> None:
        self.heard.append(("described", (id, params)))

    def set_tag(self, id: str, key: str, value: str) -> None:
        self.heard.append(("tagged", (id, key, value)))


@pytest.mark.parametrize("id", [None, "old"])
def test_mlflow_begins_a_run_once(
    id: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    tracking = SimpleNamespace(MlflowClient=lambda: client)
    entities = SimpleNamespace(Param=lambda key, value: (key, value))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    tracker = mlflow.start(Tracked("run", tmp_path, TABLES), id)
    assert tracker.id == (id or "new")
    assert tracker.where == f"run {tracker.id} of memory"
    if id is not None:
        assert client.heard == [("updated", ("old", "RUNNING"))]
        return
    assert client.heard == [
        ("looked for", "ours"),
        ("created", ("experiment ours", "run")),
        ("described", ("new", [("recipe.steps", "3"), ("spec.name", "tiny")])),
        ("tagged", ("new", "folder", str(tmp_path))),
    ]


def test_wandb_begins_a_run_once_in_a_folder_that_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def init(**given: Any) -> Any:
        asked.append(given)
        return SimpleNamespace(id=given["id"], dir=f"{given['dir']}/wandb/files", offline=True)

    client = SimpleNamespace(init=init, Settings=lambda **given: given)
    monkeypatch.setitem(sys.modules, "wandb", client)
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    out = tmp_path / "runs" / "a"
    first = wandb.start(Tracked("a", out, TABLES), None)
    again = wandb.start(Tracked("a", out, TABLES), first.id)
    assert out.is_dir() and again.id == first.id and first.where == f"{out}/wandb"
    assert [it["config"] for it in asked] == [TABLES, None]
    for given in asked:
        assert (given["project"], given["name"], given["dir"]) == ("ours", "a", str(out))
        assert given["resume"] == "allow"
        assert given["settings"] == {"console": "off", "silent": True}
