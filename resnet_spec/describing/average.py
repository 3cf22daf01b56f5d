"""What a person sets of the moving average; `planning.pace` makes a number for each step of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from resnet_spec.describing.descriptions import Fraction, NotNegative, Table
from resnet_spec.errors import problem


class Average(Table):
    """Exponential moving average of weights and statistics, evaluated in their place."""

    decay: Fraction = 0.0
    """Fraction of the old average that is kept at each step; 0 is off."""
    warmup: Literal["none", "power", "count"] = "none"
    """How the fraction rises to `decay`, so that the first weights are forgotten sooner, at the
    n-th step of the average: `power`: 1 - n^(-`power`), as timm's; `count`: (1 + n) / (10 + n), as
    TensorFlow's."""
    power: Annotated[float, Field(gt=0.0, le=10.0)] = 2 / 3
    """Of the warm-up `power`; 1 makes the average the mean of all steps, until `decay`."""
    start: NotNegative = 0.0
    """Until here, in `schedule.unit`, and with the first move from here on, the average is the
    weights themselves."""
    every: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Steps from one move of the average to the next; the first step of an epoch moves it."""

    @property
    def varying(self) -> dict[str, object]:
        """The settings that are given by which steps differ in what they keep."""
        fields = type(self).model_fields
        found = {name: getattr(self, name) for name in ("warmup", "start", "every")}
        return {name: value for name, value in found.items() if value != fields[name].default}

    @property
    def varies(self) -> bool:
        """Whether steps differ in what they keep of the average."""
        return self.decay > 0 and bool(self.varying)

    def broken_rules(self) -> Iterator[str]:
        """Yield a line for each rule between fields that is broken."""
        for name, value in self.varying.items() if self.decay == 0 else ():
            rule = "there is no average"
            yield problem(f"ema.{name}", _shown(value), rule, "give ema.decay, too")
        if self.warmup != "power" and self.power != type(self).model_fields["power"].default:
            rule = "is read where ema.warmup is power"
            yield problem("ema.power", self.power, rule, "remove it, or set that")


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
