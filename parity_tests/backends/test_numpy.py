"""The reference itself: ops against loops, backward passes against differences, SGD by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
from resnet_spec_numpy import layers
from resnet_spec_numpy.modules import build
from resnet_spec_numpy.passes import Run
from resnet_spec_numpy.session import Session, cross_entropy
from resnet_spec_numpy.weights import weights_of
from resnet_spec_numpy.windows import Window, _columns, convolve

from resnet_spec import ops
from resnet_spec.contract import Batch, State
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.plan import Plan, tensors_of
from resnet_spec.planning.dataflow import steps
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

LOOPS = 1e-14
"""Against loops, both in float64, relative to the largest value; 7e-16 was measured."""
DIFFERENCES = 1e-8
"""An op's backward pass against central differences in float64; 3e-10 was measured."""
WHOLE = 1e-7
"""The same for a whole network, in finer steps to stay off ReLUs' corners; 1.2e-8 was measured."""


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def relative(got: Any, expected: Any) -> float:
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-300))


# --- Ops ------------------------------------------------------------------------------------------


def tensor(name: str, shape: ops.Shape, role: ops.Role) -> ops.Tensor:
    layout = {4: "OIHW", 2: "OI", 1: "C"}[len(shape)]
    return ops.Tensor(f"op.{name}", shape, layout, role, ops.Init("constant", 0.0))  # pyright: ignore[reportArgumentType]


