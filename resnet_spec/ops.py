"""The ops a plan is made of: frozen values with every integer, name and shape already resolved.

A backend turns each class into its framework's own layer and computes nothing on channels, strides
or padding. Shapes leave out the batch axis and are (channels, height, width), or (features,) after
flattening. This module imports nothing of the project and may be imported by every module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Shape = tuple[int, ...]
Pad = tuple[int, int, int, int]
"""(top, bottom, left, right), in pixels."""

Role = Literal[
    "conv_weight",
    "linear_weight",
    "bias",
    "norm_scale",
    "norm_shift",
    "running_mean",
    "running_var",
]


@dataclass(frozen=True, slots=True)
class Init:
    """How a tensor is first filled.

    `normal`: standard deviation `value`. `truncated_normal`: cut at two standard deviations, and
    `value` is the standard deviation after the cut. `uniform`: between -`value` and `value`.
    `constant`: `value` everywhere.
    """

    kind: Literal["normal", "truncated_normal", "uniform", "constant"]
    value: float


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named array of the network in its canonical layout.

    frozen: whether training leaves it as it is, to the last bit. rate: factor on the learning rate.
    """

    name: str
    shape: Shape
    layout: Literal["OIHW", "OI", "C"]
    role: Role
    init: Init
    frozen: bool = False
    rate: float = 1.0

    @property
    def is_statistic(self) -> bool:
        """Whether it is a running mean or variance, and no parameter."""
        return self.role in ("running_mean", "running_var")

    @property
    def trainable(self) -> bool:
        """Whether the optimiser updates it: neither a statistic nor frozen."""
        return not (self.is_statistic or self.frozen)


Part = Literal["network", "stem", "stage", "block", "body", "gate", "shortcut", "head"]
"""Part of the network that a node belongs to.

`network`, `stage` and `block`: containers that hold several parts. `body`: a block's own line, from
its first op to its last, the sum with the shortcut included.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node stands in the network, in either order of norm and activation.

    stage: from 1; None outside stages. block: within its stage, from 0; None outside blocks.
    """

    stage: int | None
    block: int | None
    part: Part


@dataclass(frozen=True, slots=True)
class _Node:
    """What every node has: its canonical path, e.g. `layer1.0.conv1`, and where it stands.

    at: the address that lowering gave it; None in a node made by hand, and then no `address`.
    """

    name: str
    at: Address | None = field(default=None, kw_only=True, repr=False)

    @property
    def address(self) -> Address:
        """Where the node stands. Raises ValueError for a node without an address."""
        if self.at is None:
            raise ValueError(f"{self.name}: has no address; nodes that `lower` makes have one")
        return self.at

    @property
    def key(self) -> str:
        """The last part of the path: the attribute name in the parent module."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class _Op(_Node):
    """A leaf: one tensor in (two for `Add`), one out."""

    in_shape: Shape
    out_shape: Shape


@dataclass(frozen=True, slots=True)
class Conv(_Op):
    """Two-dimensional cross-correlation, zero padded; weight layout OIHW with I = in / groups."""

    kernel: tuple[int, int]
    stride: int
    pad: Pad
    dilation: int
    groups: int
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class Norm(_Op):
    """Batch normalisation over (N, H, W) (Ioffe & Szegedy 2015, algorithm 1).

    The output is always normalised with the biased variance. `decay` is the fraction of the old
    running value that is kept at each step. `variance` says which batch variance enters
    `running_var`: `unbiased` (n/(n-1), as torch does) or `biased`. `sync` says over which samples
    a step with several processes takes its statistics: `global` (all of them) or `replica` (each
    process its own). A `frozen` norm uses the running statistics in training, too, and does not
    move them.
    """

    eps: float
    decay: float
    variance: Literal["unbiased", "biased"]
    sync: Literal["global", "replica"]
    scale: Tensor
    shift: Tensor
    running_mean: Tensor
    running_var: Tensor

    @property
    def frozen(self) -> bool:
        """Whether its statistics are frozen (see above)."""
        return self.running_mean.frozen


@dataclass(frozen=True, slots=True)
class Activation(_Op):
    """Element-wise non-linearity; the gradient of relu at exactly zero is zero."""

    kind: Literal["relu", "sigmoid"]


@dataclass(frozen=True, slots=True)
class MaxPool(_Op):
    """Maximum over windows; the padding counts as minus infinity."""

    kernel: int
    stride: int
    pad: Pad


@dataclass(frozen=True, slots=True)
class AvgPool(_Op):
    """Mean over windows; a window is divided by the number of its pixels that are not padding."""

    kernel: int
    stride: int
    pad: Pad


@dataclass(frozen=True, slots=True)
class PadChannels(_Op):
    """The parameter-free shortcut A: every `stride`-th pixel from (0, 0), zero channels added.

    `channels = (front, back)` counts the zero channels put before and after the existing ones.
    """

    stride: int
    channels: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Add(_Op):
    """Sum of the body's and the shortcut's output, in that order."""


@dataclass(frozen=True, slots=True)
class GlobalPool(_Op):
    """Mean over height and width; `keep_dims` keeps them as 1 x 1."""

    keep_dims: bool


@dataclass(frozen=True, slots=True)
class Flatten(_Op):
    """(C, 1, 1) to (C,)."""


@dataclass(frozen=True, slots=True)
class Linear(_Op):
    """y = x W^T + b, weight layout [out, in]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Dropout(_Op):
    """In training, multiply by noise [N, C] of 0 or 1/(1-rate); in evaluation, nothing.

    The noise comes with the batch (`Batch.noise[name]`); a native module used on its own draws its
    own.
    """

    rate: float


@dataclass(frozen=True, slots=True)
class DropPath(_Op):
    """Stochastic depth (Huang et al. 2016): as `Dropout`, with one noise value per sample, [N]."""

    rate: float


Op = (
    Conv
    | Norm
    | Activation
    | MaxPool
    | AvgPool
    | PadChannels
    | Add
    | GlobalPool
    | Flatten
    | Linear
    | Dropout
    | DropPath
)


@dataclass(frozen=True, slots=True)
class Chain(_Node):
    """Children one after another; registered in the parent under their keys."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Gate(_Node):
    """Squeeze-and-excitation (Hu et al. 2018): x times the output of the children chained on x.

    The children's output is (C, 1, 1) and is broadcast over height and width.
    """

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Residual(_Node):
    """tail(add(body(e), s)) with e = entry(x); every part registers its children in this module.

    `entry`: what precedes the split (norm and activation in the pre-activation form, else empty).
    `shortcut`: None is the identity on x; otherwise a node applied to e. `tail`: what follows the
    sum (the activation in the post-activation form, else empty).
    """

    entry: tuple[Node, ...]
    body: tuple[Node, ...]
    shortcut: Node | None
    add: Add
    tail: tuple[Node, ...]


Node = Op | Chain | Gate | Residual
