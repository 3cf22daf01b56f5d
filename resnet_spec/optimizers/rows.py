"""What the core knows of one optimiser: the arrays that it keeps, its settings and its equation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from resnet_spec.optimizers.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Shape = tuple[int, ...]


class Equation(Protocol):
    """One tensor's step, in the precision of the arrays; nothing that is given changes."""

    def __call__(
        self,
        settings: Settings,
        rate: float,
        decay: float,
        weight: Array,
        gradient: Array,
        slots: Mapping[str, Array],
    ) -> tuple[Array, dict[str, Array]]:
        """Return the new weight, and the new slots by family.

        rate: the step's, times the tensor's factor. decay: the weight decay of this tensor, 0 where
        it has none. gradient: of the loss alone, clipped where it is. slots: by family, as they are
        before the step.
        """
        ...


def _always(settings: Settings) -> bool:
    return True


def _no_rules(settings: Settings) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Slot:
    """One family of arrays beside the weights.

    per: "tensor": `family/<name>` for each trainable tensor, in its shape and layout; "run": the
        number of steps taken, `family/count` of shape (), one for all tensors.
    first: its value before the first step. exists: whether an optimiser with these settings has it.
    """

    family: str
    about: str
    per: Literal["tensor", "run"] = "tensor"
    first: float = 0.0
    exists: Callable[[Settings], bool] = _always

    def name_for(self, tensor: str) -> str:
        """Return the name of the slot that the step of `tensor` reads and writes."""
        return f"{self.family}/{tensor if self.per == 'tensor' else 'count'}"

    def shape_for(self, weight: Shape) -> Shape:
        """Return the shape of the slot of a tensor of shape `weight`."""
        return weight if self.per == "tensor" else ()

    def shapes(self, weights: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of the family by name. weights: those of the trainable tensors."""
        return {self.name_for(name): self.shape_for(shape) for name, shape in weights.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """One optimiser.

    slots: in the order of a state. settings: what it reads of `settings.OWN`, with the defaults.
    rules: between its settings, a line each. jumps: whether a step goes far up or down for a
        gradient of nearly 0, as a sign does, and a gradient over its own size. adapts: whether it
        has a trust ratio, which is that of tensors with weight decay alone.
    """

    equation: Equation
    slots: tuple[Slot, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rules: Callable[[Settings], Iterable[str]] = _no_rules
    jumps: bool = False
    adapts: bool = False

    def step(
        self,
        settings: Settings,
        tensor: str,
        rate: float,
        decay: float,
        weight: Array,
        gradient: Array,
        slots: Mapping[str, Array],
    ) -> tuple[Array, dict[str, Array]]:
        """Return the new weight of `tensor` and its new slots; slots: by name, of all tensors."""
        names = {s.family: s.name_for(tensor) for s in self.slots if s.exists(settings)}
        own = {family: slots[name] for family, name in names.items()}
        new, moved = self.equation(settings, rate, decay, weight, gradient, own)
        return new, {names[family]: array for family, array in moved.items()}
