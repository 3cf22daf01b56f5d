"""The PyTorch backend against a ResNet written by hand, in plain functions of its weights."""

from __future__ import annotations

import copy
import importlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch, State
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

torch = pytest.importorskip("torch")
F = torch.nn.functional
backend: Any = load_backend("torch")
reference: Any = load_backend("numpy")

CLASSES = 5
SIZE = 20
STAGES = [{"width": 8, "blocks": 2}, {"width": 16, "blocks": 1, "stride": 2}]
CIFAR_STEM = {"widths": [8], "kernel": 3, "stride": 1, "pool": False}


# --- The hand-written network ---------------------------------------------------------------------


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


# --- Helpers --------------------------------------------------------------------------------------


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


# --- Names ----------------------------------------------------------------------------------------


def norm_keys(name: str) -> list[str]:
    kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [f"{name}.{kind}" for kind in kinds]


def torchvision_keys(blocks: tuple[int, ...], convs: int, *, deep: bool, se: bool) -> list[str]:
    keys = ["conv1.weight", *norm_keys("bn1")]
    if deep:
        keys = ["conv1.0.weight", *norm_keys("conv1.1"), "conv1.3.weight", *norm_keys("conv1.4")]
        keys += ["conv1.6.weight", *norm_keys("bn1")]
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            for i in range(1, convs + 1):
                keys += [f"{name}.conv{i}.weight", *norm_keys(f"{name}.bn{i}")]
            if se:
                keys += [f"{name}.se.fc{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
            if block == 0 and (stage > 1 or convs == 3):
                first = int(deep)  # In the d form, a pool is number 0.
                keys += [f"{name}.downsample.{first}.weight"]
                keys += norm_keys(f"{name}.downsample.{first + 1}")
    return [*keys, "fc.weight", "fc.bias"]


def v2_keys(blocks: tuple[int, ...]) -> set[str]:
    keys = {"stem.conv.weight", *norm_keys("norm"), "head.fc.weight", "head.fc.bias"}
    for stage, count in enumerate(blocks):
        for block in range(count):
            name = f"stages.{stage}.blocks.{block}"
            for i in (1, 2, 3):
                keys |= {f"{name}.conv{i}.weight", *norm_keys(f"{name}.norm{i}")}
            keys |= {f"{name}.downsample.conv.weight"} if block == 0 else set()
    return keys


def keys_of(blocks: tuple[int, ...], **fields: Any) -> list[str]:
    widths = (64, 128, 256, 512)
    stages = [
        {"width": width, "blocks": count, "stride": 1 if i == 0 else 2}
        for i, (width, count) in enumerate(zip(widths, blocks, strict=True))
    ]
    with torch.device("meta"):
        return list(backend.build(lower(Spec(stages=stages, **fields))).state_dict())


DEEP = {"stem": {"widths": [32, 32, 64], "kernel": 3}, "downsample": "avg_pool"}


@pytest.mark.parametrize(
    ("blocks", "block", "fields"),
    [
        ((2, 2, 2, 2), "basic", {}),
        ((3, 4, 6, 3), "bottleneck", {}),
        ((3, 4, 6, 3), "bottleneck", DEEP),
        ((2, 2, 2, 2), "basic", {"squeeze": 0.0625}),
        ((3, 8, 36, 3), "bottleneck", {"squeeze": 0.0625, **DEEP}),
    ],
    ids=["resnet18", "resnet50", "resnet50d", "seresnet18", "seresnet152d"],
)
def test_state_dict_has_torchvisions_keys_in_its_order(blocks, block, fields):
    expected = torchvision_keys(
        blocks, 2 if block == "basic" else 3, deep="downsample" in fields, se="squeeze" in fields
    )
    assert keys_of(blocks, block=block, **fields) == expected


def test_state_dict_has_timms_v2_keys():
    got = keys_of((3, 4, 6, 3), block="bottleneck", order="pre_activation")
    assert set(got) == v2_keys((3, 4, 6, 3))


# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_float64_agrees_with_the_hand_written_network(case):
    session = session_of(plan_of(case), ONE_STEP, precision="float64")
    check(case, session, 1e-13, 1e-11)


@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_with_the_hand_written_network(case):
    check(case, session_of(plan_of(case), ONE_STEP), 1e-5, 1e-4)


def _perturb_weight(native: Any) -> None:
    with torch.no_grad():
        native.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-6


def _raise_eps(native: Any) -> None:
    native.bn1.eps = 1.001e-5


def _shift_pad(native: Any) -> None:
    native.conv1.padding = (2, 3)


def _shift_pool(native: Any) -> None:
    edges = torch.nn.ConstantPad2d((0, 2, 0, 2), -torch.inf)
    native.maxpool = torch.nn.Sequential(edges, torch.nn.MaxPool2d(3, 2))


def _double_decay(native: Any) -> None:
    native.layer2[0].bn2.momentum = 0.2


def _swap_variance(native: Any) -> None:
    native.bn1.__class__ = type(backend.build(plan_of("bottleneck")).bn1)


FAULTS = [
    _perturb_weight,
    _raise_eps,
    _shift_pad,
    _shift_pool,
    _double_decay,
    _swap_variance,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_planted_faults_are_found(plant: Callable[[Any], None]):
    session = session_of(plan_of(), ONE_STEP, precision="float64")
    plant(session.native)
    with pytest.raises(AssertionError, match=r" > 1e-1[13]"):
        check("basic", session, 1e-13, 1e-11)


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


@cache
def train_by_hand(case: str) -> tuple[State, list[float]]:
    """Return the state after twenty steps by `RECIPE`, and the losses; plain float64 arithmetic."""
    plan, recipe = plan_of(case), RECIPE
    batches = [batch_of(plan, seed) for seed in range(20)]
    w = {name: a.astype(np.float64) for name, a in state_of(plan).items()}
    decayed = {t.name for t in plan.tensors if recipe.decays(t)}
    v = {name: np.zeros_like(w[name]) for name in plan.trainable}
    average, losses = dict(w), []
    sgd = recipe.optimizer
    for batch, rate in zip(batches, RATES, strict=True):
        g = dict.fromkeys(plan.trainable, 0.0)
        part_losses = []
        for part in np.split(np.arange(len(batch)), recipe.accumulate):
            images, labels = batch.images[part], batch.labels[part]
            noise = {name: a[part] for name, a in batch.noise.items()}
            piece = Batch(images, labels, batch.indices[part], noise=noise)
            _, loss, gradients, statistics = by_hand(
                case, w, piece, train=True, smoothing=recipe.label_smoothing
            )
            part_losses.append(float(loss))
            g = {name: g[name] + gradients[name].numpy() / recipe.accumulate for name in g}
            w |= {name: t.numpy() for name, t in statistics.items()}
        for name in plan.trainable:
            decay = sgd.weight_decay if name in decayed else 0.0
            d = g[name] + decay * w[name]
            v[name] = sgd.momentum * v[name] + d
            w[name] = w[name] - rate * (d + sgd.momentum * v[name] if sgd.nesterov else v[name])
        keep = recipe.ema.decay
        average = {name: keep * average[name] + (1 - keep) * w[name] for name in w}
        losses.append(float(np.mean(part_losses)))
    state = {**w, **{f"momentum/{name}": a for name, a in v.items()}}
    return state | {f"ema/{name}": a for name, a in average.items()}, losses


def check_twenty_steps(case: str, recipe: Recipe) -> None:
    """Compare a session that trains by `recipe` with plain arithmetic by `RECIPE`."""
    plan = plan_of(case)
    batches = [batch_of(plan, seed) for seed in range(20)]
    expected, losses = train_by_hand(case)
    session = session_of(plan, recipe, precision="float64")
    log = session.train(iter(batches), RATES)
    state = session.state()
    assert_close(log.loss, losses, 1e-10, "losses")
    assert set(state) == set(expected)
    for name, array in expected.items():
        assert_close(state[name], array, 1e-10, name)


@pytest.mark.parametrize("case", ["bottleneck", "v2_noise"])
def test_twenty_steps_agree_with_plain_arithmetic(case):
    check_twenty_steps(case, RECIPE)


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 1},
        {"label_smoothing": 0.11},
        {"ema": {"decay": 0.71}},
        {"optimizer": {"nesterov": False}},
        {"optimizer": {"momentum": 0.81}},
        {"optimizer": {"weight_decay": 0.011}},
        {"optimizer": {"decay_norms": True}},
        {"optimizer": {"decay_biases": True}},
    ],
    ids=str,
)
def test_planted_faults_in_the_training_are_found(change):
    fields = RECIPE.to_dict()
    optimizer = fields["optimizer"] | change.get("optimizer", {})
    wrong = Recipe.from_dict(fields | change | {"optimizer": optimizer})
    with pytest.raises(AssertionError, match=" > 1e-10"):
        check_twenty_steps("v2_noise", wrong)


