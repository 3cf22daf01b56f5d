"""A ResNet written by hand in torch, and what is held against it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch, State
from resnet_spec.describing.spec import Spec
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

torch = pytest.importorskip("torch")
F = torch.nn.functional
backend: Any = load_backend("torch")


CLASSES = 5
SIZE = 20
STAGES = [{"width": 8, "blocks": 2}, {"width": 16, "blocks": 1, "stride": 2}]
CIFAR_STEM = {"widths": [8], "kernel": 3, "stride": 1, "pool": False}


@dataclass
class Hand:
    """Forward passes in float64 from canonical names; nothing here has seen a plan."""

    deep: bool = False
    pool: bool = True
    kernel: int = 7
    stem_stride: int = 2
    bottleneck: bool = False
    groups: int = 1
    squeeze: bool = False
    average_down: bool = False
    zero_pad: bool = False
    same: bool = False
    biased: bool = False
    v2: bool = False

    def __call__(self, w: Mapping[str, Any], x: Any, train: bool, noise: Mapping[str, Any]) -> Any:
        self.w, self.train, self.noise, self.statistics = w, train, noise, {}
        x = self.stem(x)
        names = ("stages.{}.blocks.{}", "layer{}.{}")[not self.v2]
        for stage, blocks in enumerate((2, 1)):
            for block in range(blocks):
                name = names.format(stage + (not self.v2), block)
                stride = 2 if (stage, block) == (1, 0) else 1
                x = self.pre_block(name, x, stride) if self.v2 else self.block(name, x, stride)
        if not self.v2:
            return x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]
        x = self.norm("norm", x).clamp(min=0).mean((2, 3))
        if train and "head.drop" in noise:
            x = x * noise["head.drop"]
        return x @ w["head.fc.weight"][:, :, 0, 0].T + w["head.fc.bias"]

    def stem(self, x: Any) -> Any:
        if self.v2:
            return self.conv("stem.conv", x, self.stem_stride)
        if self.deep:
            x = self.norm("conv1.1", self.conv("conv1.0", x, self.stem_stride)).clamp(min=0)
            x = self.norm("conv1.4", self.conv("conv1.3", x)).clamp(min=0)
            x = self.conv("conv1.6", x)
        else:
            x = self.conv("conv1", x, self.stem_stride)
        x = self.norm("bn1", x).clamp(min=0)
        if not self.pool:
            return x
        edges = self.edges(x, 3, 2)
        return F.max_pool2d(F.pad(x, edges, value=-torch.inf), 3, 2)

    def block(self, name: str, x: Any, stride: int) -> Any:
        count = 3 if self.bottleneck else 2
        strides = [1, stride, 1] if self.bottleneck else [stride, 1]
        groups = [1, self.groups, 1]
        y = x
        for i in range(count):
            y = self.conv(f"{name}.conv{i + 1}", y, strides[i], groups[i])
            y = self.norm(f"{name}.bn{i + 1}", y)
            y = y.clamp(min=0) if i < count - 1 else y
        if self.squeeze:
            gate = self.conv(f"{name}.se.fc1", y.mean((2, 3), keepdim=True)).clamp(min=0)
            y = y * torch.sigmoid(self.conv(f"{name}.se.fc2", gate))
        return (y + self.shortcut(name, x, y, stride)).clamp(min=0)

    def shortcut(self, name: str, x: Any, y: Any, stride: int) -> Any:
        if self.zero_pad and x.shape != y.shape:
            picked = x[:, :, ::stride, ::stride]
            zeros = torch.zeros_like(y)[:, : y.shape[1] - x.shape[1]]
            return torch.cat([picked, zeros], 1)
        keys = [f"{name}.downsample.{i}.weight" for i in range(3)]
        convs = [k for k in keys if k in self.w and self.w[k].ndim == 4]
        if not convs:
            return x
        conv = convs[0].removesuffix(".weight")
        if self.average_down and stride == 2:
            x, stride = self.average(x), 1
        return self.norm(f"{conv[:-1]}{int(conv[-1]) + 1}", self.conv(conv, x, stride))

    def pre_block(self, name: str, x: Any, stride: int) -> Any:
        entered = self.norm(f"{name}.norm1", x).clamp(min=0)
        y = self.conv(f"{name}.conv1", entered)
        y = self.conv(f"{name}.conv2", self.norm(f"{name}.norm2", y).clamp(min=0), stride)
        y = self.conv(f"{name}.conv3", self.norm(f"{name}.norm3", y).clamp(min=0))
        if self.train and f"{name}.drop_path" in self.noise:
            y = y * self.noise[f"{name}.drop_path"][:, None, None, None]
        if f"{name}.downsample.conv.weight" in self.w:
            x = self.conv(f"{name}.downsample.conv", entered, stride)
        return x + y

    def average(self, x: Any) -> Any:
        """2x2 means; what lies outside the image does not count."""
        rows, columns = ceil(x.shape[2] / 2), ceil(x.shape[3] / 2)
        places = itertools.product(range(rows), range(columns))
        means = [x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3)) for i, j in places]
        return torch.stack(means, 2).reshape(*x.shape[:2], rows, columns)

    def edges(self, x: Any, kernel: int, stride: int) -> tuple[int, int, int, int]:
        if not self.same:
            half = kernel // 2
            return half, half, half, half
        pads: list[int] = []
        for length in (x.shape[3], x.shape[2]):
            total = max((ceil(length / stride) - 1) * stride + kernel - length, 0)
            pads += [total // 2, total - total // 2]
        return (pads[0], pads[1], pads[2], pads[3])

    def conv(self, name: str, x: Any, stride: int = 1, groups: int = 1) -> Any:
        weight = self.w[f"{name}.weight"]
        x = F.pad(x, self.edges(x, weight.shape[2], stride))
        return F.conv2d(x, weight, self.w.get(f"{name}.bias"), stride, groups=groups)

    def norm(self, name: str, x: Any) -> Any:
        mean, var = self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"]
        if self.train:
            n = x.numel() / x.shape[1]
            old_mean, old_var = mean, var
            mean = x.mean((0, 2, 3))
            var = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
            kept = var if self.biased else var * n / (n - 1)
            self.statistics[f"{name}.running_mean"] = (0.9 * old_mean + 0.1 * mean).detach()
            self.statistics[f"{name}.running_var"] = (0.9 * old_var + 0.1 * kept).detach()
        scale = self.w[f"{name}.weight"] / (var + 1e-5).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + self.w[f"{name}.bias"][
            :, None, None
        ]


CASES: dict[str, tuple[dict[str, Any], Hand]] = {
    "basic": ({"block": "basic", "stem": {"widths": [8]}}, Hand()),
    "bottleneck": (
        {"block": "bottleneck", "groups": 2, "stem": CIFAR_STEM, "norm": {"variance": "biased"}},
        Hand(bottleneck=True, groups=2, kernel=3, stem_stride=1, pool=False, biased=True),
    ),
    "se_deep_d": (
        {
            "block": "bottleneck",
            "stem": {"widths": [4, 4, 8], "kernel": 3, "stride": 2, "pool": True},
            "squeeze": 0.25,
            "downsample": "avg_pool",
        },
        Hand(deep=True, bottleneck=True, squeeze=True, average_down=True),
    ),
    "zero_pad": (
        {"block": "basic", "stem": CIFAR_STEM, "shortcut": "zero_pad"},
        Hand(stem_stride=1, pool=False, zero_pad=True),
    ),
    "same": ({"block": "basic", "stem": {"widths": [8]}, "padding": "same"}, Hand(same=True)),
    "v2_noise": (
        {
            "block": "bottleneck",
            "order": "pre_activation",
            "stem": CIFAR_STEM,
            "stochastic_depth": 0.5,
            "dropout": 0.25,
        },
        Hand(bottleneck=True, stem_stride=1, pool=False, v2=True),
    ),
}


def plan_of(case: str = "basic") -> Plan:
    # From 20 pixels, stem and pool lead to maps of 5 pixels, where strided windows stick out.
    image = {"size": SIZE, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    return lower(Spec(stages=STAGES, classes=CLASSES, input=image, **CASES[case][0]))


def state_of(plan: Plan, seed: int = 0) -> State:
    """Initial weights, with norms and biases moved away from their trivial values."""
    generator = np.random.default_rng(seed)
    state = initial_state(plan, seed)
    for array in state.values():
        if array.ndim == 1:
            array += generator.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    return state


def batch_of(plan: Plan, seed: int = 0, count: int = 8) -> Batch:
    generator = np.random.default_rng(seed)
    shape = (count, plan.input.height, plan.input.width, plan.input.channels)
    noise = {
        op.name: (
            generator.integers(0, 2, (count, *op.in_shape[: type(op).__name__ == "Dropout"]))
            / np.float32(1 - op.rate)
        ).astype(np.float32)
        for op in plan.noises
    }
    return Batch(
        images=generator.integers(0, 256, shape, dtype=np.uint8),
        labels=generator.integers(0, plan.classes, count),
        indices=np.arange(count),
        noise=noise,
    )


def session_of(plan: Plan, recipe: Recipe | None = None, **arguments: Any) -> Any:
    session = backend.Session(plan, recipe, device="cpu", **arguments)
    session.load(state_of(plan))
    return session


def by_hand(
    case: str, state: Mapping[str, Any], batch: Batch, train: bool, smoothing: float = 0.0
) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Return logits, loss, gradients and new statistics as tensors, in float64."""
    hand = CASES[case][1]
    image = plan_of(case).input
    x = (batch.images / 255.0 - np.array(image.mean)) / np.array(image.std)
    w = {name: torch.tensor(np.asarray(a), dtype=torch.float64) for name, a in state.items()}
    trained = {name: t.requires_grad_() for name, t in w.items() if ".running_" not in name}
    noise = {name: torch.tensor(a, dtype=torch.float64) for name, a in batch.noise.items()}
    logits = hand(w, torch.tensor(x).permute(0, 3, 1, 2), train, noise)
    target = np.full((len(batch), CLASSES), smoothing / CLASSES)
    target[np.arange(len(batch)), batch.labels] += 1 - smoothing
    loss = -(torch.tensor(target) * logits.log_softmax(1)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(trained.values()))
    return (
        logits.detach(),
        loss.detach(),
        dict(zip(trained, gradients, strict=True)),
        hand.statistics,
    )


