"""One drawn operation, and how a number in [0, 1) picks among things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

Filter = Literal["nearest", "bilinear", "bicubic"]
WITHOUT_MAGNITUDE = frozenset({"identity", "auto_contrast", "equalize", "invert"})
"""Operations that are done or not done."""
_T = TypeVar("_T")


class Choice(NamedTuple):
    """An operation of `operations.OPERATIONS` with its strength.

    magnitude: pixels of a translation, to the right or down; degrees of a rotation, against the
    clock; the factor of brightness, contrast, colour and sharpness, 1 of which changes nothing;
    the bits that posterize keeps; the first grey value that solarize inverts; what solarize_add
    adds; the tangent of a shear; a fraction of a turn of the hue. 0 where there is none.
    filter: how pixels are taken between pixels, where they move.
    """

    operation: str
    magnitude: float = 0.0
    filter: Filter = "nearest"

    def __str__(self) -> str:
        """Return both, as in `rotate -13.5`; the operation alone where that is all."""
        if self.operation in WITHOUT_MAGNITUDE:
            return self.operation
        return f"{self.operation} {self.magnitude:.4g}"


def one_of(things: Sequence[_T], drawn: float) -> _T:
    """Return the thing that `drawn`, in [0, 1), picks; all are equally likely."""
    return things[int(drawn * len(things))]


def signed(magnitude: float, drawn: float) -> float:
    """Return `magnitude`, negative for the lower half of [0, 1)."""
    return 0.0 - magnitude if drawn < 0.5 else magnitude  # Not -0.0, which prints a sign.
