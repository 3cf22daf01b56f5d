"""Convolutions over maps of one pixel compute what `nn.Conv2d` does, and are it in other hands."""

from __future__ import annotations

import copy
import importlib
import pickle
from typing import Any

import pytest

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.loader import load_backend
from resnet_spec.planning.lowering import lower

torch = pytest.importorskip("torch")
nn = torch.nn
backend: Any = load_backend("torch")
Conv: Any = importlib.import_module(f"{backend.__name__}.one_pixel").OnePixelConv2d

MADE = {
    "3x3": {"kernel_size": 3, "padding": 1, "tap": (1, 1)},
    "5x3, dilated": {"kernel_size": (5, 3), "padding": (4, 2), "dilation": 2, "tap": (2, 1)},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2, "tap": (1, 1)},
    "with a bias": {"kernel_size": 3, "padding": 1, "bias": True, "tap": (1, 1)},
    "another corner": {"kernel_size": 2, "padding": 1, "stride": 2, "tap": (1, 1)},
}
CLOSE = 1e-14


def pair(dtype: Any = torch.float64, **made: Any) -> tuple[Any, Any]:
    """Return a layer of ours, and torch's with its weights."""
    torch.manual_seed(0)
    own = Conv(6, 5, **{"bias": False, **made}).to(dtype)
    tap = made.pop("tap")
    other = nn.Conv2d(6, 5, **{"bias": False, **made}).to(dtype)
    other.load_state_dict(own.state_dict())
    assert tap == own.tap
    return own, other


def outcome(conv: Any, size: tuple[int, ...]) -> list[Any]:
    """Return the output, and gradients by the input and by what is trained."""
    dtype = conv.weight.dtype
    x = torch.linspace(-1, 1, torch.Size(size).numel(), dtype=dtype).view(size).requires_grad_()
    y = conv(x)
    (y * torch.linspace(1, 2, y.numel(), dtype=dtype).view(y.shape)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in conv.parameters())]


def differ(own: Any, other: Any, size: tuple[int, ...]) -> float:
    found = [outcome(conv, size) for conv in (own, other)]
    assert [it.shape for it in found[0]] == [it.shape for it in found[1]]
    return max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_it_is_the_convolution(made: dict[str, Any]) -> None:
    own, other = pair(**made)
    assert differ(own, other, (3, 6, 1, 1)) < CLOSE
    row, column = made["tap"]
    grad = own.weight.grad.clone()
    assert grad[:, :, row, column].abs().min() > 0
    grad[:, :, row, column] = 0
    assert not grad.any()


@pytest.mark.parametrize("size", [(3, 6, 4, 5), (3, 6, 1, 4), (6, 1, 1), (6, 3, 3), (0, 6, 1, 1)])
def test_it_takes_what_the_convolution_takes(size: tuple[int, ...]) -> None:
    own, other = pair(**MADE["3x3"])
    if 0 in size:
        assert own(torch.zeros(size, dtype=torch.float64)).shape == (0, 5, 1, 1)
    else:
        assert differ(own, other, size) < CLOSE


@pytest.mark.parametrize(
    "change",
    [
        {"padding": (2, 2)},
        {"padding": (1, 2)},
        {"padding": "same"},
        {"dilation": (1, 1), "stride": (1, 3)},
    ],
    ids=str,
)
def test_what_it_is_set_to_later_is_obeyed(change: dict[str, Any]) -> None:
    own, other = pair(**MADE["3x3"])
    for name, value in change.items():
        setattr(own, name, value)
        setattr(other, name, value)
    assert differ(own, other, (3, 6, 1, 1)) < CLOSE


def test_it_is_copied_pickled_and_printed_like_any_other() -> None:
    own, other = pair(**MADE["3x3"])
    for same in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert differ(same, other, (3, 6, 1, 1)) < CLOSE
        other.zero_grad()
    assert own.extra_repr() == other.extra_repr() and isinstance(own, nn.Conv2d)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types_stay(dtype: Any) -> None:
    own, other = pair(dtype, **MADE["3x3"])
    assert differ(own, other, (3, 6, 1, 1)) < (1e-6 if dtype is torch.float32 else 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert own(torch.ones(2, 6, 1, 1)).dtype == torch.bfloat16


def test_networks_with_it_are_traced() -> None:
    plan = lower(load_spec("resnet18"), 32)
    network = backend.build(plan).eval()
    images = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)
    traced = torch.fx.symbolic_trace(network)
    for size in (32, 64):
        given = images[:, :, :size, :size]
        assert torch.equal(traced(given), network(given))


def test_a_wrong_tap_is_seen() -> None:
    own, other = pair(**MADE["3x3"])
    own.tap = (0, 1)
    assert differ(own, other, (3, 6, 1, 1)) > 0.1


def test_a_network_has_them_where_its_maps_are_of_one_pixel() -> None:
    def of(size: int) -> list[str]:
        network = backend.build(lower(load_spec("resnet18"), size))
        return [name for name, part in network.named_modules() if isinstance(part, Conv)]

    assert of(32) == ["layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2"] and of(64) == []
