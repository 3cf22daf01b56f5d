"""The Recipe: how a network is trained, as a frozen, validated value.

Holds what a person decides. `schedules.rates` turns it into one learning rate per step; backends
read the optimiser's settings and `decay_of`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field

from resnet_spec.describing.average import Average
from resnet_spec.describing.descriptions import Description, Fraction, Table
from resnet_spec.describing.image_changes import ImageChanges
from resnet_spec.describing.schedule import Schedule
from resnet_spec.errors import RecipeError, did_you_mean, problem
from resnet_spec.losses import Loss
from resnet_spec.ops import Tensor
from resnet_spec.optimizers import Optimizer

LARGEST_COUNT = 1_000_000_000
"""Of steps, of images in a batch, and the like."""
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Size = Annotated[int, Field(ge=1, le=8192)]
"""Of an image, in pixels per side."""


LEAST_MIXING = 0.001
"""Of Beta(a, a), whose draws are powers of 1 / a: those of less are 0 in float64, all of them."""
REMAT = re.compile(r"none|all|stages=[1-9]\d{0,3}")
"""What `Recipe.remat` may be."""
FREEZE = re.compile(r"none|stem|backbone|stages=[1-9]\d{0,3}")
"""What `Recipe.freeze` may be."""


class Augment(ImageChanges):
    """What is done to training images, by numbers drawn in the core: crop, mirror, the rest."""

    pad: Annotated[int, Field(ge=0, le=128)] = 0
    """Pixels of zeros on every side of the raw image, and a random crop back to size."""
    flip: bool = False
    """Mirror half of the images left to right."""
    random_resized_crop: bool = False
    """For image folders, instead of `pad`: a random box of 8-100 % of the area, aspect 3/4-4/3.

    Szegedy et al. 2015.
    """
    progressive: Annotated[tuple[Size, ...], Field(strict=False, max_length=64)] = ()
    """Sizes of the images in equal parts of the run, in epochs, before the last part, which has the
    network's own (progressive resizing; Tan & Le 2021, EfficientNetV2, without their changes of
    strength). All are evaluated at the network's own size."""
    mixup: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    """a of mixup (Zhang et al. 2018): an image's own share is drawn from Beta(a, a); 0 is off."""
    cutmix: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    """a of CutMix (Yun et al. 2019): 1 - the area that is cut is drawn from Beta(a, a); 0 is off.
    """
    mix_probability: Share = 1.0
    """How many of the batches are mixed; one share and one box hold for a whole batch."""
    switch_probability: Share = 0.5
    """Where both are on: how many of the mixed batches are CutMix's."""

    def broken_rules(self) -> Iterator[str]:
        """See `ImageChanges.broken_rules`."""
        yield from super().broken_rules()
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if 0.0 < value < LEAST_MIXING:
                rule = f"must be 0 or at least {LEAST_MIXING}: less leaves images as they are"
                yield problem(f"augment.{name}", value, rule)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed at some steps."""
        return (self.mixup > 0.0 or self.cutmix > 0.0) and self.mix_probability > 0.0


class Evaluated(Table):
    """How the images are seen by which a run is evaluated."""

    size: Size | None = None
    """Pixels per side. None: those trained on. Touvron et al. 2019: larger ones are better."""
    crop: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """The part of the shorter side that the central crop takes, timm's `--crop-pct`. None: 0.875,
    or all of an image of up to 64 pixels, or of one that is kept in memory."""


class EarlyStopping(Table):
    """When a run ends before its length is up; of runs that have validation images."""

    patience: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Evaluations in a row without a better one after which the run ends; 0 is off."""
    min_delta: Fraction = 0.0
    """How much higher than the last better one an accuracy, in 0..1, must be to be better."""


