"""What a person sets of how training images are changed: policies, colour jitter, erasing.

A policy is a set of operations and a way to draw from them; `data.augmenting` draws and applies.
A setting that the chosen policy does not read is absent, and refused where it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from resnet_spec.describing.by_kind import present, show_defaults, unread, with_defaults
from resnet_spec.describing.descriptions import Table
from resnet_spec.errors import did_you_mean, problem

ABSENT: Any = None
"""In the place of a setting that the policy does not read; it is not written either."""

POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "trivial": {},
    "randaugment": {"policy_ops": 2, "policy_magnitude": 9},
    "randaugment_increasing": {
        "policy_ops": 2,
        "policy_magnitude": 9,
        "policy_noise": 0.5,
        "policy_probability": 0.5,
    },
    "autoaugment_cifar10": {},
    "autoaugment_imagenet": {},
}
"""By `ImageChanges.policy`: the settings that it reads, with their defaults."""
OWN = ("policy_ops", "policy_magnitude", "policy_noise", "policy_probability")
"""Settings that only some policies read."""
HIGHEST = {"randaugment": 30, "randaugment_increasing": 10}
"""The greatest `policy_magnitude` of those that read one."""

Jitter = Annotated[float, Field(ge=0.0, le=10.0)]
Chance = Annotated[float, Field(ge=0.0, le=1.0)]


def _names(schema: dict[str, Any]) -> None:
    schema["enum"] = list(POLICIES)


def _defaults(schema: dict[str, Any]) -> None:
    show_defaults(schema, OWN, POLICIES)
    for name in OWN:
        schema["properties"][name].pop("default", None)


class ImageChanges(Table):
    """What is done to the pixels of training images, after crop and mirror, in this order."""

    model_config = ConfigDict(json_schema_extra=_defaults)
    by_kind: ClassVar = OWN

    policy: Annotated[str, Field(json_schema_extra=_names)] = "none"
    """Operations drawn for each image.

    `trivial`: one of 14, at any strength (TrivialAugment Wide, Müller & Hutter 2021);
    `randaugment`: `policy_ops` of 14, at one strength (Cubuk et al. 2020), both as torchvision has
    them; `randaugment_increasing`: `policy_ops` of 15, as timm's `rand-m9-mstd0.5-inc1`;
    `autoaugment_cifar10`, `autoaugment_imagenet`: one of 25 pairs found by search (Cubuk et al.
    2019).
    """
    policy_ops: Annotated[int, Field(ge=1, le=16)] = ABSENT
    """Operations for each image, one after the other; the same one may come again."""
    policy_magnitude: Annotated[int, Field(ge=0, le=30)] = ABSENT
    """How strong they are: 0 to 30 in `randaugment`, 0 to 10 in `randaugment_increasing`."""
    policy_noise: Annotated[float, Field(ge=0.0, le=10.0)] = ABSENT
    """The standard deviation of each operation's magnitude, which stays in 0 to 10."""
    policy_probability: Chance = ABSENT
    """Of each of the operations to be applied."""
    brightness: Jitter = 0.0
    """b: the brightness is multiplied by a factor from max(0, 1 - b) to 1 + b; 0 is off.

    This and the next three in an order drawn for each image, as torchvision's `ColorJitter`.
    """
    contrast: Jitter = 0.0
    """The same for the distance from the image's mean grey."""
    saturation: Jitter = 0.0
    """The same for the distance from the image in grey."""
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """h: hues are turned by -h to h of a whole turn."""
    erase: Chance = 0.0
    """Of a box of 2-33 % of the area, aspect 0.3-3.3, to be filled with the mean colour, which is 0
    to the network. Zhong et al. 2020, as torchvision's `RandomErasing`.
    """

    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    """How often an image is in its batch, each time changed by other draws. An epoch has as many
    steps as ever, and so 1 / repeats of the images. Hoffer et al. 2020; Berman et al. 2019.
    """

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        return with_defaults(data, "policy", "none", POLICIES)

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return present(handler(self))

    @property
    def jitters(self) -> bool:
        """Whether colours are changed beside the policy."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def needs_colours(self) -> bool:
        """Whether what is done is defined for grey and RGB images alone."""
        return self.policy != "none" or self.jitters

    def broken_rules(self) -> Iterator[str]:
        """Yield a line for each rule beyond the range of a single setting that is broken."""
        own = POLICIES.get(self.policy)
        if own is None:
            remedy = did_you_mean(self.policy, POLICIES)
            shown = self.policy or '""'
            yield problem("augment.policy", shown, "is not a known policy", remedy)
            return
        yield from unread(self, "augment", f"the policy {self.policy}", OWN, own)
        most = HIGHEST.get(self.policy)
        if most is not None and self.policy_magnitude > most:
            rule = f"must be <= {most} in {self.policy}"
            yield problem("augment.policy_magnitude", self.policy_magnitude, rule)