@pytest.mark.parametrize("case", ["bottleneck", "v2_noise"])
def test_float32_trains_as_float64_does_at_a_gentle_rate(case):
    """At a hot rate, rounding flips a ReLU now and then and the runs part, in one precision too.

    Measured with one and two threads: float32 parts from float64 by at most 3.1e-7; float64 from
    weights four float32 ulps away by at most 1.4e-6 (8 draws).
    """
    plan = plan_of(case)
    batches = [batch_of(plan, seed) for seed in range(20)]

    def losses(recipe: Recipe, precision: str) -> Any:
        return session_of(plan, recipe, precision=precision).train(batches, 0.005 * RATES).loss

    exact = losses(RECIPE, "float64")
    assert np.abs(losses(RECIPE, "float32") / exact - 1).max() <= 2e-6
    faulty = RECIPE.optimizer.model_copy(update={"momentum": 0.81})
    fault = RECIPE.model_copy(update={"optimizer": faulty})
    assert np.abs(losses(fault, "float32") / exact - 1).max() > 2e-5


@pytest.mark.skipif(not hasattr(reference, "Session"), reason="the reference is not there yet")
@pytest.mark.parametrize("case", CASES)
def test_float64_agrees_with_the_reference(case):
    plan = plan_of(case)
    batches = [batch_of(plan, seed) for seed in range(20)]
    sessions = [
        b.Session(plan, RECIPE, device="cpu", precision="float64") for b in (backend, reference)
    ]
    for session in sessions:
        session.load(state_of(plan))
    for train in (False, True):
        mine, theirs = (s.activations(batches[0], train=train) for s in sessions)
        for (name, got), (same, expected) in zip(mine, theirs, strict=True):
            assert name == same
            assert_close(got, expected, 1e-13, name)
    (loss, mine), (expected_loss, theirs) = (s.gradients(batches[0]) for s in sessions)
    assert_close(loss, expected_loss, 1e-13, "loss")
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        assert_close(mine[name], array, 1e-11, f"gradient of {name}")
    logs = [session.train(batches, RATES) for session in sessions]
    assert_close(logs[0].loss, logs[1].loss, 1e-10, "losses")
    assert np.array_equal(logs[0].correct, logs[1].correct)
    mine, theirs = (session.state() for session in sessions)
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        assert_close(mine[name], array, 1e-10, name)


