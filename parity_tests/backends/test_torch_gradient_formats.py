"""In channels_last gradients are laid out as the maps they are of: nothing leaps through memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from resnet_spec.describing.spec_files import load_spec
from resnet_spec.loader import load_backend
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
dispatch: Any = importlib.import_module("torch.utils._python_dispatch")
backend: Any = load_backend("torch")
pools: Any = importlib.import_module(f"{backend.__name__}.pools")
products: Any = importlib.import_module(f"{backend.__name__}.products")

LAST = torch.channels_last


def layout_of(tensor: Any) -> str:
    """Return in which order a map lies, or "" where that is one and the same."""
    last, first = tensor.is_contiguous(memory_format=LAST), tensor.is_contiguous()
    return "" if (last and first) or not (last or first) else "NHWC" if last else "NCHW"


class Mixed(dispatch.TorchDispatchMode):
    """Notes every op, forwards and backwards, whose maps lie in different orders."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        orders = {layout_of(it) for it in maps_in((args, result))} - {""}
        if len(orders) > 1 and not func.is_view:
            self.found.append(str(func))
        return result


def maps_in(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from maps_in(item)
    elif isinstance(value, torch.Tensor) and value.ndim == 4 and not value.is_quantized:
        yield value


def mixed_in(name: str, size: int) -> list[str]:
    """Return the ops with maps in different orders, of a training pass in channels_last."""
    plan = lower(load_spec(name), size)
    network = backend.build(plan, initial_state(plan, 0)).to(memory_format=LAST).train()
    images = torch.rand(2, 3, size, size).to(memory_format=LAST)
    with Mixed() as mode:
        network(images).square().sum().backward()
    kernels = [it for it in network.parameters() if it.ndim == 4]
    assert all(layout_of(it.grad) in ("", layout_of(it)) for it in kernels)
    return mode.found


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet50", 64),  # Strided products of pixels.
        ("resnet18", 32),  # Kernels with a single window.
        ("seresnet50", 64),  # Means of maps that go on.
        ("resnet50d", 64),
        ("resnet20_cifar", 32),  # Shortcuts without parameters.
        ("resnext50_32x4d", 64),
    ],
)
def test_maps_and_their_gradients_lie_in_one_order(name: str, size: int) -> None:
    assert mixed_in(name, size) == []


def test_a_mean_in_another_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "mean_of_map", lambda x: x.mean((2, 3)))
    found = mixed_in("seresnet50", 64)
    assert len([it for it in found if it.startswith("aten.add")]) >= 16


def test_a_slice_in_another_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_pixels(input: Any, weight: Any, bias: Any, stride: Any) -> Any:
        met = input[:, :, :: stride[0], :: stride[1]].permute(0, 2, 3, 1)
        return torch.nn.functional.linear(met, weight.flatten(1), bias).permute(0, 3, 1, 2)

    monkeypatch.setattr(products, "by_pixels", by_pixels)
    found = mixed_in("resnet50", 64)
    assert any(it.startswith("aten.add") for it in found), found
    assert any(it.startswith("aten.threshold_backward") for it in found), found


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format], ids=str)
def test_means_are_torch_s_to_the_bit(layout: Any, keep_dims: bool) -> None:
    images = torch.randn(3, 5, 7, 6).to(memory_format=layout).requires_grad_()
    given = torch.randn(3, 5, 1, 1) if keep_dims else torch.randn(3, 5)
    mean, expected = pools.GlobalPool(keep_dims)(images), images.mean((2, 3), keepdim=keep_dims)
    assert torch.equal(mean, expected)
    (got,), (slope,) = (torch.autograd.grad(y, images, given) for y in (mean, expected))
    assert torch.equal(got, slope) and got.is_contiguous(memory_format=layout)
