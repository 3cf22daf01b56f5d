"""Weights meet data again: evaluate, show and predict compare classes and images, not counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pets import SETTINGS, SPEC, paint
from PIL import Image

import resnet_spec
from resnet_spec.cli.main import main
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.parity.setup import make_recipe, make_setup, with_data
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from resnet_spec.weights.converting import convert

Captured = pytest.CaptureFixture[str]
SHORT = ("steps=1", "batch=6")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset, and a run that tells its classes apart."""
    made = tmp_path_factory.mktemp("pets")
    paint(made / "pets")
    summary = resnet_spec.train(
        SPEC, "numpy", made / "pets", settings=SETTINGS, out=made / "run", input_size=8
    )
    assert summary.best_accuracy == 1.0
    return made


@pytest.fixture(scope="module")
def best(home: Path) -> Checkpoint:
    return load_checkpoint(home / "run" / "best.safetensors")


def evaluated(weights: Path, *more: object, status: int = 0, capsys: Captured) -> dict[str, Any]:
    words = ["evaluate", str(weights), "--backend", "numpy", "--format", "json", *map(str, more)]
    capsys.readouterr()
    assert main(words) == status
    return json.loads(capsys.readouterr().out)


def refused(*words: object, capsys: Captured) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def turned(checkpoint: Checkpoint, path: Path) -> Path:
    """Save a network that computes the same, with its classes in another order: fox, cat, dog."""
    order = [2, 0, 1]
    head = {name: checkpoint.state[name][order] for name in ("fc.weight", "fc.bias")}
    names = tuple(checkpoint.class_names[i] for i in order)
    state = {**checkpoint.state, **head}
    save_checkpoint(path, replace(checkpoint, state=state, class_names=names))
    return path


def test_checkpoints_and_summaries_know_their_data(home: Path, best: Checkpoint) -> None:
    known = Fingerprint.of(resnet_spec.load_data(home / "pets", size=8))
    last = load_checkpoint(home / "run" / "last.safetensors")
    summary = json.loads((home / "run" / "summary.json").read_text())
    assert best.dataset == last.dataset == known == Fingerprint.from_dict(summary["dataset"])
    assert known.classes == ("cat", "dog", "fox")
    assert known.splits["train"].histogram == known.splits["test"].histogram == (12, 12, 12)


def test_data_as_it_was_needs_no_note(home: Path, capsys: Captured) -> None:
    found = evaluated(home / "run" / "best.safetensors", capsys=capsys)
    assert (found["accuracy"], found["notes"]) == (1.0, [])


def test_a_renamed_class_is_refused_or_taken_by_position(
    home: Path, tmp_path: Path, capsys: Captured
) -> None:
    weights = home / "run" / "best.safetensors"
    # Sorted by name: dog, fox, tabby.
    data = paint(tmp_path / "pets", {"tabby": "cat", "dog": "dog", "fox": "fox"})
    said = refused("evaluate", weights, "--backend", "numpy", "--data", data, capsys=capsys)
    assert "cat, dog, fox -> dog, fox, tabby" in said and "--ignore-classes" in said
    assert said.count("\n") == 1
    found = evaluated(weights, "--data", data, "--ignore-classes", capsys=capsys)
    assert found["accuracy"] == 0.0
    assert "by position" in found["notes"][0] and found["notes"] == found["weights"]["notes"]


@pytest.mark.parametrize("picture", ["predictions", "confusion", "features"])
def test_pictures_refuse_other_classes(
    picture: str, home: Path, tmp_path: Path, capsys: Captured
) -> None:
    data = paint(tmp_path / "pets", {"tabby": "cat", "dog": "dog", "fox": "fox"}, count=2)
    words = ("show", picture, home / "run" / "best.safetensors", "--backend", "numpy", "--text")
    assert "dog, fox, tabby" in refused(*words, "--data", data, capsys=capsys)
    assert main([*map(str, words), "--data", str(data), "--ignore-classes"]) == 0
    assert "note: labels are taken by position" in capsys.readouterr().out