def test_correct_images_are_counted():
    plan = plan_of()
    batch = batch_of(plan)
    session = session_of(plan, Recipe(steps=1, batch=8), precision="float64")
    logits, *_ = by_hand("basic", state_of(plan), batch, train=True)
    log = session.train([batch], np.array([0.1]))
    assert log.correct.tolist() == [int((logits.argmax(1).numpy() == batch.labels).sum())]
    assert log.count.tolist() == [8]
    assert (log.loss.dtype, log.correct.dtype) == (np.float64, np.int64)


# --- State ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_resume_is_bit_identical(precision):
    plan = plan_of("v2_noise")
    batches = [batch_of(plan, seed) for seed in range(6)]
    whole = session_of(plan, RECIPE, precision=precision)
    losses = whole.train(batches, RATES[:6]).loss
    first = session_of(plan, RECIPE, precision=precision)
    first.train(batches[:3], RATES[:3])
    second = backend.Session(plan, RECIPE, device="cpu", precision=precision)
    second.load(first.state())
    assert np.array_equal(second.train(batches[3:], RATES[3:6]).loss, losses[3:])
    assert_identical(second.state(), whole.state())
    assert ("loss_scale/scale" in whole.state()) == (precision == "float16")


def assert_identical(got: State, expected: State) -> None:
    assert list(got) == list(expected) and expected
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name


