"""Commands take a folder for the weights in it: a run's, a hub's; and its class names with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.cli.main import main
from resnet_spec.data.imagenet_names import IMAGENET
from resnet_spec.describing.spec import Spec
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.weights import write_weights
from resnet_spec.weights.checkpoint import Checkpoint, save_checkpoint
from resnet_spec.weights.converting import load_weights
from resnet_spec.weights.loading import load_pretrained
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.lifting import to_file
from resnet_spec.weights.published.hub_config import class_names_beside
from resnet_spec.weights.recognising.recognise import recognise_file

SMALL = Spec.from_dict(
    {
        "name": "small",
        "classes": 3,
        "input": {"size": 16},
        "stem": {"widths": [8]},
        "stages": [{"width": 8, "blocks": 1}, {"width": 12, "blocks": 1, "stride": 2}],
        "block": "basic",
    }
)


def test_a_run_s_folder_means_its_best_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = (initial_state(lower(SMALL), seed) for seed in (0, 1))
    names = ("ape", "bee", "cat")
    save_checkpoint(tmp_path / "best.safetensors", Checkpoint(SMALL, best, class_names=names))
    save_checkpoint(tmp_path / "last.safetensors", Checkpoint(SMALL, last))
    note = "taken from best.safetensors in the folder, not from last.safetensors"
    found = recognise_file(tmp_path)
    assert (found.kind, found.spec) == ("checkpoint", SMALL)
    assert (found.path, found.notes) == (tmp_path / "best.safetensors", (note,))
    loaded = load_pretrained(tmp_path)
    assert np.array_equal(loaded.state["fc.weight"], best["fc.weight"])
    assert loaded.class_names == names and loaded.notes == (note,) and loaded.sha256
    assert main(["inspect", str(tmp_path)]) == 0
    assert note in capsys.readouterr().out
    (tmp_path / "best.safetensors").unlink()
    assert np.array_equal(load_weights(tmp_path).state["fc.weight"], last["fc.weight"])


def hub_folder(folder: Path, config: object) -> Path:
    plan = lower(SMALL)
    tensors = to_file(plan, scheme("timm"), initial_state(plan, 0))
    write_weights(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"id2label": {"0": "ape", "1": "bee", "2": "cat"}}, ("ape", "bee", "cat")),
        ({"id2label": {"2": "cat", "0": "ape", "1": "bee"}}, ("ape", "bee", "cat")),
        ({"architecture": "resnet18", "label_names": ["x", "y", "z"]}, ("x", "y", "z")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}, ()),
        ({"id2label": {"0": "ape", "1": "bee"}}, ()),
        ({"id2label": {"0": "ape", "1": "bee", "3": "cat"}}, ()),
        ({"id2label": {"0": "ape", "1": "ape", "2": "cat"}}, ()),
        ({"id2label": {"0": "ape", "1": 3, "2": "cat"}}, ()),
        ({"id2label": 7, "label_names": None}, ()),
        ([], ()),
    ],
)
def test_a_hub_s_folder_has_the_names_of_its_classes(
    config: object, names: tuple[str, ...], tmp_path: Path
) -> None:
    loaded = load_pretrained(hub_folder(tmp_path, config))
    assert loaded.path == tmp_path / "model.safetensors"
    assert (loaded.class_names, loaded.data_name) == (names, "")
    assert "taken from model.safetensors in the folder" in loaded.notes


def test_the_classes_of_imagenet_have_one_name_each(tmp_path: Path) -> None:
    words = {str(i): f"{name}, {name} of others" for i, name in enumerate(IMAGENET)}
    words["134"] = "crane"
    (tmp_path / "config.json").write_text(json.dumps({"id2label": words}))
    assert class_names_beside(tmp_path / "w", 1000) == IMAGENET
    turned = {str(i): f"class {i}" for i in range(1000)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": turned}))
    assert class_names_beside(tmp_path / "w", 1000) == tuple(turned.values())
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert class_names_beside(tmp_path / "w", 1000) == ()