def test_classes_in_another_order_are_mapped(
    home: Path, best: Checkpoint, tmp_path: Path, capsys: Captured
) -> None:
    weights = turned(best, tmp_path / "turned.safetensors")
    found = evaluated(weights, "--data", home / "pets", capsys=capsys)
    assert found["accuracy"] == 1.0
    assert "in another order; they are mapped by name" in found["notes"][0]
    by_position = evaluated(weights, "--data", home / "pets", "--ignore-classes", capsys=capsys)
    assert by_position["accuracy"] == 0.0
    words = ["show", "confusion", str(weights), "--backend", "numpy", "--text"]
    assert main([*words, "--data", str(home / "pets")]) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out


def test_some_of_the_classes_are_enough_to_evaluate_on(
    home: Path, best: Checkpoint, tmp_path: Path, capsys: Captured
) -> None:
    weights = turned(best, tmp_path / "turned.safetensors")
    data = paint(tmp_path / "pets", {"fox": "fox", "dog": "dog"})
    found = evaluated(weights, "--data", data, "--out", tmp_path / "p.npz", capsys=capsys)
    assert (found["accuracy"], found["count"]) == (1.0, 24)
    assert "the data has 2 of the network's 3 classes" in found["notes"][0]
    with np.load(tmp_path / "p.npz") as written:
        assert written["labels"].tolist() == written["predictions"].tolist() == [2] * 12 + [0] * 12
    more = paint(tmp_path / "more", {**{it: it for it in ("cat", "dog", "fox")}, "owl": "cat"}, 2)
    said = refused("evaluate", weights, "--backend", "numpy", "--data", more, capsys=capsys)
    assert "has 4 classes, and the network was made for 3; owl: not among the network's" in said