class Recipe(Description):
    """A training run. Exactly one of `epochs` and `steps` is given."""

    error = RecipeError

    name: Annotated[str, Field(min_length=1, max_length=200)] = "custom"
    epochs: Count | None = None
    """Length of the run; or give `steps`."""
    steps: Count | None = None
    """Length of the run in optimiser steps; or give `epochs`."""
    batch: Count = 128
    """Images of an optimiser step; an incomplete last batch of an epoch is dropped."""
    accumulate: Count = 1
    """Parts into which a batch is split; each part is one forward and backward pass."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    label_smoothing: Fraction = 0.0
    """e: the target is (1 - e) one-hot + e / classes."""
    augment: Augment = Augment()
    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    """What is computed in, where the backend has it.

    Parameters and statistics stay in float32 under bfloat16 and float16.
    """
    ema: Average = Average()
    evaluation: Evaluated = Evaluated()
    early_stopping: EarlyStopping = EarlyStopping()
    freeze: str = "none"
    """What keeps its weights and its statistics: `none`; `stem`; `stages=N`, the stem and the first
    N stages; `backbone`, all but the classifier."""
    head_rate: Annotated[float, Field(gt=0.0, le=1e6)] = 1.0
    """Factor on the learning rate of the classifier."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Factor on the learning rate for each group that lies between a weight and the loss: 1 in the
    head, `layer_decay` in the last block, its square in the block before, and so on to the stem.

    Clark et al. 2020 (ELECTRA); Bao et al. 2022 (BEiT); timm's `--layer-decay`.
    """
    remat: str = "none"
    """Whose activations are computed again in the backward pass rather than kept: `none`, of `all`
    blocks, or `stages=N`, of the first N stages' blocks, whose images are largest.

    Chen et al. 2016. It changes memory and time, and no number.
    """
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of weights, permutations, crops, flips and other changes of images, and dropped paths."""
    evaluate_every: Count = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    checkpoint_every: Count = 1
    """Epochs between writes of the last checkpoint."""

    def __init__(self, /, **data: Any) -> None:  # For type checkers: dicts stand for tables.
        super().__init__(**data)

    def broken_rules(self) -> Iterator[str]:
        """See `Description.broken_rules`."""
        return _broken_rules(self)

    @property
    def needs_targets(self) -> bool:
        """Whether logits are compared with targets for every class, not with labels alone."""
        return self.augment.mixes or self.loss != Loss()

    def decays(self, tensor: Tensor) -> bool:
        """Whether weight decay applies to `tensor`; never to a frozen one."""
        if tensor.frozen or self._is_spared(tensor.name):
            return False
        match tensor.role:
            case "conv_weight" | "linear_weight":
                return True
            case "norm_scale" | "norm_shift":
                return self.optimizer.decay_norms
            case "bias":
                return self.optimizer.decay_biases
            case "running_mean" | "running_var":
                return False

    def _is_spared(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.optimizer.no_decay or ())

    def decay_of(self, tensor: Tensor) -> float:
        """Return the weight decay of `tensor`; 0 where it has none."""
        return self.optimizer.weight_decay if self.decays(tensor) else 0.0


def _broken_rules(recipe: Recipe) -> Iterator[str]:
    """Yield a line for each rule between fields that `recipe` breaks."""
    if (recipe.epochs is None) == (recipe.steps is None):
        given = "both are" if recipe.epochs is not None else "neither is"
        yield f"epochs, steps: exactly one must be given, and {given}"
    if recipe.batch % recipe.accumulate != 0:
        rule = f"must divide batch = {recipe.batch}"
        yield problem("accumulate", recipe.accumulate, rule)
    if recipe.batch % recipe.augment.repeats != 0:
        rule = f"must divide batch = {recipe.batch}"
        yield problem("augment.repeats", recipe.augment.repeats, rule)
    if not FREEZE.fullmatch(recipe.freeze):
        rule = "must be none, stem, stages=N (N from 1 on) or backbone"
        remedy = did_you_mean(recipe.freeze, ("none", "stem", "stages=N", "backbone"))
        yield problem("freeze", recipe.freeze, rule, remedy)
    if not REMAT.fullmatch(recipe.remat):
        rule = "must be none, all or stages=N (N from 1 on)"
        yield problem("remat", recipe.remat, rule, did_you_mean(recipe.remat, ("none", "all")))
    yield from recipe.schedule.broken_rules()
    yield from recipe.ema.broken_rules()
    yield from recipe.loss.broken_rules()
    yield from recipe.optimizer.broken_rules()
    yield from recipe.augment.broken_rules()
