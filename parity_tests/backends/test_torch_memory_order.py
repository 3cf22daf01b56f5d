"""Fused steps on tensors in channels_last: torch's own numbers, and nothing is copied."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
ordered: Any = importlib.import_module("resnet_spec_torch.in_memory_order")

SHAPES = ((6, 5, 3, 3), (4, 3, 1, 1), (5, 1, 3, 3), (7, 4), (9,))
STEPS = 3
Make = Callable[[Any, list[Any]], Any]


def sgd(optim: Any, weights: list[Any]) -> Any:
    """Return one with velocities, as a session has it from the start."""
    made = optim(weights, 0.1, 0.9, weight_decay=0.01, nesterov=True, fused=True)
    for weight in weights:
        made.state[weight]["momentum_buffer"] = torch.zeros_like(weight, requires_grad=False)
    return made


def plain(optim: Any, weights: list[Any]) -> Any:
    return optim(weights, 0.1, fused=True)


KINDS: dict[str, tuple[Any, Any, Make]] = {
    "sgd": (ordered.Sgd, torch.optim.SGD, sgd),
    "sgd without momentum": (ordered.Sgd, torch.optim.SGD, plain),
    "adam": (ordered.Adam, torch.optim.Adam, plain),
    "adamw": (ordered.AdamW, torch.optim.AdamW, plain),
}


def laid(tensor: Any, layout: Any) -> Any:
    return tensor.to(memory_format=layout) if tensor.dim() == 4 else tensor


def stepped(optim: Any, make: Make, layout: Any, of_gradients: Any) -> tuple[list[Any], Any]:
    """Return weights after a few steps, in torch's own format, and the optimiser."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator) for shape in SHAPES]
    weights = [laid(it, layout).requires_grad_() for it in weights]
    optimizer = make(optim, weights)
    for _ in range(STEPS):
        for weight in weights:
            weight.grad = laid(torch.randn(weight.shape, generator=generator), of_gradients)
        optimizer.step()
    return [it.detach().contiguous() for it in weights], optimizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of_gradients", [torch.channels_last, torch.contiguous_format], ids=str)
def test_steps_are_torch_s_whatever_the_layout(kind: str, of_gradients: Any) -> None:
    own, theirs, make = KINDS[kind]
    found, optimizer = stepped(own, make, torch.channels_last, of_gradients)
    expected, _ = stepped(theirs, make, torch.contiguous_format, torch.contiguous_format)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    assert set(optimizer.state) <= {
        it for group in optimizer.param_groups for it in group["params"]
    }
    kept = [it for slots in optimizer.state.values() for it in slots.values() if it.dim() == 4]
    assert all(it.shape in SHAPES for it in kept)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_copied(kind: str) -> None:
    from torch.profiler import ProfilerActivity, profile

    own, theirs, make = KINDS[kind]
    copies = []
    for optim in (own, theirs):
        _, optimizer = stepped(optim, make, torch.channels_last, torch.channels_last)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
            optimizer.step()
        copied = [it.input_shapes[0] for it in record.events() or () if it.name == "aten::copy_"]
        copies.append(sum(len(shape) == 4 for shape in copied))
    assert copies[0] == 0 < copies[1]


def test_tensors_of_several_orders_are_left_alone() -> None:
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    gradient, step = torch.randn(4, 3, 3, 3), torch.zeros(())
    moved = ordered.in_order(weight, gradient, [weight.clone(), step])
    assert [tuple(it.shape) for it in moved] == [(4, 3, 3, 3)] * 3 + [()]
    assert moved[0].is_contiguous() and moved[0].data_ptr() == weight.data_ptr()
    assert torch.equal(moved[1].permute(0, 3, 1, 2), gradient) and moved[1].is_contiguous()
    for slot in (weight.contiguous(), None):
        given = ordered.in_order(weight, gradient, [slot])
        assert given[0] is weight and given[1] is gradient and given[2] is slot
    apart = weight[:, :, ::2]
    assert ordered.in_order(apart, gradient, [])[0] is apart
