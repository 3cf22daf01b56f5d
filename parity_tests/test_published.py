"""Weights of the world on every backend: real ones on real images, and a run that starts from some.

The whole test set, and the deeper network: scripts/check_published.py.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.cli.main import main
from resnet_spec.data.dataset import ArraySplit
from resnet_spec.data.images import decode
from resnet_spec.data.views import pixels_of
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.running.evaluate import Evaluation, evaluate
from resnet_spec.weights import write_weights
from resnet_spec.weights.checkpoint import load_checkpoint
from resnet_spec.weights.loading import load_pretrained
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.lifting import to_file

REAL = Path(__file__).parents[2] / "shared" / "data"
FILE = REAL / "checkpoints" / "resnet20-12fca82f.th"
IMAGES = REAL / "cifar10" / "test.parquet"
BACKENDS = [name for name in installed_backends() if name != "numpy"]
FIRST = 500
RIGHT = 406
"""Of the first 500 images, by the weights' own code on torch."""
NEAR = 1e-4
"""Two logits so near are a tie; see scripts/check_published.py."""


@cache
def split() -> ArraySplit:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    rows = parquet.read_table(IMAGES).slice(0, FIRST).to_pylist()
    pixels = [pixels_of(decode(row["img"]["bytes"], 3, str(IMAGES))) for row in rows]
    return ArraySplit(np.stack(pixels), np.array([row["label"] for row in rows]), 32)


@cache
def found(backend: str) -> Evaluation:
    weights = load_pretrained(FILE)
    session = load_backend(backend).Session(lower(weights.spec), device="cpu")
    session.load(weights.state)
    return evaluate(session, split(), 250)


@pytest.mark.skipif(not FILE.exists(), reason=f"{FILE.name} is not in ../shared")
@pytest.mark.xdist_group("published")
@pytest.mark.parametrize("backend", BACKENDS)
def test_real_weights_name_the_same_classes_on_every_backend(backend: str) -> None:
    one, first = found(backend), found(BACKENDS[0])
    margins = np.minimum(one.margins, first.margins)
    differ = (one.predictions != first.predictions) & (margins >= NEAR)
    assert not differ.any()
    assert int((one.predictions == split().labels).sum()) == RIGHT
    assert one.ties == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_fine_tuning_is_one_command_on_every_backend(backend: str, tmp_path: Path) -> None:
    spec = load_spec(
        {
            "block": "basic",
            "classes": 7,
            "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
            "stages": [{"width": 4, "blocks": 1}],
        }
    )
    plan = lower(spec)
    state = initial_state(plan, seed=1)
    write_weights(tmp_path / "w.pth", to_file(plan, scheme("kuangliu"), state))
    options = ["--pretrained", str(tmp_path / "w.pth"), "--recipe", "fine-tune", "--device", "cpu"]
    small = ["--data", "synthetic", "--input-size", "8", "--set", "steps=2", "--set", "batch=16"]
    out = ["--freeze", "backbone", "--out", str(tmp_path / "run")]
    assert main(["train", "--backend", backend, *options, *small, *out]) == 0
    best = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert best.recipe is not None and best.recipe.schedule.kind == "cosine"
    for name, array in best.state.items():
        is_same = array.shape == state[name].shape and np.array_equal(array, state[name])
        assert is_same != name.startswith("fc."), name
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["best_accuracy"] >= summary["final_accuracy"]


def test_there_were_backends() -> None:
    assert BACKENDS
