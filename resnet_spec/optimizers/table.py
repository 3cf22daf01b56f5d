"""All optimisers, and the table of settings that chooses one.

A row says all that the core knows of an optimiser: states, checkpoints, comparisons and the search
for what went wrong read it. A backend has one native function for each row, in a table by the same
names (`native_of`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from resnet_spec.describing.by_kind import present, show_defaults, unread, with_defaults
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.optimizers import equations
from resnet_spec.optimizers.rows import Row, Slot
from resnet_spec.optimizers.settings import OWN, Settings

Native = TypeVar("Native")


def _has_momentum(settings: Settings) -> bool:
    return settings.momentum > 0


_VELOCITY = Slot("momentum", "the velocity v", exists=_has_momentum)
_MEANS = (
    Slot("mean", "the mean m of gradients"),
    Slot("square", "the mean s of their squares"),
    Slot("steps", "the number t of steps taken", per="run"),
)
_ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def _nesterov_needs_momentum(settings: Settings) -> Iterator[str]:
    if settings.nesterov and settings.momentum == 0:
        yield problem("optimizer.nesterov", "true", "needs optimizer.momentum > 0")


def _trust_needs_decay(settings: Settings) -> Iterator[str]:
    # Else it would silently be Adam or SGD: tensors without decay have no trust ratio.
    if settings.weight_decay == 0:
        rule = f"{settings.kind} adapts only the tensors that have weight decay"
        yield problem("optimizer.weight_decay", 0.0, rule, "set a small one, as 1e-6")


def _rules_of_lars(settings: Settings) -> Iterator[str]:
    yield from _nesterov_needs_momentum(settings)
    yield from _trust_needs_decay(settings)


OPTIMIZERS: dict[str, Row] = {
    "sgd": Row(
        equations.sgd,
        slots=(_VELOCITY,),
        settings={"momentum": 0.9, "nesterov": False},
        rules=_nesterov_needs_momentum,
    ),
    "adam": Row(equations.adam, slots=_MEANS, settings=_ADAM, jumps=True),
    "adamw": Row(equations.adamw, slots=_MEANS, settings=_ADAM, jumps=True),
    "lamb": Row(
        equations.lamb,
        slots=_MEANS,
        settings={"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6},
        rules=_trust_needs_decay,
        jumps=True,
        adapts=True,
    ),
    "lars": Row(
        equations.lars,
        slots=(_VELOCITY,),
        settings={"momentum": 0.9, "nesterov": False, "trust": 0.001, "epsilon": 1e-8},
        rules=_rules_of_lars,
        adapts=True,
    ),
    "rmsprop": Row(
        equations.rmsprop,
        # TensorFlow's mean of squares begins at 1, so that the first steps are not too long.
        slots=(Slot("rms", "the mean s of squares", first=1.0), _VELOCITY),
        settings={"momentum": 0.9, "beta2": 0.9, "epsilon": 1e-10},
    ),
    "lion": Row(
        equations.lion,
        slots=_MEANS[:1],
        settings={"beta1": 0.9, "beta2": 0.99},
        jumps=True,
    ),
}
"""By `Optimizer.kind`."""


CLIPS = ("clip_norm", "clip_value", "clip_adaptive")


def _settings() -> dict[str, Mapping[str, Any]]:
    return {kind: row.settings for kind, row in OPTIMIZERS.items()}


def _kinds(schema: dict[str, Any]) -> None:
    """Put the names of all optimisers into the schema of `Optimizer.kind`."""
    schema["enum"] = list(OPTIMIZERS)


def _defaults(schema: dict[str, Any]) -> None:
    show_defaults(schema, OWN, _settings())
    for field in schema["properties"].values():
        if field.get("default", ...) is None:
            del field["default"]


class Optimizer(Settings):
    """How a step is made of the gradient g of each weight w.

    A kind's own settings (`settings.OWN`) have the defaults of its row, and are absent in others.
    """

    model_config = ConfigDict(json_schema_extra=_defaults)
    by_kind: ClassVar = OWN

    kind: Annotated[str, Field(json_schema_extra=_kinds)] = "sgd"
    """The equation; the settings of other kinds are refused."""

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        return with_defaults(data, "kind", "sgd", _settings())

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return present(handler(self))

    def broken_rules(self) -> Iterator[str]:
        """Yield a line for each rule beyond the range of a single setting that is broken."""
        row = OPTIMIZERS.get(self.kind)
        if row is None:
            remedy = did_you_mean(self.kind, OPTIMIZERS)
            shown = self.kind or '""'
            yield problem("optimizer.kind", shown, "is not a known optimiser", remedy)
            return
        yield from unread(self, "optimizer", self.kind, OWN, row.settings)
        first, *others = [name for name in CLIPS if self.has(name)] or [""]
        for name in others:
            rule = f"goes not together with optimizer.{first}"
            yield problem(f"optimizer.{name}", getattr(self, name), rule, "leave one of them out")
        yield from row.rules(self)


def row_of(settings: Settings) -> Row:
    """Return the row of the optimiser of these settings."""
    return OPTIMIZERS[settings.kind]


def slots_of(settings: Settings) -> tuple[Slot, ...]:
    """Return the slots that an optimiser of these settings has, in the order of a state."""
    return tuple(slot for slot in row_of(settings).slots if slot.exists(settings))


def known_slots() -> dict[str, Slot]:
    """Return the slots of all optimisers by family."""
    return {slot.family: slot for row in OPTIMIZERS.values() for slot in row.slots}


def native_of(settings: Settings, table: Mapping[str, Native], backend: str) -> Native:
    """Return what `table`, a backend's, has for an optimiser. Raises BackendError for nothing."""
    if settings.kind not in table:
        rule = f"is not one of {backend}'s optimisers"
        raise BackendError(
            problem("optimizer.kind", settings.kind, rule, did_you_mean(settings.kind, table))
        )
    return table[settings.kind]
