"""Lower a spec to a plan: every integer, canonical name, shape, padding and init resolved.

Canonical names are torchvision's and timm's: `conv1`, `layer3.0.bn2`, `fc` in the post-activation
order and `stem.conv`, `stages.2.blocks.0.norm2`, `head.fc` in the pre-activation order.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.errors import SpecError, problem
from resnet_spec.ops import Address, Chain
from resnet_spec.plan import Input, Plan
from resnet_spec.planning.lowering.blocks import stages
from resnet_spec.planning.lowering.ends import head, stem
from resnet_spec.planning.lowering.line import Line

__all__ = ["lower"]


def lower(spec: Source, input_size: int | tuple[int, int] | None = None) -> Plan:
    """Return the plan of a network for images of `input_size` pixels (height, width, or both).

    spec: a preset name, a `.toml` or `.json` file, a dict or a spec.

    Without `input_size` the spec's own size is used. Without a mean and standard deviation in the
    spec, pixels are only scaled to 0..1. Raises SpecError for a network that breaks a rule,
    and when `input_size` is not one or two positive whole numbers.
    """
    spec = spec if isinstance(spec, Spec) else load_spec(spec)
    size = spec.input.size if input_size is None else input_size
    sides: Any = (size, size) if isinstance(size, Integral) else size  # Callers are not typed.
    if isinstance(sides, str) or [isinstance(side, Integral) for side in sides] != [True, True]:
        raise SpecError(problem("input_size", size, "must be a whole number or (height, width)"))
    height, width = (int(side) for side in sides)
    if min(height, width) < 1:
        raise SpecError(problem("input_size", size, "must be >= 1"))
    channels = spec.input.channels
    whole = Address(None, None, "network")
    root = Line(spec, prefix="", shape=(channels, height, width), address=whole)
    stem(root)
    stages(root)
    head(root)
    return Plan(
        name=spec.name,
        input=Input(
            channels=channels,
            height=height,
            width=width,
            mean=spec.input.mean or (0.0,) * channels,
            std=spec.input.std or (1.0,) * channels,
        ),
        classes=spec.classes,
        root=Chain("", tuple(root.nodes), at=whole),
    )
