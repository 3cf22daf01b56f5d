"""What both sides of a comparison are given: network, weights, batches, recipe and rates.

Everything is drawn in NumPy from one seed. A planted fault is a changed copy of one side's setup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch
from resnet_spec.data.absent import training_split
from resnet_spec.data.batches import mixed_within, test_batches
from resnet_spec.data.class_matching import match_classes
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.relabelled import relabelled
from resnet_spec.errors import DataError
from resnet_spec.ops import Tensor
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.pace import Pace, keeps
from resnet_spec.planning.schedules import rates
from resnet_spec.recipe import Recipe

Draw = np.random.Generator

OWN_RECIPE = "parity"
"""The name of the recipe of comparisons that are given none."""


@dataclass(frozen=True)
class Setup:
    """The input of one side. `batches` has one batch, and `rates` one rate, per training step."""

    plan: Plan
    recipe: Recipe
    state: dict[str, Array]
    batches: tuple[Batch, ...]
    rates: NDArray[np.float64]
    keeps: NDArray[np.float64] | None = None
    """As in `pace.Pace`."""
    seed: int = 0
    dataset: tuple[Batch, ...] = ()
    """What predictions are compared on; nothing where there is no data."""
    notes: tuple[str, ...] = ()
    """What was assumed of the data, for the report; one line each."""

    def pace(self, first: int, end: int | None = None) -> tuple[NDArray[np.float64], ...]:
        """Return what `Session.train` takes beside these steps' batches."""
        return Pace(self.rates, self.keeps).between(first, end)


def make_recipe(steps: int = 20, batch: int = 6, rate: float = 0.003, **changes: Any) -> Recipe:
    """Return a recipe in which every term of the update is large enough to be seen.

    Weight decay is two hundred times the usual and leaves norms out. The rate is small, so that
    rounding does not grow into chaos within the steps: at 0.01 one of the cases drifts by 1e-3 when
    its own weights change by one ulp, at 0.003 none by more than 3e-6 (see docs/parity.md).
    """
    fields: dict[str, Any] = {
        "name": OWN_RECIPE,
        "steps": steps,
        "batch": batch,
        "optimizer": {"momentum": 0.9, "weight_decay": 0.02, "decay_norms": False},
        "schedule": {"kind": "cosine", "rate": rate, "unit": "steps"},
        "label_smoothing": 0.1,
    }
    return Recipe(**{**fields, **changes})


def shortened(recipe: Recipe, short: Recipe) -> Recipe:
    """Return how `recipe` trains, in the length, the batches and the rates of `short`.

    Its loss, mixed images, optimiser, clipping, average, parts, decay, what is frozen and whose
    rate differs are kept, and of its teacher all but who that is; every batch is mixed where some
    are, and what is done to each image by itself is left out: it would be the same bytes for both
    sides. Raises RecipeError where the parts do not divide the batch.
    """
    augment = recipe.augment
    mixing = {"mixup": augment.mixup, "cutmix": augment.cutmix} if augment.mixes else {}
    fields = {
        **recipe.to_dict(),
        **{name: getattr(short, name) for name in ("epochs", "steps", "batch", "precision")},
        "schedule": short.schedule.model_dump(),
        "augment": {**mixing, "switch_probability": augment.switch_probability},
        "ema": _shortened_average(recipe, short.steps or 1),
    }
    return Recipe.from_dict(fields, recipe.name)


def _shortened_average(recipe: Recipe, steps: int) -> dict[str, Any]:
    """Return the average's settings for so few steps: it starts in them, and rests in between."""
    average = recipe.ema
    start, every = min(average.start, 1.0, steps - 1.0), min(average.every, 2)
    return {**average.model_dump(), "start": start, "every": every}


def make_setup(
    plan: Plan,
    recipe: Recipe | None = None,
    seed: int = 0,
    state: Mapping[str, Array] | None = None,
    dataset: Sequence[Batch] = (),
) -> Setup:
    """Return weights, batches and rates for `plan`, all a function of `seed`.

    state: weights to take instead of drawn ones.
    """
    recipe = recipe or make_recipe()
    draw = np.random.default_rng([seed, 1])
    batches = (make_batch(plan, recipe.batch, draw) for _ in range(recipe.steps or 1))
    return Setup(
        plan=plan,
        recipe=recipe,
        state=worn_state(plan, seed) if state is None else dict(state),
        batches=_finished(batches, plan, recipe, seed),
        rates=rates(recipe, steps_per_epoch=1),
        keeps=keeps(recipe, steps_per_epoch=recipe.steps or 1),
        seed=seed,
        dataset=tuple(dataset),
    )