def test_weights_that_name_no_classes_are_matched_by_position(
    home: Path, best: Checkpoint, tmp_path: Path, capsys: Captured
) -> None:
    weights = tmp_path / "nameless.safetensors"
    save_checkpoint(weights, replace(best, class_names=(), dataset=None))
    found = evaluated(weights, "--data", home / "pets", capsys=capsys)
    assert found["accuracy"] == 1.0
    assert found["notes"] == ["the weights do not name their classes; labels are taken by position"]
    image = next((home / "pets" / "val" / "dog").iterdir())
    assert main(["predict", str(weights), str(image), "--backend", "numpy"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("note: the weights do not name their classes; they are numbered\n")
    assert f"{image}: 1 " in shown


def test_images_that_have_changed_since_are_said(
    best: Checkpoint, tmp_path: Path, capsys: Captured
) -> None:
    data = paint(tmp_path / "pets")
    weights = tmp_path / "best.safetensors"
    save_checkpoint(weights, replace(best, data=str(data)))
    assert evaluated(weights, capsys=capsys)["notes"] == []
    (data / "val" / "fox" / "00.png").unlink()
    (data / "train" / "fox" / "00.png").unlink()
    told = "the data has changed since the run: 36 -> 35 test images"
    assert evaluated(weights, capsys=capsys)["notes"] == [told]
    assert evaluated(weights, "--data", data, capsys=capsys)["notes"] == []


def test_data_is_found_from_another_folder_or_said_to_be_gone(
    home: Path, best: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    paint(tmp_path / "a" / "pets", count=6)
    monkeypatch.chdir(tmp_path / "a")
    resnet_spec.train(SPEC, "numpy", "pets", settings=SHORT, out="run", input_size=8)
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "a" / "run" / "best.safetensors"
    assert evaluated(weights, capsys=capsys)["count"] == 18
    assert load_checkpoint(weights).data == str(tmp_path / "a" / "pets")
    (tmp_path / "a" / "pets").rename(tmp_path / "a" / "moved")
    said = refused("evaluate", weights, "--backend", "numpy", capsys=capsys)
    assert f"there is no {tmp_path / 'a' / 'pets'}; say where it is now with --data" in said
    said = refused("train", "--resume", weights.parent, capsys=capsys)
    assert f"there is no {tmp_path / 'a' / 'pets'}; say where it is now with --data" in said
    old = tmp_path / "old.safetensors"
    save_checkpoint(old, replace(best, data="pets"))
    said = refused("evaluate", old, "--backend", "numpy", capsys=capsys)
    assert f"was trained on pets, and there is no {tmp_path / 'pets'}" in said


def test_what_is_written_is_checked_before_any_work(
    home: Path, tmp_path: Path, capsys: Captured
) -> None:
    start = ("evaluate", home / "none.safetensors", "--backend", "numpy")
    (tmp_path / "p.npz").write_bytes(b"old")
    for more, line in (
        (("--out", tmp_path), "is a folder; give the name of a .npz file"),
        (("--out", tmp_path / "p.json"), "must end in .npz"),
        (("--out", tmp_path / "p"), "must end in .npz"),
        (("--out", tmp_path / "p.npz"), "is there already; replace it with --overwrite"),
        (("--overwrite",), "--overwrite: is of the file in --out"),
    ):
        assert line in refused(*start, *more, capsys=capsys)
    assert (tmp_path / "p.npz").read_bytes() == b"old"
    weights = home / "run" / "best.safetensors"
    evaluated(weights, "--out", tmp_path / "p.npz", "--overwrite", capsys=capsys)
    with np.load(tmp_path / "p.npz") as written:
        assert len(written["predictions"]) == 36


def test_images_to_predict_are_checked_one_by_one_before_anything_is_printed(
    home: Path, tmp_path: Path, capsys: Captured
) -> None:
    good, text, none = tmp_path / "good.png", tmp_path / "text.png", tmp_path / "none.png"
    Image.new("RGB", (8, 8)).save(good)
    text.write_text("no image")
    start = ("predict", home / "run" / "best.safetensors")
    end = ("--backend", "numpy")
    (tmp_path / "empty").mkdir()
    said = refused(*start, good, none, tmp_path / "empty", *end, capsys=capsys)
    assert f"{none}: there is no such file\n" in said
    assert f"{tmp_path / 'empty'}: holds no image; add " in said
    assert said.count("\n") == 2
    said = refused(*start, good, text, home / "run" / "summary.json", *end, capsys=capsys)
    assert said.count("is not a whole JPEG, PNG") == said.count("\n") == 2
    assert "--top = 0: must be >= 1" in refused(*start, good, *end, "--top", 0, capsys=capsys)
    assert "IMAGE: is required" in refused(*start, *end, capsys=capsys)


def test_parity_matches_classes_by_name(
    home: Path, best: Checkpoint, tmp_path: Path, capsys: Captured
) -> None:
    weights = turned(best, tmp_path / "turned.safetensors")
    words = ["parity", str(weights), "--backends", "numpy", "--level", "accuracy", "--steps", "1"]
    words += ["--format", "json", "--data"]
    assert main([*words, str(home / "pets")]) == 0
    (note,) = json.loads(capsys.readouterr().out)["setting"]["notes"]
    assert "in another order; they are mapped by name" in note
    data = paint(tmp_path / "pets", {"tabby": "cat", "dog": "dog", "fox": "fox"}, count=2)
    assert "fox, cat, dog -> dog, fox, tabby" in refused(*words, data, capsys=capsys)
    assert main([*words, str(data), "--ignore-classes"]) == 0
    assert "by position" in json.loads(capsys.readouterr().out)["setting"]["notes"][0]
    spec = ["parity", "resnet20_cifar", "--classes", "2", "--input-size", "8", *words[2:]]
    assert "has 3 classes, and the network was made for 2" in refused(
        *spec, home / "pets", capsys=capsys
    )
    assert "--ignore-classes: is of weights and their data" in refused(
        *spec, home / "pets", "--ignore-classes", capsys=capsys
    )


def test_the_labels_that_parity_trains_on_are_the_networks(home: Path) -> None:
    data = resnet_spec.load_data(home / "pets", size=8)
    spec = resnet_spec.load_spec({**SPEC, "classes": 3}, ["input.size=8"])
    setup = make_setup(resnet_spec.lower(spec), make_recipe(steps=2, batch=18))
    plain = with_data(setup, data, 4)
    turned_names = with_data(setup, data, 4, ("fox", "cat", "dog"))
    labels = [np.concatenate([b.labels for b in it.batches]) for it in (plain, turned_names)]
    assert labels[0].tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert labels[1].tolist() == [1] * 12 + [2] * 12 + [0] * 12


def test_a_converted_checkpoint_knows_its_classes_and_data_still(
    best: Checkpoint, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "a.safetensors", best)
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    kept = load_checkpoint(tmp_path / "b.safetensors")
    assert (kept.class_names, kept.dataset, kept.data) == (
        best.class_names,
        best.dataset,
        best.data,
    )
    assert (kept.recipe, dict(kept.progress)) == (None, {})


def fine_tuned(weights: Path, home: Path, out: Path, *more: str) -> int:
    words = ["train", "--backend", "numpy", "--pretrained", str(weights), "--out", str(out)]
    words += ["--data", str(home), "--set", "steps=1", "--set", "batch=6", "--input-size", "8"]
    # A rate so low that the network stays what it was.
    return main([*words, "--set", "schedule.rate=1e-30", "--set", "schedule.floor=0", *more])


def test_a_head_that_is_kept_has_its_rows_in_the_order_of_the_datas_classes(
    home: Path, best: Checkpoint, tmp_path: Path, capsys: Captured
) -> None:
    weights = turned(best, tmp_path / "turned.safetensors")
    for head in ([], ["--head", "keep"]):
        out = tmp_path / f"run{len(head)}"
        assert fine_tuned(weights, home / "pets", out, *head) == 0
        assert "note: fc: the network has the data's classes in another order" in (
            capsys.readouterr().out
        )
        last = load_checkpoint(out / "last.safetensors")
        assert last.class_names == ("cat", "dog", "fox")
        for name in ("fc.weight", "fc.bias"):
            np.testing.assert_array_equal(last.state[name], best.state[name])
        assert json.loads((out / "summary.json").read_text())["final_accuracy"] == 1.0


def test_a_head_of_other_classes_is_drawn_anew_or_refused_or_kept_by_consent(
    home: Path, best: Checkpoint, tmp_path: Path, capsys: Captured
) -> None:
    weights = home / "run" / "best.safetensors"
    data = paint(tmp_path / "pets", {"tabby": "cat", "dog": "dog", "fox": "fox"}, count=4)
    assert fine_tuned(weights, data, tmp_path / "a") == 0
    told = "note: fc: classes cat, dog, fox -> dog, fox, tabby, drawn anew from seed 0"
    assert told in capsys.readouterr().out
    assert fine_tuned(weights, data, tmp_path / "b", "--head", "keep") == 2
    shown = capsys.readouterr()
    assert "--head = keep: the weights have other classes cat, dog, fox -> dog, fox" in shown.err
    assert "--ignore-classes" in shown.err and not (tmp_path / "b").exists()
    assert fine_tuned(weights, data, tmp_path / "b", "--head", "keep", "--ignore-classes") == 0
    assert "note: fc: labels are taken by position" in capsys.readouterr().out
    kept = load_checkpoint(tmp_path / "b" / "last.safetensors")
    assert kept.class_names == ("dog", "fox", "tabby")
    np.testing.assert_array_equal(kept.state["fc.weight"], best.state["fc.weight"])