def test_a_fresh_load_resets_the_slots():
    plan = plan_of()
    session = session_of(plan, RECIPE)
    session.train([batch_of(plan)], RATES[:1])
    session.load(state_of(plan))
    state = session.state()
    weights = state_of(plan)
    assert all(np.array_equal(state[name], a) for name, a in weights.items())
    assert all(np.array_equal(state[f"ema/{name}"], a) for name, a in weights.items())
    assert not any(state[f"momentum/{name}"].any() for name in plan.trainable)
    no_slots = session_of(plan, Recipe(steps=1, optimizer={"momentum": 0.0}))
    assert set(no_slots.state()) == set(weights)


def test_state_is_owned_and_contiguous():
    session = session_of(plan_of(), RECIPE)
    before = session.state()
    for array in before.values():
        assert array.flags["C_CONTIGUOUS"] and array.flags["OWNDATA"]
        assert array.dtype == np.float32
        array += 1.0
    assert not np.array_equal(session.state()["conv1.weight"], before["conv1.weight"])


def test_gradients_activations_and_predict_change_nothing():
    plan = plan_of("v2_noise")
    session = session_of(plan, RECIPE)
    batch = batch_of(plan)
    session.train([batch], RATES[:1])
    session.native.norm.eval()  # A mixture of modes is kept, too.
    state, modes = session.state(), [m.training for m in session.native.modules()]
    buffers = [b.clone() for b in session.native.buffers()]
    session.gradients(batch)
    for train in (False, True):
        list(session.activations(batch, train=train))
    list(session.predict([batch]))
    assert_identical(session.state(), state)
    assert [m.training for m in session.native.modules()] == modes
    pairs = zip(session.native.buffers(), buffers, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(m._forward_hooks for m in session.native.modules())


def test_load_lists_every_wrong_name_and_changes_nothing():
    plan = plan_of()
    session = session_of(plan, RECIPE)
    before = session.state()
    wrong = {name: a + 1 for name, a in before.items()}
    wrong["stray"] = wrong.pop("fc.bias")
    wrong["conv1.weight"] = wrong["conv1.weight"][:1]
    del wrong["momentum/fc.weight"]
    with pytest.raises(CheckpointError) as error:
        session.load(wrong)
    assert sorted(error.value.problems) == [
        "conv1.weight = [1, 3, 7, 7]: must have shape [8, 3, 7, 7]",
        "fc.bias: is missing",
        "momentum/fc.weight: is missing",
        "stray: is unexpected",
    ]
    assert_identical(session.state(), before)
    with pytest.raises(CheckpointError, match="is missing"):
        backend.build(plan, {})


# --- Streams, noise and activations ---------------------------------------------------------------


def test_predict_streams_and_train_takes_no_batch_too_many():
    plan = plan_of()
    taken: list[int] = []

    def source() -> Iterator[Batch]:
        for i in range(100):
            taken.append(i)
            yield batch_of(plan, i)

    session = session_of(plan, RECIPE)
    assert next(session.predict(source())).shape == (8, CLASSES)
    assert taken == [0]
    session.train(source(), RATES[:3])
    assert taken == [0, 0, 1, 2]
    with pytest.raises(BackendError, match="batches = 1: must hold one batch for each of 2 rates"):
        session.train([batch_of(plan)], RATES[:2])
    assert session.train([], RATES[:0]).loss.shape == (0,)
    with pytest.raises(BackendError, match="recipe = None"):
        session_of(plan).train([batch_of(plan)], RATES[:1])


@pytest.mark.parametrize("case", CASES)
def test_activations_have_the_plans_names_and_shapes(case):
    plan = plan_of(case)
    session, batch = session_of(plan, precision="float64"), batch_of(plan)
    outputs = dict(session.activations(batch))
    assert tuple(outputs) == plan.observed
    for op in plan.ops:
        assert outputs[op.name].shape == (8, *op.out_shape)
        assert outputs[op.name].dtype == np.float64
    assert_close(outputs[plan.observed[-1]], next(session.predict([batch])), 0.0, "logits")


def test_an_activation_is_seen_before_the_relu_overwrites_it():
    outputs = dict(session_of(plan_of()).activations(batch_of(plan_of())))
    assert outputs["bn1"].min() < 0
    assert np.array_equal(outputs["act1"], outputs["bn1"].clip(min=0))


def test_noise_is_needed_in_training_and_drawn_by_the_module_alone():
    plan = plan_of("v2_noise")
    batch = batch_of(plan)
    bare = Batch(batch.images, batch.labels, batch.indices)
    session = session_of(plan, RECIPE)
    with pytest.raises(BackendError, match=r"batch\.noise: lacks .*blocks\.1\.drop_path.*head"):
        session.gradients(bare)
    list(session.predict([bare]))
    native = session.native.train()
    x = torch.ones(4000, 16, 1, 1)
    for module, rate in ((native.stages[1].blocks[0].drop_path, 0.5), (native.head.drop, 0.25)):
        values = set(module(x).unique().tolist())
        assert sorted(values) == pytest.approx([0.0, 1 / (1 - rate)])
        assert float(module(x).mean()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(native.eval().head.drop(x), x)


def test_any_numpy_images_are_taken():
    plan = plan_of()
    session, batch = session_of(plan), batch_of(plan)
    expected = next(session.predict([batch]))
    mirrored = np.ascontiguousarray(batch.images[:, :, ::-1])[:, :, ::-1]
    frozen = batch.images.copy()
    frozen.flags.writeable = False
    normalised = batch.images * np.array(plan.input.scale) + np.array(plan.input.shift)
    for images in (mirrored, frozen, normalised, normalised.astype(np.float32)):
        got = next(session.predict([Batch(images, batch.labels, batch.indices)]))
        assert_close(got, expected, 1e-6, "logits")


def test_a_single_value_per_channel_has_no_variance():
    fields = CASES["basic"][0] | {"stem": CIFAR_STEM}
    plan = lower(Spec(stages=STAGES, classes=CLASSES, input={"size": 2}, **fields))
    with pytest.raises(BackendError, match=r"batch = 1: leaves layer2\.0\.bn1 one value"):
        session_of(plan).gradients(batch_of(plan, count=1))


# --- The native module ----------------------------------------------------------------------------


def test_build_gives_the_sessions_network_and_draws_no_random_number():
    plan = plan_of()
    batch = batch_of(plan)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    module = backend.build(plan, state_of(plan))
    session = session_of(plan)
    assert torch.equal(torch.get_rng_state(), before)
    assert module.training and all(p.dtype == torch.float32 for p in module.parameters())
    x = batch.images * np.array(plan.input.scale) + np.array(plan.input.shift)
    with torch.no_grad():
        got = module.eval()(torch.tensor(x, dtype=torch.float32).permute(0, 3, 1, 2))
    assert_close(got, next(session.predict([batch])), 1e-6, "logits")
    assert not backend.build(plan).conv1.weight.isnan().any()


def test_modules_can_be_copied_swapped_hooked_and_converted():
    module = backend.build(plan_of("se_deep_d"), state_of(plan_of("se_deep_d"))).eval()
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    expected = module(x)
    twin = copy.deepcopy(module)
    assert torch.equal(twin(x), expected)
    seen: list[tuple[int, ...]] = []
    module.layer2[0].add.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape)))
    module(x)
    assert seen == [(2, 64, 3, 3)]
    twin.layer2[0].conv2 = torch.nn.Conv2d(16, 16, 3, 2, 1, bias=False)
    assert not torch.allclose(twin(x), expected)
    synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(twin)
    assert isinstance(synced.layer1[0].bn1, torch.nn.SyncBatchNorm)


