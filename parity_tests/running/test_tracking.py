"""Trackers: what their own readers find after a run, an interruption and a resume.

TensorBoard's events, MLflow's file store and Weights & Biases' offline files are read back with
the real clients; where one is not installed, its test says so and is skipped.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import TINY

from resnet_spec.cli.main import main
from resnet_spec.cli.progress import TrainingBar
from resnet_spec.errors import TrackingError
from resnet_spec.running.metrics import Epoch, append_metrics, read_metrics
from resnet_spec.running.runs import Summary
from resnet_spec.running.tracking import choice
from resnet_spec.running.tracking import forwarding as watching
from resnet_spec.running.tracking.forwarding import Tracking, read_marks
from resnet_spec.running.tracking.tracker import Outcome, Tracked, measured

SCALARS = {
    *("loss/train", "loss/test", "accuracy/train", "accuracy/test"),
    *("rate", "images_per_second", "epoch"),
}


def an_epoch(number: int, evaluated: bool = True) -> Epoch:
    test = (0.5, 0.75) if evaluated else (None, None)
    return Epoch(number, 10 * number, 0.1, 1.0 / number, 0.5, *test, 900.0, 1.5 * number)


def a_summary(complete: bool = True) -> Summary:
    return Summary(
        *("numpy", "tiny", "digits", "demo", 3, 30),
        best_accuracy=0.75,
        best_epoch=1,
        final_accuracy=0.75,
        final_loss=0.3,
        final_test_loss=0.5,
        images_per_second=900.0,
        first_step_s=0.1,
        wall_s=4.5,
        complete=complete,
        environment={},
        legs=[],
    )


class Recorder:
    """A tracker that keeps what it hears, and fails when told to."""

    def __init__(self, id: str | None) -> None:
        self.id, self.where = id or "new", "memory"
        self.steps: list[int] = []
        self.finished: list[Path] = []
        self.closed: list[Outcome] = []
        self.fails = False

    def epoch(self, epoch: Epoch) -> None:
        if self.fails:
            raise ConnectionError("no\nnetwork")
        self.steps.append(epoch.step)

    def finish(self, summary: Summary, best: Path) -> None:
        self.finished.append(best)

    def close(self, outcome: Outcome) -> None:
        self.closed.append(outcome)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Put recorders in the place of every tracker; the list holds them as they are opened."""
    recorders: list[Recorder] = []

    def starter(name: str) -> choice.Start:
        def start(tracked: Tracked, id: str | None) -> Recorder:
            recorders.append(Recorder(id))
            return recorders[-1]

        return start

    monkeypatch.setattr(watching, "starter", starter)
    return recorders


def tracking(out: Path, step: int, said: list[str]) -> Tracking:
    return Tracking(["mlflow"], Tracked(out.name, out, {}), step, said.append)


def test_a_resumed_run_goes_on_and_no_step_is_written_twice(
    tmp_path: Path, opened: list[Recorder]
) -> None:
    said: list[str] = []
    with tracking(tmp_path, 0, said) as first:
        first.epoch(an_epoch(1))
        first.epoch(an_epoch(2))
        first.finish(a_summary(complete=False))
    # The last checkpoint was written after epoch 1: the second epoch is trained again.
    append_metrics(tmp_path, an_epoch(1))
    with tracking(tmp_path, 10, said) as second:
        second.epoch(an_epoch(2))
        second.epoch(an_epoch(3))
        second.finish(a_summary())
    with tracking(tmp_path, 30, said) as third:
        assert third.places == {}
        third.finish(a_summary())
    assert [(r.id, r.steps, r.closed) for r in opened] == [
        ("new", [10, 20], ["interrupted"]),
        ("new", [30], ["finished"]),
    ]
    assert opened[1].finished == [tmp_path / "best.safetensors"] and not opened[0].finished
    assert said == [] and asdict(read_marks(tmp_path)["mlflow"])["complete"] is True