def conv(
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    pad: ops.Pad = (0, 0, 0, 0),
    dilation: int = 1,
    groups: int = 1,
    *,
    size: tuple[int, int] = (7, 6),
    channels: tuple[int, int] = (4, 6),
    bias: bool = False,
) -> ops.Conv:
    """A convolution; its output shape is worked out from what a window reaches."""
    c, o = channels
    sums = (pad[0] + pad[1], pad[2] + pad[3])
    out = [
        (n + p - dilation * (k - 1) - 1) // stride + 1
        for n, p, k in zip(size, sums, kernel, strict=True)
    ]
    return ops.Conv(
        "op",
        (c, *size),
        (o, *out),
        kernel,
        stride,
        pad,
        dilation,
        groups,
        tensor("weight", (o, c // groups, *kernel), "conv_weight"),
        tensor("bias", (o,), "bias") if bias else None,
    )


def norm(variance: Any = "unbiased") -> ops.Norm:
    names: tuple[tuple[str, ops.Role], ...] = (
        ("weight", "norm_scale"),
        ("bias", "norm_shift"),
        ("running_mean", "running_mean"),
        ("running_var", "running_var"),
    )
    tensors = [tensor(name, (4,), role) for name, role in names]
    return ops.Norm("op", (4, 3, 2), (4, 3, 2), 1e-2, 0.75, variance, "global", *tensors)


CONVS = {
    "3x3": conv(pad=(1, 1, 1, 1), bias=True),
    "3x3 stride 2, uneven pads": conv(stride=2, pad=(0, 1, 2, 1)),
    "3x3 stride 2, a pixel left over": conv(stride=2, size=(6, 8)),
    "3x3 dilation 2": conv(dilation=2, pad=(2, 2, 2, 0)),
    "3x3 groups": conv(groups=2, pad=(1, 1, 1, 1)),
    "3x3 depthwise": conv(groups=4, channels=(4, 8), stride=2, pad=(1, 1, 1, 1)),
    "3x2 all at once": conv((3, 2), 3, (2, 0, 0, 1), 2, 2, size=(9, 8), bias=True),
    "7x7 stride 2": conv((7, 7), 2, (3, 3, 3, 3)),
    "1x1": conv((1, 1), bias=True),
    "1x1 stride 2": conv((1, 1), 2),
    "1x1 padded": conv((1, 1), pad=(1, 0, 0, 2)),
    "1x1 groups": conv((1, 1), groups=2),
}
MAX_POOLS = {
    "max 3x3": ops.MaxPool("op", (3, 7, 6), (3, 4, 3), 3, 2, (1, 1, 1, 1)),
    "max uneven pads": ops.MaxPool("op", (3, 6, 6), (3, 3, 3), 3, 2, (0, 1, 0, 1)),
    "max overlapping": ops.MaxPool("op", (3, 5, 6), (3, 5, 4), 3, 1, (2, 0, 0, 0)),
}
AVG_POOLS = {
    "avg 2x2": ops.AvgPool("op", (3, 6, 4), (3, 3, 2), 2, 2, (0, 0, 0, 0)),
    "avg sticking out": ops.AvgPool("op", (3, 7, 5), (3, 4, 3), 2, 2, (0, 1, 0, 1)),
    "avg overlapping": ops.AvgPool("op", (3, 5, 6), (3, 5, 6), 3, 1, (1, 1, 2, 0)),
}
LINEAR = ops.Linear(
    "op", (5,), (3,), tensor("weight", (3, 5), "linear_weight"), tensor("bias", (3,), "bias")
)
OPS: dict[str, ops.Op] = {
    **CONVS,
    **MAX_POOLS,
    **AVG_POOLS,
    "norm": norm(),
    "relu": ops.Activation("op", (3, 4, 5), (3, 4, 5), "relu"),
    "sigmoid": ops.Activation("op", (3, 4, 5), (3, 4, 5), "sigmoid"),
    "pad channels": ops.PadChannels("op", (3, 5, 4), (6, 3, 2), 2, (1, 2)),
    "global pool": ops.GlobalPool("op", (3, 4, 5), (3,), keep_dims=False),
    "global pool kept": ops.GlobalPool("op", (3, 4, 5), (3, 1, 1), keep_dims=True),
    "flatten": ops.Flatten("op", (5, 1, 1), (5,)),
    "linear": LINEAR,
    "dropout": ops.Dropout("op", (5,), (5,), 0.25),
    "dropout of maps": ops.Dropout("op", (5, 1, 1), (5, 1, 1), 0.25),
    "drop path": ops.DropPath("op", (3, 2, 2), (3, 2, 2), 0.5),
}
LAYERS: dict[type[Any], type[Any]] = {
    type(op): vars(layers)[type(op).__name__] for op in OPS.values()
}
NOISE = {"Dropout": (2, 5), "DropPath": (2,)}


def layer_of(op: ops.Op, dtype: Any = np.float64) -> Any:
    """Return the module of `op` with drawn weights; variances are positive."""
    layer = LAYERS[type(op)](op, dtype)
    for t in tensors_of(op):
        values = draw(1).normal(0.0, 1.0, t.shape)
        attrgetter(t.name.removeprefix("op."))(layer)[...] = (
            np.abs(values) + 0.5 if t.role == "running_var" else values
        )
    return layer


def input_of(op: ops.Op) -> Any:
    """Return an input whose values are at least 0.01 apart and at least 0.005 from zero."""
    shape = (2, *op.in_shape)
    count = int(np.prod(shape))
    return (draw(2).permutation(count) - count // 2 + 0.5).reshape(shape) * 0.01


def run_for(op: ops.Op) -> Run:
    noise = {}
    if isinstance(op, ops.Dropout | ops.DropPath):
        noise["op"] = draw(3).choice([0.0, 1.0 / (1.0 - op.rate)], NOISE[type(op).__name__])
    return Run(training=True, noise=noise)


# --- Forward passes against loops -----------------------------------------------------------------


def padded(x: Any, pad: ops.Pad, fill: float) -> Any:
    top, bottom, left, right = pad
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)


def places(op: Any, count: int = 2) -> Iterator[tuple[int, ...]]:
    return itertools.product(range(count), *map(range, op.out_shape))


def loop_conv(op: ops.Conv, x: Any, weight: Any, bias: Any) -> Any:
    x, y = padded(x, op.pad, 0.0), np.zeros((2, *op.out_shape))
    per_group, of_group = weight.shape[1], len(weight) // op.groups
    for n, o, i, j in places(op):
        total = 0.0 if bias is None else bias[o]
        for c, p, q in np.ndindex(weight.shape[1:]):
            row, column = i * op.stride + p * op.dilation, j * op.stride + q * op.dilation
            total += weight[o, c, p, q] * x[n, o // of_group * per_group + c, row, column]
        y[n, o, i, j] = total
    return y


def loop_pool(op: Any, x: Any) -> Any:
    """Mean or maximum of the pixels that are there: padding is NaN and left out."""
    x, y = padded(x, op.pad, np.nan), np.zeros((2, *op.out_shape))
    reduce = np.nanmax if isinstance(op, ops.MaxPool) else np.nanmean
    for n, c, i, j in places(op):
        top, left = i * op.stride, j * op.stride
        y[n, c, i, j] = reduce(x[n, c, top : top + op.kernel, left : left + op.kernel])
    return y


def by_loops(op: Any, layer: Any, x: Any) -> Any:
    if isinstance(op, ops.Conv):
        return loop_conv(op, x, layer.weight, layer.bias)
    return loop_pool(op, x)


def check_forward(op: ops.Op, fault: dict[str, Any] | None = None) -> None:
    """Compare the module of `op` with loops; `fault` changes what the module is told."""
    layer, x = layer_of(op), input_of(op)
    expected = by_loops(op, layer, x)
    layer.op = replace(op, **(fault or {}))
    assert relative(layer.forward(x, Run()), expected) <= LOOPS
    # The same numbers in another memory order.
    x = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    assert relative(layer.forward(x, Run()), expected) <= LOOPS


WINDOWED = CONVS | MAX_POOLS | AVG_POOLS


@pytest.mark.parametrize("case", WINDOWED)
def test_windowed_ops_agree_with_loops(case):
    check_forward(WINDOWED[case])


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        ("3x3 stride 2, uneven pads", {"pad": (1, 0, 1, 2)}),
        ("3x3 stride 2, uneven pads", {"pad": (2, 1, 0, 1)}),
        ("3x3 dilation 2", {"dilation": 1, "pad": (1, 1, 0, 0)}),
        ("max uneven pads", {"pad": (1, 0, 0, 1)}),
        ("max overlapping", {"pad": (0, 2, 0, 0)}),
        ("avg sticking out", {"pad": (1, 0, 0, 1)}),
    ],
)
def test_a_wrong_window_is_seen(case, fault):
    with pytest.raises(AssertionError):
        check_forward(WINDOWED[case], fault)


def test_padding_that_counts_is_seen(monkeypatch):
    monkeypatch.setattr(
        layers.AvgPool, "_counts", lambda self, shape, dtype: np.full((), self.op.kernel**2, dtype)
    )
    check_forward(AVG_POOLS["avg 2x2"])
    with pytest.raises(AssertionError):
        check_forward(AVG_POOLS["avg sticking out"])


def test_groups_in_another_order_are_seen():
    op = CONVS["3x3 groups"]
    layer, x = layer_of(op), input_of(op)
    swapped = np.roll(layer.weight, 3, axis=0)
    assert relative(convolve(x, swapped, layer._window, 2), by_loops(op, layer, x)) > 0.1


def test_max_pool_pads_with_minus_infinity():
    op = MAX_POOLS["max 3x3"]
    x = -1.0 - np.abs(input_of(op))
    assert layer_of(op).forward(x, Run()).max() <= -1.0


def test_norm_in_both_modes():
    op = norm()
    layer, x = layer_of(op), input_of(op)
    out = layer.forward(x, Run())
    for c in range(4):
        centred = x[:, c] - layer.running_mean[c]
        expected = centred / (layer.running_var[c] + 1e-2) ** 0.5 * layer.weight[c] + layer.bias[c]
        assert relative(out[:, c], expected) <= LOOPS
    out = layer.forward(x, Run(training=True))
    for c in range(4):
        centred = x[:, c] - np.mean(x[:, c])
        expected = centred / (np.var(x[:, c]) + 1e-2) ** 0.5 * layer.weight[c] + layer.bias[c]
        assert relative(out[:, c], expected) <= LOOPS


@pytest.mark.parametrize(("variance", "ddof"), [("unbiased", 1), ("biased", 0)])
def test_norm_keeps_the_fraction_decay_of_its_statistics(variance, ddof):
    layer, run = layer_of(norm(variance)), Run(training=True)
    x, old = input_of(layer.op), layer.running_var.copy()
    layer.forward(x, run)
    var = 0.75 * layer.running_var + 0.25 * x.var((0, 2, 3), ddof=ddof)
    mean = 0.75 * layer.running_mean + 0.25 * x.mean((0, 2, 3))
    assert relative(run.statistics["op.running_var"], var) <= LOOPS
    assert relative(run.statistics["op.running_mean"], mean) <= LOOPS
    other = 0.75 * layer.running_var + 0.25 * x.var((0, 2, 3), ddof=1 - ddof)
    assert relative(run.statistics["op.running_var"], other) > 1e-4
    assert np.array_equal(layer.running_var, old)


def test_norm_variance_does_not_cancel():
    layer = layer_of(norm())
    x = input_of(layer.op)
    far = layer.forward(x + 1e6, Run(training=True))
    assert relative(far, layer.forward(x, Run(training=True))) <= 1e-9


def test_sigmoid_is_exact_and_never_overflows():
    op = ops.Activation("op", (4,), (4,), "sigmoid")
    y = layer_of(op).forward(np.array([[-1000.0, -30.0, 0.0, 1000.0]]), Run())
    assert y.tolist() == [[0.0, pytest.approx(np.exp(-30.0), rel=1e-12), 0.5, 1.0]]


def test_pad_channels_takes_every_pixel_from_the_first():
    op = ops.PadChannels("op", (1, 3, 3), (4, 2, 2), 2, (1, 2))
    y = layer_of(op).forward(np.arange(9.0).reshape(1, 1, 3, 3), Run())
    assert y[0].tolist() == [[[0, 0], [0, 0]], [[0, 2], [6, 8]], [[0, 0]] * 2, [[0, 0]] * 2]


@pytest.mark.parametrize("case", ["dropout", "dropout of maps", "drop path"])
def test_noise_multiplies_in_training_only(case):
    op = OPS[case]
    layer, x, run = layer_of(op), input_of(op), run_for(op)
    assert layer.forward(x, Run()) is x
    y = layer.forward(x, run)
    for index in np.ndindex(x.shape):
        noise = run.noise["op"]
        assert y[index] == x[index] * noise[index[: noise.ndim]]


@pytest.mark.parametrize("case", ["dropout", "dropout of maps", "drop path"])
def test_a_module_on_its_own_draws_its_noise(case):
    op = replace(OPS[case], rate=0.25)
    x = np.ones((4000, *op.in_shape))
    y = layer_of(op).forward(x, Run(training=True))
    assert set(np.unique(y)) == {0.0, 1.0 / 0.75}
    assert abs(y.mean() - 1.0) < 0.05
    whole = y.reshape(4000, -1)
    together = (whole == whole[:, :1]).all()
    assert together == (case == "drop path")


def test_a_pointwise_convolution_copies_nothing():
    x = np.zeros((4, 2, 5, 6)).swapaxes(0, 1)
    for stride, shared in ((1, True), (2, False)):
        columns = _columns(Window((1, 1), stride, (0, 0, 0, 0)).view(x), 2)
        assert np.shares_memory(columns, x) == shared
    y = convolve(x, np.zeros((6, 4, 3, 3)), Window((3, 3), 1, (1, 1, 1, 1)), 1)
    assert y.shape == (2, 6, 5, 6) and y.swapaxes(0, 1).flags.c_contiguous


# --- Backward passes against differences ----------------------------------------------------------


def slopes(function: Callable[[], float], array: Any, step: float = 1e-5) -> Any:
    """Return the central differences of `function` by every element of `array`."""
    result = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept, sides = array[index], []
        for sign in (1.0, -1.0):
            array[index] = kept + sign * step
            sides.append(function())
        array[index] = kept
        result[index] = (sides[0] - sides[1]) / (2.0 * step)
    return result


def check_backward(op: ops.Op) -> None:
    """Compare dx and the gradient of every tensor with differences."""
    layer, x = layer_of(op), input_of(op)
    weights = draw(4).normal(0.0, 1.0, (2, *op.out_shape))

    def loss() -> float:
        return float((weights * layer.forward(x, run_for(op))).sum())

    run = run_for(op)
    layer.forward(x, run)
    dx = layer.backward(weights, run)
    assert not run.saved
    assert relative(dx, slopes(loss, x)) <= DIFFERENCES
    trained = [t for t in tensors_of(op) if t.trainable]
    assert set(run.gradients) == {t.name for t in trained}
    for t in trained:
        array = attrgetter(t.name.removeprefix("op."))(layer)
        assert relative(run.gradients[t.name], slopes(loss, array)) <= DIFFERENCES


@pytest.mark.parametrize("case", OPS)
def test_backward_is_the_derivative(case):
    check_backward(OPS[case])


ONE_OF_EACH = list({type(op): case for case, op in OPS.items()}.values())


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_a_derivative_off_by_a_millionth_is_seen(case, monkeypatch):
    op = OPS[case]
    kind = LAYERS[type(op)]
    right = kind.backward
    monkeypatch.setattr(kind, "backward", lambda self, dy, run: right(self, dy, run) * (1 + 1e-6))
    with pytest.raises(AssertionError):
        check_backward(op)


@pytest.mark.parametrize("case", ["1x1", "norm", "linear"])
def test_a_gradient_off_by_a_millionth_is_seen(case, monkeypatch):
    op = OPS[case]
    kind = LAYERS[type(op)]
    right = kind.backward
    for t in (t for t in tensors_of(op) if t.trainable):

        def wrong(self: Any, dy: Any, run: Run, name: str = t.name) -> Any:
            dx = right(self, dy, run)
            run.gradients[name] = run.gradients[name] * (1 + 1e-6)
            return dx

        monkeypatch.setattr(kind, "backward", wrong)
        with pytest.raises(AssertionError):
            check_backward(op)


def test_every_op_of_the_plan_was_checked():
    every = {op for op in ops.Op.__args__ if op is not ops.Add}
    assert {type(op) for op in OPS.values()} == every


def test_ties_go_to_the_first_maximum_of_a_window():
    op = ops.MaxPool("op", (1, 2, 4), (1, 1, 2), 2, 2, (0, 0, 0, 0))
    layer, run = layer_of(op), Run(training=True)
    layer.forward(np.array([[[[1.0, 5.0, 7.0, 7.0], [5.0, 5.0, 7.0, 7.0]]]]), run)
    dx = layer.backward(np.array([[[[2.0, 3.0]]]]), run)
    assert dx.tolist() == [[[[0.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]


def test_relu_has_no_gradient_at_zero():
    layer, run = layer_of(ops.Activation("op", (3,), (3,), "relu")), Run(training=True)
    layer.forward(np.array([[-1.0, 0.0, 1.0]]), run)
    assert layer.backward(np.ones((1, 3)), run).tolist() == [[0.0, 0.0, 1.0]]


# --- The loss -------------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    logits, labels = draw().normal(0.0, 2.0, (3, 4)), np.array([3, 0, 0])
    for smoothing in (0.0, 0.2):
        terms = []
        for row, label in zip(logits, labels, strict=True):
            p = np.exp(row) / np.exp(row).sum()
            target = [smoothing / 4 + (1 - smoothing) * (k == label) for k in range(4)]
            terms.append(-sum(t * np.log(q) for t, q in zip(target, p, strict=True)))
        loss, gradient = cross_entropy(logits, labels, smoothing)
        assert loss == pytest.approx(np.mean(terms), rel=1e-13)
        numeric = slopes(lambda s=smoothing: cross_entropy(logits, labels, s)[0], logits)
        assert relative(gradient, numeric) <= DIFFERENCES
    assert cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))[0] == 1e4


# --- Whole networks -------------------------------------------------------------------------------

STAGES = [{"width": 4, "blocks": 1}, {"width": 8, "blocks": 2, "stride": 2}]
SMALL = {"widths": [4], "kernel": 3, "stride": 1, "pool": False}
NETWORKS: dict[str, dict[str, Any]] = {
    "basic": {"block": "basic", "stem": {"widths": [4]}},
    "plain": {"block": "basic", "shortcut": "none"},
    "zero_pad": {"block": "basic", "shortcut": "zero_pad", "zero_pad_at": "both"},
    "bottleneck": {
        "block": "bottleneck",
        "groups": 2,
        "stages": [*STAGES, {"width": 8, "blocks": 2, "dilation": 2}],
        "downsample": "avg_pool",
    },
    "gated": {"block": "bottleneck", "squeeze": 0.25, "shortcut": "projection_all"},
    "same": {"block": "basic", "padding": "same", "stem": {**SMALL, "pool": True}},
    "pre_activation": {
        "block": "bottleneck",
        "order": "pre_activation",
        "stochastic_depth": 0.5,
        "dropout": 0.25,
    },
}


def plan_of(network: str, size: int = 9) -> Plan:
    image = {"size": size, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    fields = {"classes": 5, "stem": SMALL, "stages": STAGES, "input": image}
    return lower(Spec(**{**fields, **NETWORKS[network]}))


def state_of(plan: Plan, dtype: Any = np.float64) -> State:
    """Initial weights, with norms and biases moved away from their trivial values."""
    state = initial_state(plan, 0, dtype)
    for array in state.values():
        if array.ndim == 1:
            array += draw(array.size).uniform(0.1, 0.5, array.shape).astype(dtype)
    return state


def batch_of(plan: Plan, count: int = 4, seed: int = 5) -> Batch:
    noise = {}
    for op in plan.noises:
        shape = (count, op.in_shape[0]) if isinstance(op, ops.Dropout) else (count,)
        noise[op.name] = draw(seed).choice([0.5, 1.5], shape).astype(np.float32)
    size = plan.input
    return Batch(
        images=draw(seed).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8),
        labels=draw(seed).integers(0, plan.classes, count),
        indices=np.arange(count),
        noise=noise,
    )


def session_of(plan: Plan, recipe: Recipe | None = None, precision: Any = "float64") -> Session:
    session = Session(plan, recipe, precision=precision)
    session.load(state_of(plan))
    return session


def as_floats(batch: Batch) -> Batch:
    return replace(batch, images=draw(6).normal(0.0, 1.0, batch.images.shape))


def check_network(network: str, fault: Callable[[Session], None] = lambda session: None) -> None:
    """Compare the slope along one direction of every tensor, and of the images, with gradients."""
    plan = plan_of(network)
    session = session_of(plan, Recipe(steps=1, batch=4, label_smoothing=0.1))
    batch = as_floats(batch_of(plan))
    fault(session)
    _, gradients = session.gradients(batch)
    assert list(gradients) == list(plan.trainable)
    images = batch.images.transpose(0, 3, 1, 2)
    checks = [("input", images, dict(session.node_gradients(batch))["input"])]
    live = weights_of(session.native, plan)
    checks += [(name, live[name], gradient) for name, gradient in gradients.items()]
    for name, array, gradient in checks:
        assert gradient.shape == array.shape and gradient.flags.c_contiguous
        direction = draw().uniform(0.5, 1.5, array.shape) * np.where(gradient < 0, -1.0, 1.0)
        kept, sides = array.copy(), []
        for step in (1e-6, -1e-6):
            array[...] = kept + step * direction
            sides.append(session.gradients(batch)[0])
        array[...] = kept
        slope, expected = (sides[0] - sides[1]) / 2e-6, float((gradient * direction).sum())
        assert abs(slope - expected) <= WHOLE * abs(expected), (name, slope, expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_of_whole_networks(network):
    check_network(network)


def _lose_what_the_gate_reads(session: Session) -> None:
    gate = attrgetter("layer1.0.se.gate")(session.native)
    right = gate.backward
    gate.backward = lambda dy, run: 0.0 * right(dy, run)


def _lose_what_the_shortcut_reads(session: Session) -> None:
    add = attrgetter("layer2.1.add")(session.native)
    add.backward = lambda dy: (dy, 0.0 * dy)


@pytest.mark.parametrize(
    ("network", "fault"),
    [("gated", _lose_what_the_gate_reads), ("basic", _lose_what_the_shortcut_reads)],
)
def test_a_lost_gradient_of_a_container_is_seen(network, fault):
    with pytest.raises(AssertionError, match=r"input|weight"):
        check_network(network, fault)


# --- Modules and states ---------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_the_attribute_path_is_the_canonical_name(network):
    plan = plan_of(network)
    state = state_of(plan, np.float32)
    native: Any = build(plan, state)
    for t in plan.tensors:
        array = attrgetter(t.name)(native)
        assert array.dtype == np.float32 and np.array_equal(array, state[t.name])
    for op in plan.ops:
        assert attrgetter(op.name)(native).op is op
    empty: Any = build(plan)
    assert all(not attrgetter(t.name)(empty).any() for t in plan.tensors)


def test_the_native_module_gives_the_logits_of_normalised_images():
    plan = plan_of("basic")
    native, batch = build(plan, state_of(plan, np.float32)), batch_of(plan)
    size = plan.input
    images = ((batch.images / 255.0 - size.mean) / size.std).transpose(0, 3, 1, 2)
    (expected,) = session_of(plan).predict([batch])
    assert relative(native(images.astype(np.float32)), expected) <= 1e-5


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("train", [False, True])
def test_activations_are_all_that_is_observed(network, train):
    plan = plan_of(network)
    session, batch = session_of(plan), batch_of(plan)
    before = session.state()
    found = list(session.activations(batch, train=train))
    assert tuple(name for name, _ in found) == plan.observed
    outputs = dict(found)
    for op in plan.ops:
        assert outputs[op.name].shape == (4, *op.out_shape)
        assert outputs[op.name].flags.c_contiguous
    logits = found[-1][1]
    if train:
        assert cross_entropy(logits, batch.labels)[0] == session.gradients(batch)[0]
    else:
        assert np.array_equal(logits, next(session.predict([batch])))
    assert_equal(session.state(), before)


def assert_equal(got: State, expected: State) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name


def test_float32_stays_float32_and_near_float64():
    plan = plan_of("gated")
    recipe = Recipe(steps=1, batch=4, accumulate=2, ema={"decay": 0.9})  # pyright: ignore[reportArgumentType]
    single, double = (session_of(plan, recipe, p) for p in ("float32", "float64"))
    batch = batch_of(plan)
    for (name, got), (_, expected) in zip(
        single.activations(batch, train=True), double.activations(batch, train=True), strict=True
    ):
        assert got.dtype == np.float32 and expected.dtype == np.float64
        assert relative(got, expected) <= 1e-5, name
    for session, dtype in ((single, np.float32), (double, np.float64)):
        session.train([batch], np.array([0.1]))
        arrays = {**session.state(), **session.gradients(batch)[1]}
        assert {a.dtype for a in arrays.values()} == {np.dtype(dtype)}
        assert next(session.predict([batch])).dtype == dtype


def test_load_lists_every_name_that_does_not_fit():
    plan = plan_of("basic")
    session = session_of(plan, Recipe(steps=1, batch=4))
    before = session.state()
    state = {name: array + 1.0 for name, array in before.items()}
    del state["bn1.weight"], state["momentum/fc.bias"]
    state |= {"fc.weight": np.zeros((8, 5)), "fc.scale": np.zeros(5), "ema/fc.bias": np.zeros(5)}
    with pytest.raises(CheckpointError) as caught:
        session.load(state)
    assert caught.value.problems == (
        "bn1.weight: is missing",
        "momentum/fc.bias: is missing",
        "fc.scale: is unexpected",
        "ema/fc.bias: is unexpected",
        "fc.weight = [8, 5]: must have shape [5, 8]",
    )
    assert_equal(session.state(), before)
    with pytest.raises(CheckpointError, match=r"42 missing.* The first: conv1\.weight: is missing"):
        build(plan, {})


def test_slots_start_fresh_where_a_state_has_none():
    plan = plan_of("basic")
    recipe = Recipe(steps=1, batch=4, ema={"decay": 0.9})  # pyright: ignore[reportArgumentType]
    session = session_of(plan, recipe)
    session.train([batch_of(plan)], np.array([0.1]))
    trained, weights = session.state(), state_of(plan)
    assert any(trained[f"momentum/{name}"].any() for name in plan.trainable)
    session.load(weights)
    slots = {f"momentum/{name}": np.zeros_like(weights[name]) for name in plan.trainable}
    slots |= {f"ema/{name}": weights[name] for name in weights}
    assert_equal(session.state(), weights | slots)
    session.load(trained)
    assert_equal(session.state(), trained)
    session.state()["fc.bias"][...] = 7.0
    assert_equal(session.state(), trained)


# --- Training -------------------------------------------------------------------------------------


def recipe_of(**fields: Any) -> Recipe:
    return Recipe(**{"steps": 3, "batch": 4, "label_smoothing": 0.1, **fields})


RECIPES = {
    "no momentum": recipe_of(optimizer={"momentum": 0.0, "weight_decay": 0.1}),
    "momentum": recipe_of(
        optimizer={"weight_decay": 0.1, "decay_norms": False, "decay_biases": False}
    ),
    "nesterov": recipe_of(optimizer={"nesterov": True, "weight_decay": 0.1}),
    "accumulate": recipe_of(accumulate=2, ema={"decay": 0.8}),
}
RATES = np.array([0.1, 0.03, 0.05])


def by_hand(plan: Plan, recipe: Recipe, batches: list[Batch]) -> tuple[State, list[float]]:
    """Return the state and losses after len(RATES) steps, from gradients and activations alone."""
    optimizer, decay, half = recipe.optimizer, recipe.ema.decay, 4 // recipe.accumulate
    roles = {t.name: t.role for t in plan.tensors}
    weights, losses = state_of(plan), []
    velocity = {name: np.zeros_like(weights[name]) for name in plan.trainable}
    average = {name: array.copy() for name, array in weights.items()}
    for rate, batch in zip(RATES, batches, strict=True):
        total, loss = dict.fromkeys(plan.trainable, 0.0), 0.0
        for start in range(0, 4, half):
            rows = slice(start, start + half)
            part = replace(batch, images=batch.images[rows], labels=batch.labels[rows])
            fixed = Session(plan, recipe_of(), precision="float64")
            fixed.load(weights)
            part_loss, gradients = fixed.gradients(part)
            loss += part_loss / recipe.accumulate
            total = {n: g + gradients[n] / recipe.accumulate for n, g in total.items()}
            weights |= statistics_by_hand(plan, weights, dict(fixed.activations(part, train=True)))
        losses.append(loss)
        for name in plan.trainable:
            is_norm, is_bias = roles[name].startswith("norm"), roles[name] == "bias"
            spared = (is_norm and not optimizer.decay_norms) or (
                is_bias and not optimizer.decay_biases
            )
            g = total[name] + (0.0 if spared else optimizer.weight_decay) * weights[name]
            velocity[name] = optimizer.momentum * velocity[name] + g
            move = g + optimizer.momentum * velocity[name]
            weights[name] = weights[name] - rate * (move if optimizer.nesterov else velocity[name])
        average = {n: decay * a + (1 - decay) * weights[n] for n, a in average.items()}
    if optimizer.momentum:
        weights |= {f"momentum/{n}": v for n, v in velocity.items()}
    return weights | ({f"ema/{n}": a for n, a in average.items()} if decay else {}), losses


def statistics_by_hand(plan: Plan, weights: State, outputs: State) -> State:
    new: State = {}
    for step in steps(plan):
        if isinstance(step.node, ops.Norm):
            x, op = outputs[step.inputs[0].name], step.node
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
            for t, value in ((op.running_mean, mean), (op.running_var, var)):
                new[t.name] = op.decay * weights[t.name] + (1 - op.decay) * value
    assert new
    return new


def check_training(given: Recipe, meant: Recipe) -> None:
    """Compare a session that trains by `given` with the loop above under `meant`."""
    plan = plan_of("basic")
    session, batches = session_of(plan, given), [batch_of(plan, seed=s) for s in range(3)]
    log = session.train(batches, RATES)
    expected, losses = by_hand(plan, meant, batches)
    assert relative(log.loss, losses) <= 1e-12
    got = session.state()
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert relative(got[name], array) <= 1e-10, name


@pytest.mark.parametrize("case", RECIPES)
def test_training_agrees_with_a_loop_by_hand(case):
    check_training(RECIPES[case], RECIPES[case])


def _changed(case: str, **changes: Any) -> Recipe:
    fields = RECIPES[case].to_dict()
    return Recipe.from_dict(
        {
            **fields,
            **{k: {**fields[k], **v} if isinstance(v, dict) else v for k, v in changes.items()},
        }
    )


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("momentum", {"optimizer": {"momentum": 0.9001}}),
        ("momentum", {"optimizer": {"decay_norms": True}}),
        ("momentum", {"optimizer": {"decay_biases": True}}),
        ("momentum", {"label_smoothing": 0.1001}),
        ("no momentum", {"optimizer": {"weight_decay": 0.1001}}),
        ("nesterov", {"optimizer": {"nesterov": False}}),
        ("accumulate", {"accumulate": 1}),
        ("accumulate", {"ema": {"decay": 0.8001}}),
    ],
)
def test_another_recipe_is_seen(case, changes):
    with pytest.raises(AssertionError):
        check_training(_changed(case, **changes), RECIPES[case])


def test_train_takes_no_batch_too_many_and_reports_each_step():
    plan = plan_of("basic")
    session = session_of(plan, recipe_of())
    batches = iter([batch_of(plan, seed=s) for s in range(3)])
    logits = dict(session.activations(batch_of(plan, seed=0), train=True))["fc"]
    log = session.train(batches, RATES[:2])
    assert len(list(batches)) == 1
    assert log.count.tolist() == [4, 4]
    assert log.correct[0] == (logits.argmax(1) == batch_of(plan, seed=0).labels).sum()
    assert (log.loss.dtype, log.correct.dtype) == (np.float64, np.int64)


def test_a_run_that_diverges_ends_in_its_losses_without_a_warning():
    plan = plan_of("basic")
    session = session_of(plan, recipe_of())
    log = session.train([batch_of(plan, seed=s) for s in range(6)], np.full(6, 1e200))
    assert not np.isfinite(log.loss).all()


# --- Refusals -------------------------------------------------------------------------------------


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(BackendError) as caught:
        action()
    (line,) = caught.value.problems
    return line


def test_devices_and_precisions_that_cannot_be_had():
    plan = plan_of("basic")
    assert refused(lambda: Session(plan, device="cuda")) == (
        "device = cuda: is not one of numpy's; use auto, cpu"
    )
    wrong: Any = "float46"
    assert refused(lambda: Session(plan, precision=wrong)) == (
        "precision = float46: is not one of numpy's; did you mean 'float64'?"
    )


def test_noise_that_is_missing_or_misshapen():
    plan = plan_of("pre_activation")
    session, batch = session_of(plan, recipe_of()), batch_of(plan)
    names = ", ".join(op.name for op in plan.noises)
    silent = replace(batch, noise={})
    for action in (
        lambda: session.gradients(silent),
        lambda: session.activations(silent, train=True),
        lambda: session.train([silent], RATES[:1]),
    ):
        assert refused(action) == f"batch.noise: lacks {names}, which training needs"
    next(session.predict([silent]))
    short = replace(batch, noise={**batch.noise, "head.drop": np.ones((4, 3), np.float32)})
    assert refused(lambda: session.gradients(short)) == (
        "batch.noise['head.drop'] = [4, 3]: must have shape [4, 32]"
    )


def test_batches_that_do_not_fit():
    plan = plan_of("basic")
    session, batch = session_of(plan, RECIPES["accumulate"]), batch_of(plan)
    for label in (-1, 5):
        labels = np.array([0, label, 1, 2])
        wrong = replace(batch, labels=labels)
        line = f"batch.labels = {label}: must be in 0..4 in training"
        assert refused(lambda w=wrong: session.gradients(w)) == line
        next(session.predict([wrong]))
    assert "must have shape [4, 9, 9, 3]" in refused(
        lambda: next(session.predict([replace(batch, images=batch.images[:, 1:])]))
    )
    assert refused(lambda: session.train([batch_of(plan, 3)], RATES[:1])) == (
        "batch = 3: must be a positive multiple of accumulate = 2"
    )
    assert refused(lambda: session.train([batch], RATES)) == (
        "batches = 1: must hold one batch for each of 3 rates"
    )
    assert "needs one" in refused(lambda: session_of(plan).train([batch], RATES[:1]))
    tiny = plan_of("basic", size=1)
    assert "has no variance" in refused(lambda: session_of(tiny).gradients(batch_of(tiny, 1)))
