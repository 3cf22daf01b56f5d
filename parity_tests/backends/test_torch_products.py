"""Convolutions that are products compute what `nn.Conv2d` does, and are it in other hands."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import ops
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.loader import load_backend
from resnet_spec.ops import Met
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower

torch = pytest.importorskip("torch")
nn = torch.nn
backend: Any = load_backend("torch")
products: Any = importlib.import_module(f"{backend.__name__}.products")
OnePixel, Pointwise = products.OnePixelConv2d, products.PointwiseConv2d
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def over(plane: tuple[int, int], rows: Met, columns: Met | None = None) -> dict[str, Any]:
    """Return what says of a layer which map it is for and what meets there."""
    return {"plane": plane, "window": (rows, columns or rows)}


MIDDLE = Met(range(1, 2), range(1))
ALONE = over((1, 1), MIDDLE)
MADE: dict[str, dict[str, Any]] = {
    "3x3 over 1x1": {"kernel_size": 3, "padding": 1, **ALONE},
    "5x3, dilated": {
        "kernel_size": (5, 3), "padding": (4, 2), "dilation": 2,
        **over((1, 1), Met(range(2, 3), range(1)), MIDDLE),
    },
    "dilated over 4x4": {
        "kernel_size": 3, "padding": 1, "dilation": 2, "stride": 4,
        **over((4, 4), Met(range(1, 3), range(1, 5, 2))),
    },
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2, **ALONE},
    "3x3 over 2x2, by two": {
        "kernel_size": 3, "padding": 1, "stride": 2,
        **over((2, 2), Met(range(1, 3), range(2))),
    },
    "1x1 over 2x2, by two": {
        "kernel_size": 1, "stride": 2, **over((2, 2), Met(range(1), range(1))),
    },
    "1x1 over 1x1": {"kernel_size": 1, **over((1, 1), Met(range(1), range(1)))},
    "the whole map": {"kernel_size": 3, **over((3, 3), Met(range(3), range(3)))},
    "with a bias": {"kernel_size": 3, "padding": 1, "bias": True, **ALONE},
    "another corner": {"kernel_size": 2, "padding": 1, "stride": 2, **ALONE},
}  # fmt: skip
SMALL = MADE["3x3 over 1x1"]
CLOSE = 1e-14
CLOSE_SUMS = 1e-13
"""Of gradients by 1x1 kernels, which are sums over the pixels of all images."""


def pair(dtype: Any = torch.float64, **made: Any) -> tuple[Any, Any]:
    """Return a layer of ours, and torch's with its weights. Without a window: a pointwise one."""
    torch.manual_seed(0)
    kind = OnePixel if "window" in made else Pointwise
    own = kind(6, 5, **{"bias": False, **made}).to(dtype)
    made = {name: value for name, value in made.items() if name not in ("plane", "window")}
    other = nn.Conv2d(6, 5, **{"bias": False, **made}).to(dtype)
    other.load_state_dict(own.state_dict())
    return own, other


def outcome(conv: Any, size: tuple[int, ...], layout: str = "contiguous") -> list[Any]:
    """Return the output, and gradients by the input and by what is trained."""
    dtype = conv.weight.dtype
    x = torch.linspace(-1, 1, torch.Size(size).numel(), dtype=dtype).view(size)
    if x.ndim == 4:
        x = x.contiguous(memory_format=FORMATS[layout])
        conv = conv.to(memory_format=FORMATS[layout])
    y = conv(x.requires_grad_())
    (y * torch.linspace(1, 2, y.numel(), dtype=dtype).view(y.shape)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in conv.parameters())]


def differ(own: Any, other: Any, size: tuple[int, ...], layout: str = "contiguous") -> float:
    found = [outcome(conv, size, layout) for conv in (own, other)]
    assert [it.shape for it in found[0]] == [it.shape for it in found[1]]
    return max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_one_window_is_the_convolution(made: dict[str, Any], layout: str) -> None:
    own, other = pair(**made)
    height, width = made["plane"]
    with pytest.MonkeyPatch.context() as patch:  # It is no convolution.
        patch.setattr(products.F, "conv2d", None)
        outcome(own, (3, 6, height, width), layout)
    own.zero_grad()
    assert differ(own, other, (3, 6, height, width), layout) < CLOSE
    grad = own.weight.grad.numpy(force=True).copy()
    met = np.ix_(range(5), range(6), *(side.taps for side in made["window"]))
    assert np.abs(grad[met]).min() > 0
    grad[met] = 0
    assert not grad.any()


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_pointwise_one_is_the_convolution(stride: Any, bias: bool, layout: str) -> None:
    own, other = pair(kernel_size=1, stride=stride, bias=bias)
    assert differ(own, other, (3, 6, 5, 4), layout) < CLOSE_SUMS


