"""The ops a plan is made of: frozen values with every integer, name and shape already resolved.

A backend turns each class into its framework's own layer and computes nothing on channels, strides
or padding. Shapes leave out the batch axis and are (channels, height, width), or (features,) after
flattening. This module imports nothing of the project and may be imported by every module.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Literal, NamedTuple, get_args, get_type_hints

Shape = tuple[int, ...]
Pad = tuple[int, int, int, int]
"""(top, bottom, left, right), in pixels."""

Layout = Literal["OIHW", "OI", "C"]
Role = Literal[
    "conv_weight",
    "linear_weight",
    "bias",
    "norm_scale",
    "norm_shift",
    "running_mean",
    "running_var",
]


InitKind = Literal["normal", "truncated_normal", "uniform", "constant"]
ActivationKind = Literal["relu", "sigmoid"]
Variance = Literal["unbiased", "biased"]
Sync = Literal["global", "replica"]


_LAYOUTS, _ROLES, _INITS = get_args(Layout), get_args(Role), get_args(InitKind)
_ACTIVATIONS, _VARIANCES, _SYNCS = get_args(ActivationKind), get_args(Variance), get_args(Sync)


def _refused(field: str, value: str, allowed: tuple[str, ...]) -> ValueError:
    """Return the error of a value that is none of `allowed`."""
    return ValueError(f"{field} = {value}: must be one of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class Init:
    """How a tensor is first filled.

    `normal`: standard deviation `value`. `truncated_normal`: cut at two standard deviations, and
    `value` is the standard deviation after the cut. `uniform`: between -`value` and `value`.
    `constant`: `value` everywhere.
    """

    kind: InitKind
    value: float

    def __post_init__(self) -> None:
        if self.kind not in _INITS:
            raise _refused("init.kind", self.kind, _INITS)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named array of the network in its canonical layout.

    frozen: whether training leaves it as it is, to the last bit. rate: factor on the learning rate.
    """

    name: str
    shape: Shape
    layout: Layout
    role: Role
    init: Init
    frozen: bool = False
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.layout not in _LAYOUTS:
            raise _refused(f"{self.name}.layout", self.layout, _LAYOUTS)
        if self.role not in _ROLES:
            raise _refused(f"{self.name}.role", self.role, _ROLES)

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


_ABSTRACT = ("_Node", "BaseOp", "NoisyOp")


@dataclass(frozen=True, slots=True)
class _Node:
    """What every node has: its canonical path, e.g. `layer1.0.conv1`, and where it stands.

    at: the address that lowering gave it; None in a node made by hand, and then no `address`.
    """

    name: str
    at: Address | None = field(default=None, kw_only=True, repr=False)

    def __init_subclass__(cls) -> None:
        """Refuse a class made of another op's: where classes are matched, it would pass for it."""
        for base in cls.__bases__:
            if base.__name__ not in _ABSTRACT:
                rule = f"must not be made of {base.__name__}, which it would pass for"
                raise TypeError(f"{cls.__name__}: {rule}; make it of BaseOp or NoisyOp")

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
class BaseOp(_Node):
    """What every leaf has: one array in (two for `Add`), one out.

    A class of ops declares its tensors by its fields, and has a row in `planning.op_rows`, which
    holds whatever else the core knows of it.
    """

    in_shape: Shape
    out_shape: Shape

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its arrays, in the order of its fields; a bias that it does not have is left out."""
        names = tensor_fields(type(self))
        if not names:
            return ()
        found = [getattr(self, name) for name in names]
        return tuple([tensor for tensor in found if tensor is not None])


@dataclass(frozen=True, slots=True)
class NoisyOp(BaseOp):
    """What takes `Batch.noise[name]` in training: factors of 0 or 1/(1-rate)."""

    rate: float

    @property
    def noise_shape(self) -> Shape:
        """Shape of the factors of one sample."""
        raise NotImplementedError(f"{type(self).__name__}.noise_shape")


@cache
def tensor_fields(kind: type[BaseOp]) -> tuple[str, ...]:
    """Return the names of the fields of an op's class that hold tensors, in order."""
    types = get_type_hints(kind)
    return tuple(it.name for it in fields(kind) if types[it.name] in (Tensor, Tensor | None))


