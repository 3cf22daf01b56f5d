"""Folders of runs as `compare` leaves them, with numbers of one's own, and no training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from resnet_spec.comparing.results import Result, read_result
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.running.metrics import Epoch, append_metrics


def write_run(
    out: Path,
    network: str,
    backend: str,
    seed: int,
    accuracies: Sequence[float],
    *,
    state: str = "complete",
    error: str = "",
    validation: float | None = None,
    own: dict[str, Any] | None = None,
    **more: Any,
) -> Result:
    """Write a run whose accuracy at the end of every epoch is given; more: of the summary.

    validation: the fraction held out; then the accuracies are of those images, and the test images'
    is lower by 0.1 for the last weights and by 0.05 for the best. own: the same of the data's own
    validation part, as `HeldOut.to_dict` gives it.
    """
    folder = out / "runs" / f"{network.split()[0]}-{backend}-seed{seed}"
    folder.mkdir(parents=True)
    cell = {
        "network": network,
        "backend": backend,
        "seed": seed,
        "data": "digits",
        "spec": load_spec("resnet20_cifar").to_dict(),
        "recipe": load_recipe("demo", [f"seed={seed}"]).to_dict(),
        "jobs": 1,
        "threads": 2,
        **({} if validation is None else {"validation": validation}),
        **({} if own is None else {"validation": "own"}),
    }
    (folder / "cell.json").write_text(json.dumps(cell))
    epochs = [_epoch(number, accuracy) for number, accuracy in enumerate(accuracies, 1)]
    if validation is not None or own is not None:
        epochs = [_validated(epoch) for epoch in epochs]
        more = {
            "best_of": "validation",
            "best_accuracy": max(accuracies),
            "best_test_accuracy": max(accuracies) - 0.05,
            "final_accuracy": accuracies[-1] - 0.1,
            "held_out": own or {"fraction": validation, "count": 100, "digest": "xxh3-128:0"},
            **more,
        }
    for epoch in epochs:
        append_metrics(folder, epoch)
    if error:
        (folder / "failure.json").write_text(json.dumps({"error": error, "status": 2}))
        return read_result(folder)
    summary = _summary(backend, epochs, state == "complete")
    (folder / "summary.json").write_text(json.dumps({**summary, **more}))
    return read_result(folder)


def _epoch(number: int, accuracy: float) -> Epoch:
    return Epoch(
        epoch=number,
        step=22 * number,
        rate=0.1,
        train_loss=2.2 * (1 - accuracy),
        train_accuracy=accuracy - 0.05,
        test_loss=2 * (1 - accuracy),
        test_accuracy=accuracy,
        images_per_second=400.0,
        wall_s=10.0 * number,
    )


def _validated(epoch: Epoch) -> Epoch:
    accuracy, loss = epoch.test_accuracy, epoch.test_loss
    tested = {"test_loss": None, "test_accuracy": None}
    return replace(epoch, validation_loss=loss, validation_accuracy=accuracy, **tested)


def _summary(backend: str, epochs: Sequence[Epoch], is_complete: bool) -> dict[str, Any]:
    last = asdict(epochs[-1])
    return {
        "backend": backend,
        "spec": "resnet20_cifar",
        "data": "digits",
        "recipe": "demo",
        "epochs": len(epochs),
        "steps": last["step"],
        "best_accuracy": max(epoch.test_accuracy or 0.0 for epoch in epochs),
        "best_epoch": len(epochs),
        "final_accuracy": last["test_accuracy"],
        "final_loss": last["train_loss"],
        "final_test_loss": last["test_loss"],
        "images_per_second": 400.0,
        "first_step_s": 2.0,
        "wall_s": last["wall_s"],
        "complete": is_complete,
        "environment": {"framework": backend, "version": "1.0", "device": "cpu"},
        "legs": [],
        "compile_s": 1.5,
        "peak_memory_mb": 512.0,
    }