def test_a_tracker_that_fails_stops_nothing_and_catches_up(
    tmp_path: Path, opened: list[Recorder]
) -> None:
    said: list[str] = []
    with tracking(tmp_path, 0, said) as watch:
        watch.epoch(an_epoch(1))
        opened[0].fails = True
        watch.epoch(an_epoch(2))
        watch.epoch(an_epoch(3))
        opened[0].fails = False
        watch.finish(a_summary())
    assert opened[0].steps == [10, 20, 30] and len(opened[0].finished) == 1
    assert said == ["mlflow: no network; the training goes on; --resume sends what is missing"]


def test_what_was_missed_is_sent_by_a_resume(tmp_path: Path, opened: list[Recorder]) -> None:
    said: list[str] = []
    for number in (1, 2):
        append_metrics(tmp_path, an_epoch(number))
    with tracking(tmp_path, 20, said):  # A run that was not tracked so far.
        pass
    assert opened[0].steps == [10, 20]
    with pytest.raises(RuntimeError), tracking(tmp_path, 20, said):
        raise RuntimeError
    assert opened[1].steps == [] and opened[1].closed == ["failed"]


def test_test_values_are_left_out_where_none_were_due() -> None:
    assert set(measured(an_epoch(1))) == SCALARS
    assert set(measured(an_epoch(1, evaluated=False))) == SCALARS - {"loss/test", "accuracy/test"}


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_text('{"mlflow": 3}')
    with pytest.raises(TrackingError, match=r"tracking\.json: is no record of trackers"):
        read_marks(tmp_path)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ("tensorbord", "--track = tensorbord: is no tracker; did you mean 'tensorboard'?"),
        ("wandb,mlfow", "--track = mlfow: is no tracker; did you mean 'mlflow'?"),
        (",", "--track = '': is no tracker; choose from mlflow, none, tensorboard, wandb"),
        ("none,wandb", "--track = none: cannot stand beside others; leave it out"),
    ],
)
def test_unknown_names_are_told_before_anything_is_done(
    names: str,
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_is_installed", lambda client: True)
    out = tmp_path / "run"
    arguments = ["train", "resnet20_cifar", "--backend", "numpy", "--out", str(out)]
    assert main([*arguments, "--track", names]) == 2
    assert capsys.readouterr().err == f"resnet-spec: error: {line}\n"
    assert not out.exists()


def test_a_missing_client_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_is_installed", lambda client: client != "wandb")
    assert choice.chosen("mlflow, tensorboard,mlflow") == ("mlflow", "tensorboard")
    assert choice.chosen("none") == ()
    with pytest.raises(TrackingError) as caught:
        choice.chosen("mlflow,wandb")
    line = "--track = wandb: needs wandb, not installed; run: pip install 'resnet-spec[wandb]'"
    assert caught.value.problems == (line,)


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, tracker: str) -> Path:
    """Train three epochs, interrupted after the first and resumed; return the run's folder."""
    (folder / "tiny.toml").write_text(TINY)
    out = folder / "run"
    spoken = TrainingBar.epoch

    def interrupt(bar: TrainingBar, epoch: Epoch) -> None:
        spoken(bar, epoch)
        os.kill(os.getpid(), signal.SIGINT)

    settings = ["--set", "epochs=3", "--set", "evaluate_every=2", "--input-size", "8"]
    arguments = [str(folder / "tiny.toml"), "--backend", "numpy", "--out", str(out), *settings]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingBar, "epoch", interrupt)
        assert main(["train", *arguments, "--track", tracker]) == 130
    assert main(["train", "--resume", str(out)]) == 0  # Goes on with the trackers it finds.
    assert main(["train", "--resume", str(out)]) == 0  # Has nothing to add.
    assert len(read_metrics(out)) == 3
    return out


def expected(out: Path, name: str) -> list[tuple[int, float]]:
    """Return (step, value) of every epoch that has the scalar `name`."""
    rows = [(epoch.step, measured(epoch)) for epoch in read_metrics(out)]
    return [(step, values[name]) for step, values in rows if name in values]