class Met(NamedTuple):
    """Values of a kernel along one side that meet no padding, and the pixels that they meet."""

    taps: range
    pixels: range

    @classmethod
    def along(cls, size: int, kernel: int, pad: int, dilation: int) -> Met:
        """Return what meets where the window is at the beginning. pad: zeros before the pixels."""
        first, end = -(-pad // dilation), min(kernel, (size - 1 + pad) // dilation + 1)
        taps = range(first, max(first, end))
        return cls(taps, range(first * dilation - pad, taps.stop * dilation - pad, dilation))


Window = tuple[Met, Met]
"""What meets in a convolution's only window, by rows and by columns."""


@dataclass(frozen=True, slots=True)
class Conv(BaseOp):
    """Two-dimensional cross-correlation, zero padded; weight layout OIHW with I = in / groups."""

    kernel: tuple[int, int]
    stride: int
    pad: Pad
    dilation: int
    groups: int
    weight: Tensor
    bias: Tensor | None

    @property
    def only_window(self) -> Window | None:
        """What meets in the only window; None where there are more.

        Where the output is one pixel, a convolution without groups is a matrix product, and much of
        a kernel may lie on padding: in the last stage of a ResNet-18 at 32 pixels, of 3x3 over 2x2
        four values meet a pixel, and of 3x3 over 1x1 a single one.
        """
        if self.out_shape[1:] != (1, 1) or self.groups != 1:
            return None
        rows = Met.along(self.in_shape[1], self.kernel[0], self.pad[0], self.dilation)
        columns = Met.along(self.in_shape[2], self.kernel[1], self.pad[2], self.dilation)
        return (rows, columns) if rows.taps and columns.taps else None


@dataclass(frozen=True, slots=True)
class Norm(BaseOp):
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
    variance: Variance
    sync: Sync
    scale: Tensor
    shift: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __post_init__(self) -> None:
        if self.variance not in _VARIANCES:
            raise _refused(f"{self.name}.variance", self.variance, _VARIANCES)
        if self.sync not in _SYNCS:
            raise _refused(f"{self.name}.sync", self.sync, _SYNCS)

    @property
    def frozen(self) -> bool:
        """Whether its statistics are frozen (see above)."""
        return self.running_mean.frozen


@dataclass(frozen=True, slots=True)
class Activation(BaseOp):
    """Element-wise non-linearity; the gradient of relu at exactly zero is zero."""

    kind: ActivationKind

    def __post_init__(self) -> None:
        if self.kind not in _ACTIVATIONS:
            raise _refused(f"{self.name}.kind", self.kind, _ACTIVATIONS)


@dataclass(frozen=True, slots=True)
class MaxPool(BaseOp):
    """Maximum over windows; the padding counts as minus infinity."""

    kernel: int
    stride: int
    pad: Pad


@dataclass(frozen=True, slots=True)
class AvgPool(BaseOp):
    """Mean over windows; a window is divided by the number of its pixels that are not padding."""

    kernel: int
    stride: int
    pad: Pad


@dataclass(frozen=True, slots=True)
class PadChannels(BaseOp):
    """The parameter-free shortcut A: every `stride`-th pixel from (0, 0), zero channels added.

    `channels = (front, back)` counts the zero channels put before and after the existing ones.
    """

    stride: int
    channels: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Add(BaseOp):
    """Sum of the body's and the shortcut's output, in that order."""


@dataclass(frozen=True, slots=True)
class GlobalPool(BaseOp):
    """Mean over height and width; `keep_dims` keeps them as 1 x 1."""

    keep_dims: bool


@dataclass(frozen=True, slots=True)
class Flatten(BaseOp):
    """(C, 1, 1) to (C,)."""


@dataclass(frozen=True, slots=True)
class Linear(BaseOp):
    """y = x W^T + b, weight layout [out, in]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Dropout(NoisyOp):
    """In training, multiply by noise [N, C] of 0 or 1/(1-rate); in evaluation, nothing.

    The noise comes with the batch (`Batch.noise[name]`); a native module used on its own draws its
    own.
    """

    @property
    def noise_shape(self) -> Shape:
        """(C,): a factor per channel."""
        return (self.in_shape[0],)


@dataclass(frozen=True, slots=True)
class DropPath(NoisyOp):
    """Stochastic depth (Huang et al. 2016): as `Dropout`, with one noise value per sample, [N]."""

    @property
    def noise_shape(self) -> Shape:
        """(): one factor."""
        return ()


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
