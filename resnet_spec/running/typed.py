"""What `build` and `session` give for each of our backends, for type checkers.

No framework is imported when this runs; a checker that does not find one takes its modules for Any.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

from resnet_spec.contract import Precision, Session

if TYPE_CHECKING:
    from flax import nnx
    from mindspore.nn.cell import Cell  # pyright: ignore
    from torch import nn as torch_nn


class NetworkOptions(TypedDict, total=False):
    """The options of `build` and of `session`."""

    classes: int | None
    input_size: int | None
    seed: int
    pretrained: str | Path | None
    part: str | None


class BuildOptions(NetworkOptions, total=False):
    """The options of `build`."""

    fold: bool


class SessionOptions(NetworkOptions, total=False):
    """The options of `session`."""

    device: str
    precision: Precision | None
    compile: bool


class TorchSession(Session, Protocol):
    """A session of PyTorch."""

    native: torch_nn.Module


class FlaxSession(Session, Protocol):
    """A session of Flax."""

    native: nnx.Module


class MindSporeSession(Session, Protocol):
    """A session of MindSpore."""

    native: Cell
