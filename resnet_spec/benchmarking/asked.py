"""What a benchmark is asked to measure: a network, what is done with it, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from resnet_spec.bench import Case, Mode
from resnet_spec.contract import Precision
from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.errors import BackendError, not_one_of, problem
from resnet_spec.plan import Plan
from resnet_spec.planning.costs import count_macs, count_params
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import LARGEST_COUNT

TRAINING_PASSES = 3
"""Of training in forward passes: one forward, and one each for the gradients by activations and by
weights (Kaplan et al. 2020, section 2.1). The first layer's gradient by the images is counted, too,
though nobody computes it."""

FLOPS_CONVENTION = (
    "two for each multiply-accumulate of a convolution or linear layer, as describe counts them; "
    f"training is {TRAINING_PASSES} forward passes"
)

_LONGEST_S = 3600
"""Of a turn: nobody waits longer for a ratio, but for a slip of the keyboard."""
_MOST_STARTS = 20
"""Of everybody: the same."""


@dataclass(frozen=True)
class Asked:
    """A benchmark's question. Raises BackendError, a line for each number that breaks a rule.

    batch: images of a step. threads: of each contestant on a CPU. rounds: in how many every
    contestant takes a turn, of about `seconds`. starts: how often all are started anew, each time
    for so many rounds. profile: whether backends are profiled afterwards.
    """

    spec: Spec
    mode: Mode = "train"
    batch: int = 32
    precision: Precision = "float32"
    device: str = "auto"
    threads: int = 1
    rounds: int = 5
    seconds: float = 1.0
    starts: int = 1
    profile: bool = False

    def __post_init__(self) -> None:
        lines = [
            line
            for line in (
                not_one_of("--mode", self.mode, get_args(Mode)),
                not_one_of("--precision", self.precision, get_args(Precision)),
            )
            if line
        ]
        for name in ("batch", "threads", "rounds", "starts"):
            if getattr(self, name) < 1:
                lines.append(problem(f"--{name}", getattr(self, name), "must be >= 1"))
        if self.batch > LARGEST_COUNT:  # A recipe could not have it.
            lines.append(problem("--batch", self.batch, f"must be <= {LARGEST_COUNT}"))
        if self.starts > _MOST_STARTS:
            lines.append(problem("--starts", self.starts, f"must be <= {_MOST_STARTS}"))
        if not 0.0 < self.seconds <= _LONGEST_S:
            rule = f"must be a positive number of at most {_LONGEST_S}"
            lines.append(problem("--seconds", f"{self.seconds:g}", rule))
        if lines:
            raise BackendError(*lines)

    @cached_property
    def plan(self) -> Plan:
        """The network, with nothing left to decide."""
        return lower(self.spec)

    @property
    def flops(self) -> int:
        """Floating-point operations of a step (see `FLOPS_CONVENTION`)."""
        passes = TRAINING_PASSES if self.mode == "train" else 1
        return 2 * count_macs(self.plan.ops) * self.batch * passes

    @property
    def params(self) -> int:
        """Trainable values of the network."""
        return count_params(self.plan.tensors)

    @property
    def preset(self) -> str:
        """The preset that the network is of, whatever its classes and images; "" for none."""
        name = self.spec.name
        is_same = name in PRESETS and _shape(load_spec(name)) == _shape(self.spec)
        return name if is_same else ""

    @property
    def title(self) -> str:
        """The question in words."""
        size = self.plan.input.height, self.plan.input.width
        pixels = f"{size[0]}" if size[0] == size[1] else f"{size[0]} x {size[1]}"
        return f"{self.mode} {self.spec.name}, {pixels} px, batch {self.batch}, {self.precision}"

    def case(self, **more: Any) -> Case:
        """Return what a contestant is given; `more` are fields that are its own."""
        same = {name: getattr(self, name) for name in _SAME}
        return Case(plan=self.plan, preset=self.preset, **same, **more)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, which `from_dict` reads."""
        numbers = {name: getattr(self, name) for name in (*_SAME, *_OWN)}
        return {"spec": self.spec.to_dict(), **numbers}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Asked:
        """Return what `to_dict` gave. Raises SpecError, BackendError and TypeError."""
        numbers: dict[str, Any] = {key: fields[key] for key in fields if key != "spec"}
        return cls(load_spec(fields["spec"]), **numbers)


_SAME = ("mode", "batch", "precision", "device", "threads")
_OWN = ("rounds", "seconds", "starts", "profile")


def _shape(spec: Spec) -> dict[str, Any]:
    """Return what of a spec makes its network, whatever its classes and the images it takes."""
    fields = spec.to_dict()
    return {key: fields[key] for key in fields.keys() - {"classes", "input"}}