def assert_close(got: Any, expected: Any, tolerance: float, what: str) -> None:
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, what
    error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-6)
    assert error <= tolerance, f"{what}: {error:.2e} > {tolerance:.0e}"


def check(case: str, session: Any, tolerance: float, gradient_tolerance: float) -> None:
    """Compare logits, loss, gradients and statistics of `session` with the hand-written network."""
    plan, batch = plan_of(case), batch_of(plan_of(case))
    state = state_of(plan)
    logits, *_ = by_hand(case, state, batch, train=False)
    assert_close(next(session.predict([batch])), logits, tolerance, "logits")
    logits, loss, gradients, statistics = by_hand(case, state, batch, train=True)
    outputs = dict(session.activations(batch, train=True))
    assert_close(outputs[plan.observed[-1]], logits, tolerance, "train-mode logits")
    got_loss, got = session.gradients(batch)
    assert_close(got_loss, loss, tolerance, "loss")
    assert list(got) == list(plan.trainable) and set(got) == set(gradients)
    for name, gradient in gradients.items():
        assert_close(got[name], gradient, gradient_tolerance, f"gradient of {name}")
    session.train([batch], np.array([0.1]))
    after = session.state()
    assert statistics
    for name, value in statistics.items():
        assert_close(after[name], value, tolerance, name)


ONE_STEP = Recipe(steps=1, batch=8)


RECIPE = Recipe(
    steps=20,
    batch=8,
    accumulate=2,
    label_smoothing=0.1,
    optimizer={
        "momentum": 0.8,
        "nesterov": True,
        "weight_decay": 0.01,
        "decay_norms": False,
        "decay_biases": False,
    },
    ema={"decay": 0.7},
)
RATES = 0.05 * 0.5 * (1 + np.cos(np.linspace(0, 3, 20)))


def assert_identical(got: State, expected: State) -> None:
    assert list(got) == list(expected) and expected
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name
