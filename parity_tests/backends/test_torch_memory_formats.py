"""The memory format of a session of torch: by its plan and recipe, and the same each time."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from resnet_spec_torch import memory_formats  # noqa: E402
from resnet_spec_torch.memory_formats import (  # noqa: E402
    maps_for_each_of_kernels,
    memory_format_of,
)

from resnet_spec import load_spec, lower, session  # noqa: E402
from resnet_spec.plan import Plan  # noqa: E402
from resnet_spec.recipe import Recipe  # noqa: E402

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LAST, OWN = torch.channels_last, torch.contiguous_format


def plan_of(network: str, size: int) -> Plan:
    return lower(load_spec({"base": network, "input": {"size": size}}))


def recipe_of(batch: int, accumulate: int = 1) -> Recipe:
    fields = {"steps": 1, "batch": batch, "accumulate": accumulate}
    return Recipe.from_dict(fields, "test")


@pytest.fixture(params=[True, False], ids=["with AVX-512", "without"])
def is_avx512(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(memory_formats, "_has_avx512", lambda: request.param)
    return request.param


def test_maps_and_kernels_are_counted() -> None:
    plan = lower(
        load_spec(
            {
                "block": "basic",
                "stages": [{"width": 16, "blocks": 1}],
                "stem": {"widths": [16], "kernel": 3, "stride": 1, "pool": False},
                "input": {"size": 8},
                "classes": 10,
            }
        )
    )
    kernels = 16 * 3 * 9 + 2 * 16 * 16 * 9
    assert maps_for_each_of_kernels(plan, 5) == 5 * 3 * 16 * 8 * 8 / kernels


def test_kernels_whose_gradients_are_not_copied_count_as_maps_or_not_at_all() -> None:
    """1x1 kernels do not; of one that has a single window a value counts half of a map's."""
    stages = [{"width": 4, "blocks": 1}, {"width": 4, "blocks": 1, "stride": 8}]
    stem = {"widths": [8], "kernel": 3, "stride": 1, "pool": False}
    plan = lower(load_spec({"block": "bottleneck", "stem": stem, "stages": stages}), 8)
    first = (8 + 4 + 4 + 16 + 16) * 8 * 8
    last = 4 * 8 * 8 + 4 + 16 + 16
    maps, kernels = 5 * (first + last), 8 * 3 * 9 + 4 * 4 * 9
    assert maps_for_each_of_kernels(plan, 5) == (maps + 4 * 4 * 9 / 2) / kernels


@pytest.mark.parametrize(
    ("network", "size", "batch", "with_avx512"),
    [
        ("resnet18", 32, 64, LAST),
        ("resnet18", 64, 64, OWN),
        ("resnet50", 32, 64, LAST),
        ("resnet18", 224, 16, LAST),
        ("resnet50", 224, 8, LAST),
        ("resnet20_cifar", 32, 128, LAST),
    ],
)
def test_it_is_the_quicker_one_in_training(
    network: str, size: int, batch: int, with_avx512: object, is_avx512: bool
) -> None:
    found = memory_format_of(CPU, plan_of(network, size), recipe_of(batch))
    assert found == (with_avx512 if is_avx512 else LAST)


def test_what_is_trained_at_once_counts(is_avx512: bool) -> None:
    """Not the batch of all processes, nor of all parts of a step."""
    plan = plan_of("resnet50", 64)
    assert memory_format_of(CPU, plan, recipe_of(64)) == LAST
    parts = OWN if is_avx512 else LAST
    assert memory_format_of(CPU, plan, recipe_of(64, accumulate=4)) == parts
    assert memory_format_of(CPU, plan, recipe_of(64), processes=4) == parts


def test_elsewhere_it_is_what_it_was(is_avx512: bool) -> None:
    plan, recipe = plan_of("resnet18", 64), recipe_of(64)
    assert memory_format_of(CPU, plan) == LAST
    assert memory_format_of(CPU, plan, recipe, "bfloat16") == LAST
    assert memory_format_of(CUDA, plan, recipe) == LAST
    assert memory_format_of(torch.device("mps"), plan, recipe) == OWN


def test_a_session_says_which_it_takes(is_avx512: bool) -> None:
    spec = load_spec({"base": "resnet18", "input": {"size": 32}})
    of_training = session(spec, "torch", {"steps": 1, "batch": 2}, device="cpu").info
    found = "contiguous_format" if is_avx512 else "channels_last"
    assert of_training["memory_format"] == found
    assert session(spec, "torch", device="cpu").info["memory_format"] == "channels_last"
