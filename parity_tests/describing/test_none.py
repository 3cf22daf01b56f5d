"""`none`, and what is empty, in the place of a value: in settings, files and dicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import RecipeError, SpecError
from resnet_spec.recipe import Recipe

_DIGEST = f"xxh3-128:{'0' * 32}"
_TAUGHT = {
    "base": "demo",
    "loss": {"teacher": "t.pth", "teacher_weight": 0.9, "temperature": 4.0},
}


def test_a_teacher_is_taken_off_with_all_that_is_of_one() -> None:
    """Neither its weight nor its temperature nor its digest stays behind."""
    taught = load_recipe(_TAUGHT, f"loss.teacher_digest={_DIGEST}")
    assert load_recipe(taught, "loss.teacher=none") == load_recipe("demo")
    with pytest.raises(RecipeError, match=r"loss.temperature = 2.0: there is no teacher"):
        load_recipe(taught, ["loss.teacher=none", "loss.temperature=2.0"])


@pytest.mark.parametrize(
    ("source", "setting"),
    [
        ("timm-a1", "optimizer.clip_norm"),
        ("demo", "optimizer.no_decay"),
        ("demo", "optimizer.clip_value"),
        ("timm-a1", "loss.threshold"),
        ("demo", "loss.teacher_digest"),
        ("timm-a1", "schedule.warmup_start"),
        ("demo", "schedule.counts_from"),
        ("demo", "evaluation.size"),
        ("demo", "evaluation.crop"),
        ("demo", "steps"),
    ],
)
def test_none_takes_a_value_back_and_nothing_else(source: str, setting: str) -> None:
    """Every field of a recipe that may be without one."""
    table, _, name = setting.rpartition(".")
    expected = load_recipe(source).to_dict()
    (expected[table] if table else expected).pop(name, None)
    assert load_recipe(source, f"{setting}=none") == Recipe.from_dict(expected)


def test_none_in_files_and_from_python(tmp_path: Path) -> None:
    """TOML has no null; JSON and Python have."""
    file = tmp_path / "r.toml"
    file.write_text('base = "timm-a1"\n[optimizer]\nclip_norm = "none"\n')
    without = load_recipe("timm-a1", "optimizer.clip_norm=none")
    assert without.optimizer.clip_norm is None
    given = load_recipe({"base": "timm-a1", "optimizer": {"clip_norm": None}})
    assert load_recipe(file).optimizer == given.optimizer == without.optimizer


def test_none_of_a_spec() -> None:
    """`stem.padding` is that of the rest then."""
    assert load_spec("resnet50", ["stem.padding=same", "stem.padding=none"]).stem.padding is None


@pytest.mark.parametrize(
    "setting", ["optimizer.momentum=none", "batch=none", "schedule.rate=none", "ema.decay=none"]
)
def test_none_is_no_value_of_what_must_have_one(setting: str) -> None:
    """It would stand for what is usual, which nobody asked for."""
    with pytest.raises(RecipeError, match='= "none": must be'):
        load_recipe("demo", setting)


@pytest.mark.parametrize(
    "setting", ["loss.teacher=", "steps= ", "evaluation.size=", "optimizer.no_decay=", "name="]
)
def test_an_empty_value_is_refused_with_a_way_out(setting: str) -> None:
    """As of a variable of the shell that is not set."""
    key = setting.partition("=")[0]
    with pytest.raises(RecipeError) as caught:
        load_recipe("demo", setting)
    rule = "must not be empty; give a value, none where there may be none, or leave it out"
    assert caught.value.problems == (f'--set {key} = "": {rule}',)


def test_texts_that_do_not_fit_are_told_in_our_words() -> None:
    """Too short, too long, of another form; too many entries."""
    with pytest.raises(RecipeError, match=r'^loss.teacher = "": must not be empty; give a value'):
        load_recipe("demo", 'loss.teacher=""')
    with pytest.raises(RecipeError, match=r'^loss.teacher_digest = "x": must be written as'):
        load_recipe("demo", "loss.teacher_digest=x")
    with pytest.raises(SpecError, match=r"must have at most 200 characters$"):
        load_spec("resnet50", f"name={'x' * 201}")
    with pytest.raises(RecipeError, match=r"must have at most 64 entries$"):
        load_recipe("demo", f"augment.progressive={[8] * 65}")