def with_data(
    setup: Setup,
    data: Dataset,
    images: int,
    names: Sequence[str] | None = None,
    *,
    ignore: bool = False,
) -> Setup:
    """Return the setup on the first training images of `data`, and its first test images.

    images: how many of those predictions are compared on. names: of the network's classes, by which
    those of the data are matched; () where its weights do not say, None where they are drawn.
    ignore: match by position.

    Raises DataError for data of other classes or channels, or of too few images.
    """
    data, notes = _fitting(setup.plan, data, names, ignore=ignore)
    draw = np.random.default_rng([setup.seed, 3])
    found = islice(test_batches(training_split(data), setup.recipe.batch), len(setup.batches))
    shown = (replace(it, noise=_noise(setup.plan, len(it), draw)) for it in found)
    batches = _finished(shown, setup.plan, setup.recipe, setup.seed)
    if len(batches) < len(setup.batches):
        rule = f"has too few images for {len(setup.batches)} batches of {setup.recipe.batch}"
        raise DataError(f"{data.name}: {rule}; lower --steps or --batch")
    size = min(64, images)
    tested = tuple(islice(test_batches(data.test, size), -(-images // size)))
    return replace(setup, batches=batches, dataset=tested, notes=(*data.notes, *notes))


def _fitting(
    plan: Plan, data: Dataset, names: Sequence[str] | None, *, ignore: bool
) -> tuple[Dataset, tuple[str, ...]]:
    """Return the data with the network's labels, and notes on how they were matched."""
    if plan.input.channels != data.channels:
        rule = f"has {data.channels} channels, and the network was made for {plan.input.channels}"
        raise DataError(f"{data.name}: {rule}")
    if names is None:
        if len(data.classes) > plan.classes:
            rule = f"has {len(data.classes)} classes, and the network was made for {plan.classes}"
            raise DataError(f"{data.name}: {rule}; say --classes {len(data.classes)}")
        return data, ()
    matched = match_classes(data.classes, names, count=plan.classes, where=data.name, ignore=ignore)
    return relabelled(data, matched), matched.notes


def worn_state(plan: Plan, seed: int) -> dict[str, Array]:
    """Return initial weights with norms as if trained for a while.

    Fresh norms (scale 1, shift 0, mean 0, variance 1) would hide that two of them are swapped.
    """
    draw = np.random.default_rng([seed, 2])
    state = initial_state(plan, seed)
    worn = {t.name: _worn(t, state[t.name], draw) for t in plan.tensors}
    return {name: array.astype(np.float32) for name, array in worn.items()}


def _worn(tensor: Tensor, array: Array, draw: Draw) -> Array:
    match tensor.role:
        case "norm_scale":
            return array * draw.uniform(0.5, 1.5, tensor.shape)
        case "norm_shift" | "running_mean":
            return array + draw.uniform(-0.3, 0.3, tensor.shape)
        case "running_var":
            return array * draw.uniform(0.5, 2.0, tensor.shape)
        case "conv_weight" | "linear_weight" | "bias":
            return array
        case _:
            assert_never(tensor.role)


def make_batch(plan: Plan, count: int, draw: Draw) -> Batch:
    """Return `count` smooth uint8 images, random labels, and noise as in training."""
    shape = (count, plan.input.height, plan.input.width, plan.input.channels)
    noise = _noise(plan, count, draw)
    return Batch(
        images=smooth_images(draw, *shape),
        labels=draw.integers(plan.classes, size=count),
        indices=np.arange(count),
        noise=noise,
    )


def _finished(batches: Iterable[Batch], plan: Plan, recipe: Recipe, seed: int) -> tuple[Batch, ...]:
    """Return batches as the recipe mixes them, with drawn logits of its teacher, who is not read.

    They are a few units wide, as a trained network's are.
    """
    mixed = tuple(mixed_within(batch, recipe, step) for step, batch in enumerate(batches))
    if recipe.loss.teacher is None:
        return mixed
    draw = np.random.default_rng([seed, 4])
    drawn = (draw.normal(0.0, 2.0, (len(it), plan.classes)).astype(np.float32) for it in mixed)
    return tuple(replace(it, teacher=own) for it, own in zip(mixed, drawn, strict=True))


def _noise(plan: Plan, count: int, draw: Draw) -> dict[str, NDArray[np.float32]]:
    noise: dict[str, NDArray[np.float32]] = {}
    for op in plan.noises:
        size = (count, *op.noise_shape)
        kept = draw.random(size) >= op.rate
        noise[op.name] = (kept / (1.0 - op.rate)).astype(np.float32)
    return noise


def smooth_images(
    draw: Draw, count: int, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """Return uint8 [N, H, W, C]: a few waves per image and a little grain, never saturated.

    White noise would average out in the first pool; saturated areas would tie in the max-pool.
    """
    waves = 4
    frequency = draw.uniform(-2.0, 2.0, (2, count, waves, 1, 1))
    phase = draw.uniform(0.0, 1.0, (count, waves, 1, 1))
    y = np.linspace(0.0, 1.0, height)[:, None]
    x = np.linspace(0.0, 1.0, width)
    pattern = np.cos(2.0 * np.pi * (frequency[0] * y + frequency[1] * x + phase))
    colour = draw.uniform(-1.0, 1.0, (count, waves, channels))
    images = np.einsum("nkhw,nkc->nhwc", pattern, colour)
    grainy = np.asarray(images + draw.normal(0.0, 0.1, images.shape), dtype=np.float64)
    low = np.min(grainy, axis=(1, 2, 3), keepdims=True)
    high = np.max(grainy, axis=(1, 2, 3), keepdims=True)
    return np.asarray(4.5 + 247.0 * (grainy - low) / (high - low), dtype=np.uint8)