def test_tensorboard_s_files_hold_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaders = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    hparams = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    out = train(tmp_path, monkeypatch, "tensorboard")
    files = sorted((out / "tensorboard").iterdir())
    assert len(files) == 2  # Before and after the interruption, and none of the third call.
    scalars: dict[str, list[tuple[int, float]]] = {}
    texts: dict[str, str] = {}
    settings: Mapping[str, Any] = {}
    for file in files:
        for event in loaders.LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                if value.HasField("simple_value"):
                    scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
                elif plugin == "text":
                    assert value.tag not in texts
                    texts[value.tag] = value.tensor.string_val[0].decode()
                elif plugin == "hparams":
                    content = value.metadata.plugin_data.content
                    settings = hparams.parse_session_start_info_plugin_data(content).hparams
    for name in SCALARS:
        rounded = [(step, float(np.float32(value))) for step, value in expected(out, name)]
        assert scalars[name] == rounded, name
    best = json.loads((out / "summary.json").read_text())["best_accuracy"]
    assert scalars["summary/best_accuracy"] == [(66, pytest.approx(best, rel=1e-6))]
    assert texts.keys() == {"recipe", "spec", "backend", "data", "summary"}
    assert str(out / "best.safetensors") in texts["summary"]
    assert settings["recipe.epochs"].number_value == 3
    assert settings["spec.norm.variance"].string_value == "unbiased"
    assert settings["backend.name"].string_value == "numpy"


def test_a_new_run_in_the_folder_takes_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    out = train(tmp_path, monkeypatch, "tensorboard")
    again = ["train", str(tmp_path / "tiny.toml"), "--backend", "numpy", "--input-size", "8"]
    assert main([*again, "--set", "steps=1", "--out", str(out), "--overwrite"]) == 0
    assert not (out / "tracking.json").exists()
    assert list((out / "tensorboard").iterdir()) == []


def test_mlflow_s_file_store_holds_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    out = train(tmp_path, monkeypatch, "mlflow")
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    client: Any = MlflowClient()
    experiment = client.get_experiment_by_name("ours")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.info.run_id == read_marks(out)["mlflow"].id
    assert run.data.params["recipe.schedule.rate"] == "0.1"
    assert run.data.params["spec.stages"].startswith('[{"width": 4')
    assert run.data.params["backend.framework"] == "numpy"
    assert run.data.tags["best_checkpoint"] == str(out / "best.safetensors")
    for name in SCALARS:
        history = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        assert history == expected(out, name), name
    summary = json.loads((out / "summary.json").read_text())
    assert run.data.metrics["summary/best_accuracy"] == summary["best_accuracy"]


def test_wandb_s_offline_files_hold_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    out = train(tmp_path, monkeypatch, "wandb")
    identity = read_marks(out)["wandb"].id
    files = sorted((out / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert len(files) == 2 and len(list((out / "wandb").glob("offline-run-*"))) == 2
    history: dict[str, list[tuple[int, float]]] = {}
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for record in (record for file in files for record in _wandb_records(file)):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                if name in SCALARS:
                    row = (record.history.step.num, json.loads(item.value_json))
                    history.setdefault(name, []).append(row)
        elif kind == "run":
            assert record.run.project == "ours"
            for item in record.run.config.update:
                config.setdefault(item.key, json.loads(item.value_json))
        elif kind == "summary":
            for item in record.summary.update:
                summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    for name in SCALARS:
        assert history[name] == expected(out, name), name
    assert config["recipe"]["schedule"]["rate"] == 0.1 and config["spec"]["block"] == "basic"
    assert summary["best_checkpoint"] == str(out / "best.safetensors")


def _wandb_records(file: Path) -> list[Any]:
    """Return the records of a `.wandb` file: a LevelDB log of protocol buffers, after 7 bytes."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    data, at, parts, records = file.read_bytes(), 7, b"", []
    while at < len(data):
        left = -at % 32_768  # To the end of the block; too few bytes for a header are padding.
        if 0 < left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # A whole record, or the last part of one.
            record: Any = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records
