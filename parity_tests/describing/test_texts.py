"""One text where several are meant is one of them, wherever a list of texts is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_spec
from resnet_spec import RecipeError, ResnetSpecError, SpecError
from resnet_spec.describing.split_settings import sorted_settings
from resnet_spec.describing.text_lists import listed
from resnet_spec.errors import BackendError, TrackingError
from resnet_spec.parity import compare, compare_backends
from resnet_spec.parity.setup import make_recipe
from resnet_spec.running.tracking.choice import chosen
from resnet_spec.weights import write_weights
from resnet_spec.weights.converting import convert, load_weights
from resnet_spec.weights.loading import load_pretrained
from resnet_spec.weights.recognising.inference import infer
from resnet_spec.weights.recognising.recognise import recognise_file

TINY: dict[str, Any] = {
    "name": "tiny",
    "classes": 3,
    "input": {"size": 8},
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}


def test_a_text_alone_is_a_list_of_one() -> None:
    assert listed("epochs=3", "settings") == ["epochs=3"]
    assert listed(("a", "b"), "settings") == ["a", "b"]
    assert listed((name for name in "ab"), "settings") == ["a", "b"]
    assert listed((), "settings") == []


@pytest.mark.parametrize("wrong", [{"epochs": 3}, b"epochs=3", 3, None, ["epochs=3", ("a", 1)]])
def test_what_is_no_text_is_refused_by_its_place(wrong: Any) -> None:
    with pytest.raises(RecipeError, match=r"^settings(\[1\])? = .*must be (a text|texts); as in"):
        listed(wrong, "settings", RecipeError)


def test_settings_of_specs_and_recipes() -> None:
    assert resnet_spec.load_spec("resnet18", "classes=7").classes == 7
    assert resnet_spec.load_recipe("demo", "epochs=3").epochs == 3
    assert sorted_settings("epochs=3") == (["epochs=3"], [])
    for load in (resnet_spec.load_spec, resnet_spec.load_recipe):
        with pytest.raises(ResnetSpecError, match="settings"):
            load("resnet18" if load is resnet_spec.load_spec else "demo", {"epochs": 3})  # pyright: ignore[reportArgumentType]


def test_settings_and_trackers_of_a_run(tmp_path: Path) -> None:
    summary = resnet_spec.train(
        TINY, "numpy", "digits", {"steps": 9, "batch": 16}, settings="steps=1", out=tmp_path / "a"
    )
    assert summary.steps == 1
    assert chosen("tensorboard") == chosen(["tensorboard"]) == ("tensorboard",)
    with pytest.raises(TrackingError, match="track = tensorbord: is no tracker; did you mean"):
        resnet_spec.train(TINY, "numpy", track="tensorbord", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    plan = resnet_spec.lower(TINY)
    write_weights(path, resnet_spec.initial_state(plan))
    return path


@pytest.mark.parametrize(
    "load",
    [
        lambda path, settings: recognise_file(path, settings=settings),
        lambda path, settings: load_weights(path, settings=settings),
        lambda path, settings: load_pretrained(path, settings=settings),
        lambda path, settings: infer(
            {name: array.shape for name, array in load_weights(path).state.items()}, settings
        ),
    ],
)
def test_settings_of_weights(weights: Path, load: Callable[[Path, Any], Any]) -> None:
    assert load(weights, "name=mine").spec.name == load(weights, ["name=mine"]).spec.name == "mine"
    with pytest.raises(SpecError, match="unknown key"):
        load(weights, "nmae=mine")


def test_settings_of_a_conversion(weights: Path, tmp_path: Path) -> None:
    done = convert(weights, tmp_path / "new.safetensors", settings="name=mine")
    assert done.spec.name == "mine"
    with pytest.raises(SpecError, match="settings"):
        convert(weights, tmp_path / "other.safetensors", settings={"name": "mine"})  # pyright: ignore[reportArgumentType]


def test_backends_and_levels_of_a_comparison() -> None:
    plan = resnet_spec.lower(TINY)
    report = compare_backends(plan, make_recipe(1, 2), "numpy", "logits", precision="float64")
    assert [(row.backend, row.level) for row in report.rows] == [("numpy", "logits")]
    with pytest.raises(BackendError, match=r"level = logit: does not exist; did you mean 'logits'"):
        compare_backends(plan, make_recipe(1, 2), "numpy", "logit", precision="float64")

    for names, levels in (("numpy", ["init", "init"]), (["numpy", "numpy"], "init")):
        with pytest.raises(BackendError, match=r"(level = init|backends = numpy): is named twice"):
            compare_backends(plan, make_recipe(1, 2), names, levels, precision="float64")

    def model(images: Any) -> Any:
        return np.zeros((len(images), 3))

    with pytest.raises(BackendError, match="level = logit: does not exist"):
        compare(model, TINY, levels="logit")


@pytest.mark.parametrize("kind", ["name", "dict", "file", "path", "spec"])
def test_a_plan_is_had_from_whatever_names_a_network(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "it.toml"
    file.write_text('base = "resnet20_cifar"\nname = "resnet20_cifar"\n')
    spec = resnet_spec.load_spec("resnet20_cifar")
    source = {
        "name": "resnet20_cifar",
        "dict": {"base": "resnet20_cifar"},
        "file": str(file),
        "path": file,
        "spec": spec,
    }[kind]
    assert resnet_spec.lower(source, 16) == resnet_spec.lower(spec, input_size=16)
    with pytest.raises(SpecError, match="did you mean 'resnet20_cifar'"):
        resnet_spec.lower("resnet20_cifra")
