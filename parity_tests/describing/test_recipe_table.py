"""Named recipes against the numbers of their sources, worked out here by their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resnet_spec.data.mixing import choice_of
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.planning.lowering import lower
from resnet_spec.planning.schedules import rates

PER_EPOCH = 3


def by_epoch(name: str) -> list[float]:
    """Return the rate of each epoch, in all of whose steps it is the same."""
    recipe = load_recipe(name)
    found = rates(recipe, PER_EPOCH).reshape(-1, PER_EPOCH)
    assert (found == found[:, :1]).all()
    assert len(found) == recipe.epochs
    return found[:, 0].tolist()


def test_torchvision_v2_has_torch_s_schedulers() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedulers = torch.optim.lr_scheduler
    rising = schedulers.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    falling = schedulers.CosineAnnealingLR(optimizer, T_max=595, eta_min=0.0)
    both = schedulers.SequentialLR(optimizer, [rising, falling], milestones=[5])
    expected: list[float] = []
    for _ in range(600):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    assert by_epoch("torchvision-v2") == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "rate", "epochs"),
    [("timm-a1", 5e-3, 600), ("timm-a2", 5e-3, 300), ("timm-a3", 8e-3, 100)],
)
def test_timm_s_recipes_have_its_cosine(name: str, rate: float, epochs: int) -> None:
    def timm(epoch: int) -> float:
        if epoch < 5:
            return 1e-4 + epoch * (rate - 1e-4) / 5
        return 1e-6 + 0.5 * (rate - 1e-6) * (1.0 + math.cos(math.pi * epoch / epochs))

    assert by_epoch(name) == pytest.approx([timm(epoch) for epoch in range(epochs)], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "decays"),
    [
        ("torchvision-v2", {"conv_weight", "linear_weight", "bias"}),
        ("timm-a1", {"conv_weight", "linear_weight"}),
        ("timm-a3", {"conv_weight", "linear_weight"}),
        ("bag-of-tricks", {"conv_weight", "linear_weight"}),
        ("resnet-rs", {"conv_weight", "linear_weight"}),
        ("wrn", {"conv_weight", "linear_weight", "bias", "norm_scale", "norm_shift"}),
        ("imagenet-90", {"conv_weight", "linear_weight", "bias", "norm_scale", "norm_shift"}),
    ],
)
def test_what_decays_is_what_their_code_decays(name: str, decays: set[str]) -> None:
    recipe = load_recipe(name)
    tensors = lower(load_spec("resnet18", ["classes=2", "input.size=32"])).tensors
    found = {tensor.role for tensor in tensors if recipe.decays(tensor)}
    assert found == decays


@pytest.mark.parametrize("name", ["torchvision-v2", "timm-a1", "timm-a2", "timm-a3"])
def test_every_batch_is_mixed_half_of_them_by_cutmix(name: str) -> None:
    recipe = load_recipe(name)
    choices = [choice_of(recipe.augment, recipe.seed, step) for step in range(400)]
    assert None not in choices
    cuts = [choice for choice in choices if choice is not None and choice.centre is not None]
    assert len(cuts) / 400 == pytest.approx(0.5, abs=0.08)


def test_losses_and_policies_of_the_sources() -> None:
    found = {name: load_recipe(name) for name in ("timm-a1", "timm-a2", "timm-a3")}
    assert {it.loss.kind for it in found.values()} == {"binary_cross_entropy"}
    assert [it.loss.threshold for it in found.values()] == [None, 0.2, 0.2]
    assert [it.label_smoothing for it in found.values()] == [0.1, 0.0, 0.0]
    assert [it.augment.policy_magnitude for it in found.values()] == [7, 7, 6]
    assert [it.augment.repeats for it in found.values()] == [3, 3, 1]
    assert [it.augment.mixup for it in found.values()] == [0.2, 0.1, 0.1]
    wide = rates(load_recipe("wrn"), PER_EPOCH)
    drops = [0.1, 0.02, 0.004, 0.0008]
    assert np.unique(wide)[::-1].tolist() == pytest.approx(drops)


def test_cifar_94_has_the_rates_of_its_source() -> None:
    """dawn.py: PiecewiseLinear([0, 5, 24], [0, 0.4, 0]), here taken at the middle of each step."""
    recipe, steps = load_recipe("cifar-94"), 97
    middle = (np.arange(24 * steps) + 0.5) / steps
    assert rates(recipe, steps) == pytest.approx(np.interp(middle, [0, 5, 24], [0, 0.4, 0]))
    assert (recipe.batch, recipe.optimizer.nesterov, recipe.optimizer.momentum) == (512, True, 0.9)
