"""Names, shapes and counts: of the cases in full, and of every preset without its memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pairs import Pair

from resnet_spec.describing.presets import list_presets
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.planning.costs import count_params
from resnet_spec.planning.lowering import lower


def test_names_and_shapes(pair: Pair) -> None:
    for level in ("names", "shapes", "counts", "init"):
        pair.check(level)
    plan, state = pair.expected.setup.plan, pair.got.state
    expected = {t.name: t.shape for t in plan.tensors}
    expected |= {f"momentum/{t.name}": t.shape for t in plan.tensors if t.trainable}
    assert {name: array.shape for name, array in state.items()} == expected
    assert {array.dtype.name for array in state.values()} == {pair.precision}


def test_parameter_counts(pair: Pair) -> None:
    plan = pair.expected.setup.plan
    params = count_params(plan.tensors)
    assert params == sum(pair.got.state[name].size for name in plan.trainable)
    if pair.backend in NATIVE_COUNTS:
        assert NATIVE_COUNTS[pair.backend](pair.got.session.native) == params


def _torch_count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _flax_count(module: Any) -> int:
    import jax
    from flax import nnx

    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def _mindspore_count(cell: Any) -> int:
    return sum(math.prod(p.shape) for p in cell.trainable_params())


# The frameworks' own idea of a parameter; the reference has no module.
NATIVE_COUNTS: dict[str, Callable[[Any], int]] = {
    "torch": _torch_count,
    "flax": _flax_count,
    "mindspore": _mindspore_count,
}


# One of each family and kind of block; the others differ in depth or width alone.
FEW = ("resnet18", "resnet50d", "resnet50_v1", "seresnext50_32x4d", "wide_resnet50_2")
FEW += ("resnetv2_50t", "resnet20_cifar", "plain20_cifar", "wrn_16_4_cifar", "resnet18_cifar")


def presets() -> Iterator[Any]:
    for preset in list_presets():
        for backend in installed_backends():
            marks = () if preset in FEW else (pytest.mark.thorough,)
            yield pytest.param(preset, backend, marks=marks)


@pytest.mark.parametrize(("preset", "backend"), list(presets()))
def test_presets(preset: str, backend: str) -> None:
    package: Any = load_backend(backend)
    if not hasattr(package, "abstract_shapes"):
        pytest.skip(f"{backend} does not offer abstract_shapes")
    plan = lower(load_spec(preset), 32)  # Small: not every backend can do without the arithmetic.
    shapes = package.abstract_shapes(plan)
    assert shapes == {t.name: t.shape for t in plan.tensors}
    params = sum(math.prod(shapes[name]) for name in plan.trainable)
    assert params == count_params(plan.tensors) > 0
    assert package.output_shape(plan, 2) == (2, plan.classes)
