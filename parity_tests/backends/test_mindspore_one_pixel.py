"""Convolutions with one window compute what `nn.Conv2d` does, and are it in other hands."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from mindspore_networks import backend

from resnet_spec import ops
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.ops import Met
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower

pytestmark = pytest.mark.xdist_group("mindspore_networks")
ms: Any = pytest.importorskip("mindspore")
nn: Any = ms.nn


def module(name: str) -> Any:
    return importlib.import_module(f"{backend.__name__}.{name}")


Conv: Any = module("one_pixel").OnePixelConv2d


class Made(NamedTuple):
    """A map, what meets there by rows and by columns, and how the convolution is made."""

    plane: tuple[int, int]
    window: tuple[Met, Met]
    settings: dict[str, Any]


FIRST, MIDDLE = Met(range(1), range(1)), Met(range(1, 2), range(1))
LAST_TWO = Met(range(1, 3), range(2))
MADE = {
    "3x3 over 1x1": Made((1, 1), (MIDDLE, MIDDLE), {"kernel_size": 3, "padding": 1}),
    "3x3 over 2x2": Made(
        (2, 2), (LAST_TWO, LAST_TWO), {"kernel_size": 3, "stride": 2, "padding": 1}
    ),
    "1x1 over 2x2": Made((2, 2), (FIRST, FIRST), {"kernel_size": 1, "stride": 2}),
    "1x1 over 1x1": Made((1, 1), (FIRST, FIRST), {"kernel_size": 1, "has_bias": True}),
    "dilated": Made(
        (3, 2),
        (Met(range(1, 3), range(0, 3, 2)), Met(range(1, 2), range(1, 2))),
        {"kernel_size": (4, 2), "dilation": 2, "stride": 3, "padding": (2, 2, 1, 0)},
    ),
    "5x3, dilated": Made(
        (1, 1),
        (Met(range(2, 3), range(1)), MIDDLE),
        {"kernel_size": (5, 3), "padding": (4, 4, 2, 2), "dilation": 2},
    ),
    "with a bias": Made(
        (1, 1), (MIDDLE, MIDDLE), {"kernel_size": 3, "padding": 1, "has_bias": True}
    ),
    "strided, uneven": Made(
        (1, 1),
        (FIRST, Met(range(2, 3), range(1))),
        {"kernel_size": 3, "padding": (0, 2, 2, 0), "stride": 2},
    ),
    "uneven": Made(
        (2, 3),
        (Met(range(2), range(2)), Met(range(2, 3), range(1))),
        {"kernel_size": 3, "stride": 4, "padding": (0, 1, 2, 0)},
    ),
}
CLOSE = 1e-5
MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}


def pair(made: Made, **more: Any) -> tuple[Any, Any]:
    """Return a cell of ours, and MindSpore's with its weights."""
    ms.set_seed(0)
    window = {"plane": made.plane, "window": made.window}
    own = Conv(6, 5, pad_mode="pad", **(made.settings | window | more))
    other = nn.Conv2d(6, 5, pad_mode="pad", **made.settings)
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


def is_product(cell: Any, size: tuple[int, ...]) -> bool:
    """Return whether the cell computes it without MindSpore's convolution."""
    before, asked = nn.Conv2d.construct, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "construct", lambda *it: (asked.append(1), before(*it))[1])
        cell(ms.Tensor(np.ones(size, np.float32)))
    return not asked


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_it_is_the_convolution(mode: Any, made: Made) -> None:
    own, other = pair(made)
    size = (3, 6, *made.plane)
    assert differ(own, other, size) < CLOSE
    grad = outcome(own, size)[2].copy()
    met = np.ix_(range(5), range(6), *(side.taps for side in made.window))
    assert np.abs(grad[met]).min() > 0
    grad[met] = 0
    assert not grad.any()


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_it_is_a_product_of_what_the_plan_says(made: Made) -> None:
    own, _ = pair(made)
    assert is_product(own, (3, 6, *made.plane)) and not is_product(own, (3, 6, 5, 5))
    own.be_plain()
    assert not is_product(own, (3, 6, *made.plane))


def test_it_takes_what_the_convolution_takes(mode: Any) -> None:
    own, other = pair(MADE["3x3 over 2x2"])
    assert differ(own, other, (3, 6, 4, 5)) < CLOSE


def test_what_it_is_set_to_later_is_obeyed(mode: Any) -> None:
    own, other = pair(MADE["3x3 over 2x2"])
    own.conv2d = other.conv2d = ms.ops.Conv2D(5, (3, 3), pad_mode="pad", pad=2)
    assert outcome(own, (3, 6, 2, 2))[0].shape == (3, 5, 4, 4)
    assert differ(own, other, (3, 6, 2, 2)) < CLOSE


@pytest.mark.parametrize(
    "wrong", [Met(range(2), range(2)), Met(range(1, 3), range(1, -1, -1))], ids=["taps", "pixels"]
)
def test_a_wrong_window_is_seen(wrong: Met) -> None:
    rows, _ = MADE["3x3 over 2x2"].window
    own, other = pair(MADE["3x3 over 2x2"], window=(rows, wrong))
    assert differ(own, other, (3, 6, 2, 2)) > 0.1


def test_float16_is_left_to_the_convolution() -> None:
    images = ms.Tensor(np.ones((3, 6, 1, 1), np.float32))
    own, other = (cell.to_float(ms.float16)(images) for cell in pair(MADE["3x3 over 1x1"]))
    assert own.dtype == ms.float16 and np.array_equal(own.asnumpy(), other.asnumpy())


HELD = {
    "resnet18": ["0.conv1", "0.conv2", "0.downsample.0", "1.conv1", "1.conv2"],
    "resnet50": [
        *("0.conv2", "0.conv3", "0.downsample.0"),
        *(f"{block}.conv{i}" for block in (1, 2) for i in (1, 2, 3)),
    ],
}


@pytest.mark.parametrize("net", HELD)
def test_a_network_has_them_where_its_outputs_are_of_one_pixel(net: str) -> None:
    plan = lower(load_spec(net), 32)
    convs = {op.name: op for op in plan.ops if isinstance(op, ops.Conv)}
    found = {name: it for name, it in backend.build(plan).cells_and_names() if isinstance(it, Conv)}
    assert sorted(found) == [f"layer4.{key}" for key in HELD[net]]
    for name, cell in found.items():
        assert is_product(cell, (3, *convs[name].in_shape))


@pytest.mark.thorough
def test_a_graph_of_any_number_of_images_can_be_saved_and_loaded(tmp_path: Path) -> None:
    plan, export = lower(load_spec("resnet18"), 32), module("export")
    state, path = initial_state(plan, seed=0), tmp_path / "net.mindir"
    export.write(path, plan, state, "mindir", batch=None, raw=False, metadata="")
    saved, network = export.read(path, "mindir"), backend.build(plan, state)
    assert b"Conv2D" in path.read_bytes() and path.read_bytes().count(b"MatMul-op") <= 1
    for count in (1, 3):
        images = np.linspace(-1, 1, count * 3072, dtype=np.float32).reshape(count, 3, 32, 32)
        assert np.abs(saved(images) - network(ms.Tensor(images)).asnumpy()).max() < CLOSE
