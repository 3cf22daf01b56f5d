"""What surrounds a pass through modules: their mode, their noise, who listens, what is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from resnet_spec_torch.weights import Tensors

Hook = Callable[[str, nn.Module, Any, Any], None]
"""Is told of a module's name, itself, its inputs and its output."""


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put `module` into training or evaluation mode, and every part back as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, was_training in before:
            part.training = was_training


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Undo, at the end, what a pass in training mode does to statistics and their counters."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


@contextmanager
def handed(module: nn.Module, noise: Tensors) -> Iterator[None]:
    """Let the noise ops use `noise`, by their names, instead of drawing their own."""
    parts: dict[str, Any] = {name: module.get_submodule(name) for name in noise}
    try:
        for name, part in parts.items():
            part.noise = noise[name]
        yield
    finally:
        for part in parts.values():
            part.noise = None


@contextmanager
def hooked(module: nn.Module, names: Iterable[str], hook: Hook) -> Iterator[None]:
    """Have `hook` hear of every pass through the parts called `names`."""
    with ExitStack() as stack:
        for name in names:
            handle = module.get_submodule(name).register_forward_hook(partial(hook, name))
            stack.callback(handle.remove)
        yield