# --- Devices, precisions, compilation -------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precisions_run_and_say_so(precision):
    plan = plan_of()
    session = session_of(plan, RECIPE, precision=precision)
    batch = batch_of(plan)
    assert session.info["precision"] == precision
    assert session.info["math"] == f"autocast {precision}"
    exact, gradients = by_hand("basic", state_of(plan), batch, True, RECIPE.label_smoothing)[1:3]
    loss, got = session.gradients(batch)
    assert 1e-6 < abs(loss - float(exact)) < 0.02
    assert_close(got["fc.weight"], gradients["fc.weight"], 0.05, "gradient")
    session.train([batch] * 3, RATES[:3])
    assert all(a.dtype == np.float32 for a in session.state().values())


def test_info_names_what_is_in_force():
    info = session_of(plan_of(), RECIPE).info
    assert info["framework"] == "torch" and info["version"] == torch.__version__
    assert info["device"] == "cpu" and info["precision"] == "float32" and info["math"] == "strict"
    session = importlib.import_module(f"{backend.__name__}.session")
    with torch.backends.cudnn.flags(allow_tf32=True):
        math = session._math(torch.device("cuda"), "float32")
    assert "convolutions tf32" in math
    torch.set_float32_matmul_precision("medium")
    try:
        assert session_of(plan_of()).info["math"] == "products bf16"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"device": "tpu9"}, r"device = tpu9: cannot be used by torch here; choose from auto.*cpu"),
        ({"device": "meta"}, r"device = meta: cannot be used"),
        ({"precision": "flaot32"}, r"precision = flaot32: .*; did you mean 'float32'\?"),
    ],
)
def test_bad_devices_and_precisions_give_one_line(arguments, line):
    with pytest.raises(BackendError, match=line):
        backend.Session(plan_of(), **arguments)


