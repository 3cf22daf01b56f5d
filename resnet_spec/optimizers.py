"""Optimisers as data: what a person sets, what each keeps from step to step, and its equation.

A row says all that the core knows of an optimiser: states, checkpoints, comparisons and the search
for what went wrong read it. A backend has one native function for each row, in a table by the same
names (`native_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field

from resnet_spec.describing.descriptions import Fraction, NotNegative, Table
from resnet_spec.errors import BackendError, did_you_mean, problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Shape = tuple[int, ...]
Native = TypeVar("Native")


def _kinds(schema: dict[str, Any]) -> None:
    """Put the names of all optimisers into the schema of `Optimizer.kind`."""
    schema["enum"] = list(OPTIMIZERS)


class Optimizer(Table):
    """How a step is made of the gradient g of each weight w."""

    kind: Annotated[str, Field(json_schema_extra=_kinds)] = "sgd"
    """The equation. `sgd`: g += weight_decay w; v = momentum v + g; w -= rate v."""
    momentum: Fraction = 0.9
    nesterov: bool = False
    """Step with w -= rate (g + momentum v) instead."""
    weight_decay: NotNegative = 1e-4
    """Coupled: it is added to the gradient, before the velocity."""
    decay_norms: bool = True
    """Whether decay reaches the scales and shifts of norms."""
    decay_biases: bool = True
    """Whether decay reaches biases."""

    def broken_rules(self) -> Iterator[str]:
        """Yield a line for each rule beyond the range of a single setting that is broken."""
        row = OPTIMIZERS.get(self.kind)
        if row is None:
            remedy = did_you_mean(self.kind, OPTIMIZERS)
            shown = self.kind or '""'
            yield problem("optimizer.kind", shown, "is not a known optimiser", remedy)
        else:
            yield from row.rules(self)


class Equation(Protocol):
    """One tensor's step, in the precision of the arrays; nothing that is given changes."""

    def __call__(
        self,
        settings: Optimizer,
        rate: float,
        decay: float,
        weight: Array,
        gradient: Array,
        slots: Mapping[str, Array],
    ) -> tuple[Array, dict[str, Array]]:
        """Return the new weight, and the new slots by family.

        rate: the step's, times the tensor's factor. decay: the weight decay of this tensor, 0 where
        it has none. gradient: of the loss alone. slots: by family, as they are before the step.
        """
        ...


def _always(settings: Optimizer) -> bool:
    return True


def _no_rules(settings: Optimizer) -> Iterable[str]:
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
    exists: Callable[[Optimizer], bool] = _always

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
    """One optimiser. slots: in the order of a state. rules: between its settings, a line each."""

    equation: Equation
    slots: tuple[Slot, ...] = ()
    rules: Callable[[Optimizer], Iterable[str]] = _no_rules

    def step(
        self,
        settings: Optimizer,
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


def _sgd(
    settings: Optimizer,
    rate: float,
    decay: float,
    weight: Array,
    gradient: Array,
    slots: Mapping[str, Array],
) -> tuple[Array, dict[str, Array]]:
    """Stochastic gradient descent, momentum as torch has it (Sutskever et al. 2013, rate apart)."""
    g = gradient + decay * weight if decay else gradient
    moved = {family: settings.momentum * v + g for family, v in slots.items()}
    v = moved.get("momentum", g)
    step = g + settings.momentum * v if settings.nesterov else v
    return weight - rate * step, moved


def _rules_of_sgd(settings: Optimizer) -> Iterator[str]:
    if settings.nesterov and settings.momentum == 0:
        yield problem("optimizer.nesterov", "true", "needs optimizer.momentum > 0")


OPTIMIZERS: dict[str, Row] = {
    "sgd": Row(
        _sgd,
        slots=(Slot("momentum", "the velocity v", exists=lambda settings: settings.momentum > 0),),
        rules=_rules_of_sgd,
    ),
}
"""By `Optimizer.kind`."""


def row_of(settings: Optimizer) -> Row:
    """Return the row of the optimiser of these settings."""
    return OPTIMIZERS[settings.kind]


def slots_of(settings: Optimizer) -> tuple[Slot, ...]:
    """Return the slots that an optimiser of these settings has, in the order of a state."""
    return tuple(slot for slot in row_of(settings).slots if slot.exists(settings))


def known_slots() -> dict[str, Slot]:
    """Return the slots of all optimisers by family."""
    return {slot.family: slot for row in OPTIMIZERS.values() for slot in row.slots}


def native_of(settings: Optimizer, table: Mapping[str, Native], backend: str) -> Native:
    """Return what `table`, a backend's, has for an optimiser. Raises BackendError for nothing."""
    if settings.kind not in table:
        rule = f"is not one of {backend}'s optimisers"
        raise BackendError(
            problem("optimizer.kind", settings.kind, rule, did_you_mean(settings.kind, table))
        )
    return table[settings.kind]
