"""Comparisons that train as a recipe of somebody's does, with all at once that can meet there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_run import NETWORK

from resnet_spec.cli import sides
from resnet_spec.cli.main import main, parser_of
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.errors import RecipeError
from resnet_spec.loader import installed_backends
from resnet_spec.parity.setup import make_recipe, shortened

FRAMEWORKS = [name for name in installed_backends() if name in ("torch", "flax", "mindspore")]
EVERYTHING: dict[str, Any] = {
    "base": "timm-a3",
    "name": "everything",
    "accumulate": 2,
    "ema": {"decay": 0.9},
    "freeze": "stem",
    "head_rate": 2.0,
    "layer_decay": 0.9,
    "label_smoothing": 0.1,
    "loss": {"teacher": "nobody.safetensors", "teacher_weight": 0.25, "temperature": 2.0},
    "optimizer": {"no_decay": ["fc.*"]},
}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The arguments that name a tiny network and a recipe with everything in it."""
    (tmp_path / "tiny.json").write_text(json.dumps(NETWORK))
    (tmp_path / "everything.json").write_text(json.dumps(EVERYTHING))
    sizes = ["--classes", "5", "--input-size", "16"]
    return [str(tmp_path / "tiny.json"), *sizes, "--recipe", str(tmp_path / "everything.json")]


def test_what_is_of_training_is_kept_and_the_rest_is_the_comparison_s() -> None:
    short = make_recipe(7, 6, 1e-3)
    found = shortened(load_recipe(EVERYTHING), short)
    assert (found.steps, found.epochs, found.batch, found.schedule) == (7, None, 6, short.schedule)
    asked = load_recipe(EVERYTHING)
    for name in ("optimizer", "loss", "label_smoothing", "accumulate", "ema", "freeze"):
        assert getattr(found, name) == getattr(asked, name)
    assert (found.augment.mixup, found.augment.cutmix) == (0.1, 1.0)
    assert (found.augment.policy, found.augment.flip) == ("none", False)
    plain = shortened(load_recipe("cifar-fast"), short)
    assert not plain.augment.mixes and plain.optimizer.nesterov


def test_every_batch_of_a_comparison_is_mixed() -> None:
    some = load_recipe("demo", ["augment.mixup=0.2", "augment.mix_probability=0.1"])
    assert shortened(some, make_recipe()).augment.mix_probability == 1.0


def test_parts_have_to_divide_the_batch() -> None:
    with pytest.raises(RecipeError, match="everything: accumulate = 2: must divide batch = 3"):
        shortened(load_recipe(EVERYTHING), make_recipe(1, 3))


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=[] if name == "torch" else pytest.mark.thorough)
        for name in FRAMEWORKS
    ],
)
def test_everything_at_once_agrees_at_every_level(
    backend: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["parity", *files, "--backends", backend, "--steps", "3", "--format", "json"]
    assert main(line) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["setting"]["recipe"] == "everything"
    assert "as everything trains" in told["title"]


@pytest.mark.thorough
@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_everything_at_once_is_the_same_in_two_processes(
    backend: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["parity", *files, "--backends", backend, "--steps", "3", "--processes", "1,2"]
    assert main([*line, "--format", "json"]) == 0, capsys.readouterr().out
    told = json.loads(capsys.readouterr().out)
    assert {backend, f"{backend} x 2"} <= set(told["backends"])


def test_a_recipe_that_is_not_there_is_one_line(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", *files[:-1], "timm-a4"]) == 2
    assert capsys.readouterr().err.startswith(
        "resnet-spec: error: recipe = timm-a4: is neither a recipe nor a .toml or .json file; did"
    )


def test_a_recipe_like_no_other_is_told_where_they_stand(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", *files[:-1], "zzz"]) == 2
    assert capsys.readouterr().err.endswith("; see: resnet-spec list --recipes\n")


# --- With --set, and of a network of one's own ----------------------------------------------------


def told(line: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    status = main([*line, "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert (status, found["verdict"]) == (0, "agree"), found["findings"]
    return found


def test_settings_reach_the_recipe_and_the_spec(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that of its own, as in `train`."""
    seen = list[Any]()
    monkeypatch.setattr(sides, "_setup", lambda args, found, recipe: seen.append((found, recipe)))
    parser = parser_of("parity")
    given = ("label_smoothing=0.25", "stages[0].width=8", "augment.mixup=0.7", "spec.name=other")
    line = [*files, *(f"--set={it}" for it in given), "--backends", "numpy"]
    with pytest.raises(AttributeError):  # There is no setup to go on with.
        sides.sides_of(parser.parse_all(line))
    ((found, recipe),) = seen
    assert (found.spec.stages[0].width, found.spec.name) == (8, "other")
    assert (recipe.label_smoothing, recipe.augment.mixup) == (0.25, 0.7)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("steps=3", "comparisons have their own steps; use --steps"),
        ("batch=8", "comparisons have their own batch; use --batch"),
        ("schedule.rate=1", "is not compared; leave it out"),
        ("augment.flip=true", "is not compared; leave it out"),
        ("recipe.seed=3", "is not compared; leave it out"),
        ("label_smoothin=0", "unknown key 'label_smoothin'; did you mean 'label_smoothing'?"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(
    setting: str, line: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", *files, "--set", setting]) == 2
    said = capsys.readouterr().err
    assert said == f"resnet-spec: error: --set {setting.removeprefix('recipe.')}: {line}\n"


def test_a_recipe_s_settings_need_a_recipe(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", *files[:-2], "--set", "label_smoothing=0"]) == 2
    assert capsys.readouterr().err == (
        "resnet-spec: error: --set label_smoothing=0: is of a recipe, and comparisons have their "
        "own; give --recipe, too\n"
    )
    assert main(["parity", *files[:-2], "--set", "batch=8"]) == 2
    assert capsys.readouterr().err.endswith("comparisons have their own batch; use --batch\n")


def test_settings_that_a_network_of_one_s_own_has_not_are_refused(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["parity", *files, "--against", "own:make", "--set", "optimizer.kind=sgd"]
    assert main(line) == 2
    assert capsys.readouterr().err == (
        "resnet-spec: error: --set optimizer.kind=sgd: a network of your own is compared by the "
        "loss of a recipe alone; leave it out with --against\n"
    )


@pytest.mark.skipif("torch" not in FRAMEWORKS, reason="torch is not installed")
@pytest.mark.parametrize("recipe", ["demo", "everything", "timm-a3"])
def test_a_network_of_one_s_own_has_the_recipe_s_loss(
    recipe: str,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its gradients agree with the reference's, whatever is smoothed, mixed and learnt from."""
    (tmp_path / "own_by_recipe.py").write_text(
        f"import resnet_spec\nmake = lambda: resnet_spec.build({files[0]!r}, 'torch', classes=5)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    line = files if recipe == "everything" else [*files[:-1], recipe]
    found = told(["parity", *line, "--against", "own_by_recipe:make"], capsys)
    assert found["setting"]["recipe"] == recipe
    assert found["backends"]["own"]["levels"]["gradients"]["verdict"] in ("equal", "rounding")