def test_a_pointwise_one_is_a_product_where_pixels_lie_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, _ = pair(torch.float32, kernel_size=1)
    images = torch.ones(2, 6, 5, 4)
    monkeypatch.setattr(products.F, "conv2d", None)
    last = own(images.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(TypeError):
        own(images)


@pytest.mark.parametrize("size", [(3, 6, 4, 5), (3, 6, 1, 4), (6, 1, 1), (6, 3, 3), (0, 6, 1, 1)])
@pytest.mark.parametrize("made", [SMALL, {"kernel_size": 1}], ids=["one window", "pointwise"])
def test_it_takes_what_the_convolution_takes(made: dict[str, Any], size: tuple[int, ...]) -> None:
    own, other = pair(**made)
    if 0 in size:
        assert own(torch.zeros(size, dtype=torch.float64)).shape == (0, 5, 1, 1)
    else:
        close = CLOSE if "window" in made else CLOSE_SUMS
        assert differ(own, other, size, "channels_last") < close


@pytest.mark.parametrize(
    "change",
    [
        {"padding": (2, 2)},
        {"padding": (1, 2)},
        {"padding": "same"},
        {"dilation": (1, 1), "stride": (1, 3)},
    ],
    ids=str,
)
@pytest.mark.parametrize("made", [SMALL, {"kernel_size": 1}], ids=["one window", "pointwise"])
def test_what_it_is_set_to_later_is_obeyed(made: dict[str, Any], change: dict[str, Any]) -> None:
    own, other = pair(**made)
    for name, value in change.items():
        setattr(own, name, value)
        setattr(other, name, value)
    assert differ(own, other, (3, 6, 1, 1), "channels_last") < CLOSE


@pytest.mark.parametrize("made", [SMALL, {"kernel_size": 1}], ids=["one window", "pointwise"])
def test_it_is_copied_pickled_and_printed_like_any_other(made: dict[str, Any]) -> None:
    own, other = pair(**made)
    for same in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert differ(same, other, (3, 6, 1, 1)) < CLOSE
        other.zero_grad()
    assert own.extra_repr() == other.extra_repr() and isinstance(own, nn.Conv2d)


@pytest.mark.parametrize("made", [SMALL, {"kernel_size": 1}], ids=["one window", "pointwise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types_stay(dtype: Any, made: dict[str, Any]) -> None:
    own, other = pair(dtype, **made)
    assert differ(own, other, (3, 6, 1, 1)) < (1e-6 if dtype is torch.float32 else 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert own(torch.ones(2, 6, 1, 1)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_networks_with_them_are_traced(name: str) -> None:
    network = backend.build(lower(load_spec(name), 32)).eval()
    images = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)
    traced = torch.fx.symbolic_trace(network)
    for size, layout in ((32, "channels_last"), (64, "contiguous")):
        given = images[:, :, :size, :size].contiguous(memory_format=FORMATS[layout])
        assert torch.equal(traced(given), network(given))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace.* is deprecated:DeprecationWarning")
def test_what_is_traced_is_right_for_other_maps_than_its_example_s() -> None:
    own, other = pair(torch.float32, **MADE["3x3 over 2x2, by two"])
    traced = torch.jit.trace(own, torch.ones(1, 6, 2, 2))
    images = torch.linspace(-1, 1, 6 * 25).view(1, 6, 5, 5)
    assert torch.equal(traced(images), other(images))


@pytest.mark.parametrize(
    "rows",
    [Met(range(1, 2), range(1)), Met(range(1), range(1, 2))],
    ids=["pixels", "taps"],
)
def test_a_wrong_window_is_seen(rows: Met) -> None:
    made = MADE["3x3 over 2x2, by two"]
    _, columns = made["window"]
    own, other = pair(**{**made, "window": (rows, columns)})
    assert differ(own, other, (3, 6, 2, 2)) > 0.1


def test_a_file_has_convolutions(tmp_path: Path) -> None:
    plan = lower(load_spec({"block": "basic", "stages": [{"width": 8, "blocks": 1}]}), 4)
    export: Any = importlib.import_module(f"{backend.__name__}.export")
    path = tmp_path / "network.pt2"
    told = {"batch": None, "raw": False, "metadata": "{}"}
    export.write(path, plan, initial_state(plan, seed=0), "torch-export", **told)
    nodes = [str(node.target) for node in torch.export.load(path).graph.nodes]
    convs = [op for op in plan.ops if isinstance(op, ops.Conv)]
    assert all(op.only_window for op in convs[1:])
    assert nodes.count("aten.conv2d.default") == len(convs)
    assert nodes.count("aten.linear.default") == 1


def layers(name: str, size: int, kind: Any) -> list[str]:
    network = backend.build(lower(load_spec(name), size))
    return [name for name, part in network.named_modules() if type(part) is kind]


def test_a_network_has_them_where_maps_are_small() -> None:
    deep = ["conv1", "conv2"]
    last = [f"layer4.0.{part}" for part in (*deep, "downsample.0")]
    assert layers("resnet18", 32, OnePixel) == [*last, *(f"layer4.1.{part}" for part in deep)]
    assert layers("resnet18", 64, OnePixel) == []
    assert layers("resnet18", 224, Pointwise) == [f"layer{i}.0.downsample.0" for i in (2, 3, 4)]
    assert layers("resnet20_cifar", 32, Pointwise) == []


def test_bottlenecks_have_them_but_for_the_first_stage_of_large_images() -> None:
    large = layers("resnet50", 224, Pointwise)
    assert {name.partition(".")[0] for name in large} == {"layer2", "layer3", "layer4"}
    assert "layer2.0.conv1" not in large and "layer2.0.conv3" in large
    one = layers("resnet50", 32, OnePixel)
    assert "layer4.0.conv2" in one and "layer4.0.conv1" not in one and len(one) == 9


@pytest.mark.parametrize(
    "changes", [{"squeeze": 0.25}, {"order": "pre_activation", "stochastic_depth": 0.5}], ids=str
)
def test_nobody_overwrites_the_view_that_a_product_gives(changes: dict[str, Any]) -> None:
    """Autograd would copy gradients for it, and hooks on the output would not be called."""
    stages = [{"width": 64, "blocks": 2}, {"width": 64, "blocks": 2, "stride": 8}]
    network = backend.build(
        lower(load_spec({"block": "bottleneck", "stages": stages, **changes}), 32)
    )
    given: list[tuple[Any, int]] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        given.append((output, output._version))

    for part in network.modules():
        if isinstance(part, products.ProductConv2d):
            part.register_forward_hook(keep)
    images = torch.ones(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last)(images)
    assert len(given) > 8 and all(output._version == version for output, version in given)
