"""Convolutions over maps of one pixel compute what `nn.Conv2d` does, and are it in other hands."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from mindspore_networks import backend

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.planning.lowering import lower

pytestmark = pytest.mark.xdist_group("mindspore_networks")
ms: Any = pytest.importorskip("mindspore")
nn: Any = ms.nn
Conv: Any = importlib.import_module(f"{backend.__name__}.one_pixel").OnePixelConv2d

MADE = {
    "3x3": {"kernel_size": 3, "padding": 1, "tap": (1, 1)},
    "5x3, dilated": {"kernel_size": (5, 3), "padding": (4, 4, 2, 2), "dilation": 2, "tap": (2, 1)},
    "with a bias": {"kernel_size": 3, "padding": 1, "has_bias": True, "tap": (1, 1)},
    "strided, uneven": {"kernel_size": 3, "padding": (0, 2, 2, 0), "stride": 2, "tap": (0, 2)},
}
CLOSE = 1e-5
MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}


def pair(**made: Any) -> tuple[Any, Any]:
    """Return a cell of ours, and MindSpore's with its weights."""
    ms.set_seed(0)
    own = Conv(6, 5, pad_mode="pad", **made)
    other = nn.Conv2d(6, 5, pad_mode="pad", **{k: v for k, v in made.items() if k != "tap"})
    for mine, theirs in zip(other.get_parameters(), own.get_parameters(), strict=True):
        mine.set_data(theirs)
    return own, other


def outcome(cell: Any, size: tuple[int, ...]) -> list[Any]:
    """Return the output, and gradients by the input and by what is trained."""
    x = ms.Tensor(np.linspace(-1, 1, int(np.prod(size)), dtype=np.float32).reshape(size))

    def doubled(x: Any) -> Any:
        return (cell(x) * 2.0).sum()

    by_input, by_weights = ms.grad(doubled, 0, tuple(cell.trainable_params()))(x)
    return [it.asnumpy() for it in (cell(x), by_input, *by_weights)]


def differ(own: Any, other: Any, size: tuple[int, ...]) -> float:
    found = [outcome(cell, size) for cell in (own, other)]
    assert [it.shape for it in found[0]] == [it.shape for it in found[1]]
    return max(float(np.abs(a - b).max()) for a, b in zip(*found, strict=True))


@pytest.fixture(params=["pynative", pytest.param("graph", marks=pytest.mark.thorough)])
def mode(request: pytest.FixtureRequest) -> Any:
    before = ms.get_context("mode")
    ms.set_context(mode=MODES[request.param])
    yield
    ms.set_context(mode=before)


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_it_is_the_convolution(mode: Any, made: dict[str, Any]) -> None:
    own, other = pair(**made)
    assert differ(own, other, (3, 6, 1, 1)) < CLOSE
    grad = outcome(own, (3, 6, 1, 1))[2].copy()
    row, column = made["tap"]
    assert np.abs(grad[:, :, row, column]).min() > 0
    grad[:, :, row, column] = 0
    assert not grad.any()


def test_it_takes_what_the_convolution_takes(mode: Any) -> None:
    own, other = pair(**MADE["3x3"])
    assert differ(own, other, (3, 6, 4, 5)) < CLOSE


def test_what_it_is_set_to_later_is_obeyed(mode: Any) -> None:
    own, other = pair(**MADE["3x3"])
    own.conv2d = other.conv2d = ms.ops.Conv2D(5, (3, 3), pad_mode="pad", pad=2)
    assert outcome(own, (3, 6, 1, 1))[0].shape == (3, 5, 3, 3)
    assert differ(own, other, (3, 6, 1, 1)) < CLOSE


def test_a_wrong_tap_is_seen() -> None:
    own, other = pair(**MADE["3x3"] | {"tap": (0, 1)})
    assert differ(own, other, (3, 6, 1, 1)) > 0.1


def test_float16_is_left_to_the_convolution() -> None:
    images = ms.Tensor(np.ones((2, 6, 1, 1), np.float32))
    own, other = (cell.to_float(ms.float16)(images) for cell in pair(**MADE["3x3"]))
    assert own.dtype == ms.float16 and np.array_equal(own.asnumpy(), other.asnumpy())


def test_a_network_has_them_where_its_maps_are_of_one_pixel() -> None:
    network = backend.build(lower(load_spec("resnet18"), 32))
    found = [name for name, part in network.cells_and_names() if isinstance(part, Conv)]
    assert found == ["layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2"]
