"""Blocks that keep no activations for the backward pass: they run again there (`Plan.remat`).

torch's own `checkpoint` runs them; here is what makes the second run equal to the first.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resnet_spec.plan import Plan
from resnet_spec_torch.global_norms import GlobalBatchNorm2d, Statistics
from resnet_spec_torch.modules import Dropout, DropPath, ResidualBlock
from resnet_spec_torch.passes import unchanged


def rematerialise(network: nn.Module, plan: Plan) -> None:
    """Have the blocks of `network` that `plan.remat` names keep their input alone.

    The modules stay, with their names, tensors and hooks; how they run is another class.
    """
    for name in plan.remat:
        network.get_submodule(name).__class__ = RematerialisedBlock


class RematerialisedBlock(ResidualBlock):
    """A residual block that runs again in the backward pass, to the same bits."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        run = partial(checkpoint, super().forward, x, use_reentrant=False)
        # A compiler sees what a run changes, and changes it once; it takes no contexts.
        return run() if torch.compiler.is_compiling() else run(context_fn=partial(_runs, self))


def _runs(block: nn.Module) -> tuple[FirstRun, SecondRun]:
    """Return what surrounds the first run of a block, and each that follows."""
    first = FirstRun(block)
    return first, SecondRun(block, first)


class FirstRun:
    """Notes what a block is given that may be gone when it runs again.

    noise: what its noise ops were handed; None where they draw it, which `checkpoint` repeats.
    statistics: those of the samples of all processes, which need not be asked for again.
    """

    def __init__(self, block: nn.Module) -> None:
        parts = list(block.modules())
        self.noise = {part: part.noise for part in parts if isinstance(part, Dropout | DropPath)}
        self._norms = [part for part in parts if isinstance(part, GlobalBatchNorm2d)]
        self.statistics: dict[GlobalBatchNorm2d, Statistics | None] = {}

    def __enter__(self) -> None:
        """Begin the run."""

    def __exit__(self, *error: object) -> None:
        """Take the statistics of the run."""
        self.statistics = {norm: norm.taken for norm in self._norms}


class SecondRun:
    """Gives a block what it was given in its first run, and leaves it as it was."""

    def __init__(self, block: nn.Module, first: FirstRun) -> None:
        self._block, self._first = block, first
        self._undo = ExitStack()

    def __enter__(self) -> None:
        """Begin the run."""
        self._undo.enter_context(unchanged(self._block))
        for op, noise in self._first.noise.items():
            self._undo.callback(setattr, op, "noise", op.noise)
            op.noise = noise
        for norm, statistics in self._first.statistics.items():
            self._undo.callback(setattr, norm, "given", norm.given)
            norm.given = statistics

    def __exit__(self, *error: object) -> None:
        """End it, where torch stops it as soon as it has all activations, too."""
        self._undo.close()