def test_the_best_device_is_taken(monkeypatch):
    session = importlib.import_module(f"{backend.__name__}.session")
    there: set[str] = set()
    monkeypatch.setattr(session, "_is_available", lambda kind: kind in there)
    for kind in ("cpu", "mps", "cuda"):
        there.add(kind)
        assert session._find_device("auto").type == kind


@pytest.mark.parametrize("name", ["hpu", "privateuseone", "cuda:99", "", "nosuch:0", "meta"])
def test_a_device_that_is_not_there_is_one_line(name):
    with pytest.raises(BackendError) as error:
        backend.Session(plan_of(), device=name)
    assert str(error.value).startswith(f"device = {name}: cannot be used by torch here; choose")


def test_a_device_that_is_there_and_broken_is_one_line(monkeypatch):
    session = importlib.import_module(f"{backend.__name__}.session")
    monkeypatch.setattr(session, "_find_device", lambda name: torch.device("cuda", 99))
    with pytest.raises(BackendError) as error:
        backend.Session(plan_of())
    assert str(error.value).startswith("device = cuda:99: cannot be started by torch here (")
    assert "\n" not in str(error.value) and str(error.value).endswith("; use device = cpu")


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it imports dynamo.
def test_compile_trains_the_same_function():
    stages = [{"width": 4, "blocks": 2}]
    spec = Spec(
        stages=stages,
        classes=CLASSES,
        input={"size": 8},
        stochastic_depth=0.5,
        dropout=0.5,
        block="basic",
        stem={**CIFAR_STEM, "widths": [4]},
    )
    plan = lower(spec)
    plain, compiled = (session_of(plan, RECIPE, compile=flag) for flag in (False, True))
    # Two steps with different noise: a noise that was compiled in as a constant would show.
    batches = [batch_of(plan, seed) for seed in range(2)]
    losses = [s.train(batches, RATES[:2]).loss for s in (plain, compiled)]
    assert compiled.info["compile"] == "true"
    assert_close(losses[1], losses[0], 1e-5, "losses")
    for name, array in plain.state().items():
        assert_close(compiled.state()[name], array, 1e-4, name)
