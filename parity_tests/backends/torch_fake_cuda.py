"""A program: steps of a session on fake CUDA tensors, which know shape, type and device alone.

Started with `fake_cuda.cpp`'s library loaded before torch. Prints what it saw, as JSON.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from resnet_spec_torch.session import Session
from torch._subclasses.fake_tensor import FakeTensorMode
from torch_member import setup_of

from resnet_spec.contract import Array

FETCHED = list[tuple[int, ...]]()
"""Shapes of what was brought to the host, in order."""


class Fake(FakeTensorMode):
    """Does not start CUDA, which is said to be there."""

    @property
    def avoid_device_init(self) -> bool:
        """Whether it keeps to tensors that have no device."""
        return True


def main() -> None:
    """Train in the precisions that are named, soundly and with faults; the library comes first."""
    library, *precisions = sys.argv[1:]
    ctypes.CDLL(library).install()
    meta = torch.library.Library("aten", "IMPL", "Meta")
    for name in ("_fused_sgd_", "_fused_sgd_.tensor_lr"):  # No shapes to infer: in place.
        meta.impl(name, lambda *args, **more: None)
    with ExitStack() as stack:
        for target, stub in _STUBS.items():
            stack.enter_context(mock.patch(target, stub))
        stack.enter_context(Fake(allow_non_fake_inputs=True))
        print(json.dumps({precision: seen(precision) for precision in precisions}))


def seen(precision: Any) -> dict[str, Any]:
    """Return where all lies after training, in what type, what was fetched, and what faults do."""
    setup = setup_of("plain", 2)
    plan = replace(setup.plan, remat=(setup.plan.blocks[0].name,))
    session: Any = Session(plan, setup.recipe, device="cuda:0", precision=precision)
    computed = set[str]()
    for module in session.native.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, inputs, output: computed.add(_kind(output)))
    FETCHED.clear()
    log = session.train(setup.batches, setup.rates)
    fetched = list(FETCHED)
    slots = [tensor for tensors in session._slots().values() for tensor in tensors]
    step = partial(session.train, setup.batches[:1], setup.rates[:1])
    return {
        "steps": len(log.loss),
        "fetched": fetched,
        "optimizer": session.info["optimizer"],
        "scales": session._scaler.is_enabled(),
        "held": sorted({_kind(tensor) for tensor in (*session._weights().values(), *slots)}),
        "computed": sorted(computed),
        "faults": {name: raised(fault, session, step) for name, fault in FAULTS.items()},
    }


def _kind(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} on {tensor.device}"


def labels_on_the_host(session: Any) -> Any:
    """Leave labels where they are."""
    moved = session._inputs._moved

    def some(array: Array) -> torch.Tensor:
        return torch.from_numpy(array.copy()) if array.dtype == np.int64 else moved(array)

    return mock.patch.object(session._inputs, "_moved", some)


def shift_on_the_host(session: Any) -> Any:
    """Leave the normalisation's addend where it is."""
    return mock.patch.object(session._inputs, "_shift", torch.zeros(1, 3, 1, 1))


def a_wait_in_every_step(session: Any) -> Any:
    """Read the loss in the loop."""
    loss = session._loss_of

    def read(*compared: Any) -> torch.Tensor:
        found = loss(*compared)
        found.item()
        return found

    return mock.patch.object(session, "_loss_of", read)


FAULTS = {it.__name__: it for it in (labels_on_the_host, shift_on_the_host, a_wait_in_every_step)}


def raised(fault: Callable[[Any], Any], session: Any, step: Callable[[], object]) -> str:
    """Return the error of a step with `fault` in it; "" for none."""
    try:
        with fault(session):
            step()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _apply(self: Any, function: Any, recurse: bool = True) -> Any:
    """Move a module without swapping tensors, which refuses fake parameters."""
    for module in self.children() if recurse else ():
        module._apply(function)
    with torch.no_grad():
        for key, it in self._parameters.items():
            if it is not None:
                self._parameters[key] = torch.nn.Parameter(function(it), it.requires_grad)
    for key, it in self._buffers.items():
        if it is not None:
            self._buffers[key] = function(it)
    return self


def _fetched(tensor: Any) -> Array:
    FETCHED.append(tuple(tensor.shape))
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


_STUBS: dict[str, Any] = {
    "torch.cuda.is_available": lambda: True,
    "torch.cuda.get_device_name": lambda device=None: "fake",
    "torch.cuda.is_bf16_supported": lambda *args, **more: True,
    "torch.amp.grad_scaler.torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
    "torch._subclasses.fake_tensor.init_gpu_context": lambda device: None,
    "torch.nn.Module._apply": _apply,
    "torch.Tensor.pin_memory": lambda self, *args: self,
    "resnet_spec_torch.weights.to_array": _fetched,
    "resnet_spec_torch.session.to_array": _fetched,
    "resnet_spec_torch.group.to_array": _fetched,
}
"""What needs a driver, or values."""

if __name__ == "__main__":
    main()
