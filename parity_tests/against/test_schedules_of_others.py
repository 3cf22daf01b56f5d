"""The rates of a run beside those of the schedulers that people come from, number by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_packages import package  # pyright: ignore[reportMissingImports]

from resnet_spec.planning.schedules import rates
from resnet_spec.recipe import Recipe

Of = Callable[[Any, Any], Any]
PER_EPOCH = 7


def of_torch(rate: float, ticks: int, make: Of) -> list[float]:
    """Return a torch scheduler's rate of each tick: that of the optimiser when it steps."""
    torch = package("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found: list[float] = []
    for _ in range(ticks):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def ours(**schedule: object) -> Any:
    return rates(Recipe(epochs=20, schedule=schedule), PER_EPOCH)


def assert_same_each_epoch(found: Any, expected: list[float]) -> None:
    """Every step of an epoch has the rate that the other's epoch has."""
    assert found == pytest.approx(np.repeat(expected, PER_EPOCH), rel=1e-12, abs=1e-15)


def torchvision_s_v2(schedulers: Any, optimizer: Any) -> Any:
    """torchvision's references: --lr-warmup-epochs 5 --lr-warmup-method linear, decay 0.01."""
    rising = schedulers.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    falling = schedulers.CosineAnnealingLR(optimizer, T_max=20 - 5, eta_min=0.0)
    return schedulers.SequentialLR(optimizer, [rising, falling], milestones=[5])


def test_torchvision_s_cosine_with_its_warm_up() -> None:
    found = ours(kind="cosine", rate=0.5, warmup=5, warmup_start=0.005, every="epoch")
    assert_same_each_epoch(found, of_torch(0.5, 20, torchvision_s_v2))


WARMED_UP = {"warmup": 2, "warmup_start": 0.001, "counts_from": "warmup"}


@pytest.mark.parametrize("more", [{}, WARMED_UP], ids=["V1", "warmed up"])
def test_torchvision_s_steps(more: dict[str, Any]) -> None:
    def make(schedulers: Any, optimizer: Any) -> Any:
        falling = schedulers.StepLR(optimizer, step_size=6, gamma=0.1)
        if not more:
            return falling
        rising = schedulers.LinearLR(optimizer, start_factor=0.01, total_iters=2)
        return schedulers.SequentialLR(optimizer, [rising, falling], milestones=[2])

    found = ours(kind="step", rate=0.1, period=6, every="epoch", **more)
    assert_same_each_epoch(found, of_torch(0.1, 20, make))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_torch_s_warm_restarts(factor: int) -> None:
    def make(schedulers: Any, optimizer: Any) -> Any:
        kind = schedulers.CosineAnnealingWarmRestarts
        return kind(optimizer, T_0=3 * PER_EPOCH, T_mult=factor, eta_min=0.01)

    found = ours(kind="cosine_restarts", rate=0.4, floor=0.01, period=3, period_factor=factor)
    assert found == pytest.approx(of_torch(0.4, 20 * PER_EPOCH, make), rel=1e-12)


@pytest.mark.parametrize("power", [0.5, 0.9, 2.0])
def test_torch_s_polynomial(power: float) -> None:
    def make(schedulers: Any, optimizer: Any) -> Any:
        return schedulers.PolynomialLR(optimizer, total_iters=20 * PER_EPOCH, power=power)

    found = ours(kind="polynomial", rate=0.4, power=power)
    # torch multiplies the rate of the step before, so that its rounding adds up.
    assert found == pytest.approx(of_torch(0.4, 20 * PER_EPOCH, make), rel=1e-10)


def test_optax_s_cosine_with_its_warm_up() -> None:
    optax, steps = package("optax"), 20 * PER_EPOCH
    theirs = optax.warmup_cosine_decay_schedule(0.01, 0.4, 3 * PER_EPOCH, steps, end_value=0.02)
    found = ours(kind="cosine", rate=0.4, floor=0.02, warmup=3, warmup_start=0.01)
    assert found == pytest.approx([float(theirs(step)) for step in range(steps)], rel=1e-5)


@pytest.mark.parametrize("every", ["epoch", "step"])
@pytest.mark.parametrize("prefix", [False, True])
def test_timm_s_cosine(every: str, prefix: bool) -> None:
    """timm's train.py asks for `_get_lr(epoch)`, with --sched-on-updates for that of the step."""
    cosine, torch = package("timm.scheduler").CosineLRScheduler, package("torch")
    per = 1 if every == "epoch" else PER_EPOCH
    theirs = cosine(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4),
        t_initial=(13 if prefix else 16) * per,
        lr_min=1e-3,
        warmup_t=3 * per,
        warmup_lr_init=1e-4,
        warmup_prefix=prefix,
    )
    found = ours(
        kind="cosine",
        rate=0.4,
        floor=1e-3,
        warmup=3,
        warmup_start=1e-4,
        cooldown=4,
        counts_from="warmup" if prefix else "start",
        every=every,
    )
    expected = [theirs._get_lr(tick)[0] for tick in range(20 * per)]
    assert found[:: PER_EPOCH // per] == pytest.approx(expected, rel=1e-12)
