"""Convolutions as matrix products are XLA's own, in values and in every kind of derivative."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from flax_networks import (
    RECIPE,
    assert_close,
    assert_states_close,
    backend,
    batch_of,
    plan_of,
    reference_of,
    state_of,
)

from resnet_spec import ops
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.plan import walk
from resnet_spec.planning.lowering import lower

jax = pytest.importorskip("jax")
jnp = jax.numpy
nnx = pytest.importorskip("flax.nnx")

pytestmark = pytest.mark.xdist_group("flax_networks")
convolutions: Any = importlib.import_module(f"{backend.__name__}.convolutions")
Function = Callable[..., Any]

OURS = ("product", "convolution")
PADS = ((1, 2), (0, 3))
WIDE = ((4, 5), (3, 4))
"""Pads for dilated kernels."""
EXACT = 1e-13
"""Of float64; measured: 3e-15."""


def layer(name: str, kernel: tuple[int, int] = (3, 3), **settings: Any) -> Any:
    """Return a layer that computes with one of ours, or XLA's own, in float64."""
    function = getattr(convolutions, name, jax.lax.conv_general_dilated)
    given = {"padding": PADS, **settings}
    rngs, made = nnx.Rngs(0), partial(nnx.Conv, 3, 5, kernel, use_bias=False)
    return made(param_dtype=jnp.float64, conv_general_dilated=function, rngs=rngs, **given)


def images(seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal((2, 8, 7, 3)))


def output_of(conv: Any) -> Function:
    """Return the layer as a function of images and kernel."""
    graphdef, state = nnx.split(conv)

    def output(x: Any, kernel: Any) -> Any:
        return nnx.merge(graphdef, nnx.State({"kernel": state["kernel"].replace(kernel)}))(x)

    return output


def loss_of(conv: Any) -> Function:
    """Return a function of images and kernel that is linear in neither."""
    output = output_of(conv)
    return lambda x, kernel: jnp.sin(output(x, kernel)).sum()


def norms(slopes: Function) -> Function:
    return lambda *given: sum(jnp.square(slope).sum() for slope in slopes(*given))


def derivatives_of(conv: Any) -> dict[str, Any]:
    """Return the output, and derivatives of each kind."""
    loss, given = loss_of(conv), (images(), conv.kernel[...])

    @jax.jit  # Op by op, each would be compiled.
    def found(x: Any, kernel: Any) -> dict[str, Any]:
        slopes, along = jax.grad(loss, (0, 1)), (x[::-1], jnp.cos(kernel))
        return {
            "output": output_of(conv)(x, kernel),
            "backwards": slopes(x, kernel),
            "by the kernel alone": jax.grad(loss, 1)(x, kernel),
            "forwards": jax.jvp(loss, (x, kernel), along)[1],
            "forwards over backwards": jax.jvp(slopes, (x, kernel), along)[1],
            "twice backwards": jax.grad(norms(slopes), (0, 1))(x, kernel),
            "each image": jax.vmap(jax.grad(loss, 1), (0, None))(x[:, None], kernel),
        }

    return found(*given)


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        ((3, 3), {}),
        ((1, 1), {}),
        ((2, 3), {"kernel_dilation": (3, 2), "padding": WIDE}),
        ((5, 1), {"padding": ((0, 0), (0, 0))}),
        ((3, 3), {"strides": (2, 3)}),
        # Taps that meet nothing but padding, before, behind or on both sides of the map.
        ((9, 3), {"padding": ((8, 0), (1, 1))}),
        ((3, 11), {"padding": ((1, 1), (2, 9))}),
        ((3, 3), {"kernel_dilation": (9, 9), "padding": ((9, 9), (9, 9))}),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "name", [pytest.param("product", marks=pytest.mark.thorough), "convolution"]
)
def test_it_has_every_derivative_of_the_convolution(
    name: str, kernel: tuple[int, int], settings: dict[str, Any]
) -> None:
    with jax.enable_x64(True):
        got, expected = (derivatives_of(layer(n, kernel, **settings)) for n in (name, "XLA"))
        for kind, found in expected.items():
            pairs = zip(jax.tree.leaves(got[kind]), jax.tree.leaves(found), strict=True)
            for one, other in pairs:
                assert_close(one, other, EXACT, kind)


def slope_of(conv: Any) -> Any:
    return jax.jit(jax.grad(loss_of(conv), 1))(images(), conv.kernel[...])


@pytest.mark.parametrize(
    "change",
    [
        {"strides": (2, 1)},
        {"padding": ((0, 2), (1, 1))},
        {"padding": "SAME"},
        {"input_dilation": (2, 1)},
        {"kernel_dilation": (1, 2)},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "name", [pytest.param("product", marks=pytest.mark.thorough), "convolution"]
)
def test_what_a_layer_is_set_to_later_is_obeyed(name: str, change: dict[str, Any]) -> None:
    with jax.enable_x64(True):
        pair = [layer(name), layer("XLA")]
        for conv in pair:
            for field, value in change.items():
                setattr(conv, field, value)
        got, expected = (jax.grad(loss_of(conv), 1)(images(), conv.kernel[...]) for conv in pair)
        assert_close(got, expected, EXACT, "by the kernel")
        assert not np.allclose(
            got, jax.grad(loss_of(layer("XLA")), 1)(images(), pair[0].kernel[...])
        )


def test_groups_are_those_of_xla() -> None:
    x, kernel = images()[..., :2], jnp.ones((3, 3, 1, 4))
    numbers = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))
    more = {"rhs_dilation": (1, 1), "dimension_numbers": numbers, "feature_group_count": 2}
    outputs = [
        function(x, kernel, (1, 1), PADS, **more)
        for function in (jax.lax.conv_general_dilated, *(getattr(convolutions, n) for n in OURS))
    ]
    assert outputs[0].shape == outputs[1].shape == outputs[2].shape
    assert np.array_equal(outputs[1], outputs[0]) and np.array_equal(outputs[2], outputs[0])


def texts_of(platform: str) -> str:
    with jax.enable_x64(True):
        conv = layer("convolution")
        traced = jax.jit(jax.grad(loss_of(conv), 1)).trace(images(), conv.kernel[...])
        return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(("platform", "forward"), [("cpu", 1), ("cuda", 2), ("tpu", 2)])
def test_only_a_cpu_makes_products(platform: str, forward: int) -> None:
    """The forward pass is a convolution; the gradient by the kernel on accelerators, too."""
    text = texts_of(platform)
    found = len(re.findall(r"stablehlo\.convolution", text))
    assert (found, "stablehlo.dot_general" in text) == (forward, platform == "cpu")


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_products_sum_over_one_dimension(kernel: tuple[int, int]) -> None:
    """XLA lays a gradient out anew for a product that sums over images, rows and columns."""
    with jax.enable_x64(True):
        conv = layer("product", kernel)
        slopes = jax.jit(jax.grad(loss_of(conv), (0, 1)))
        text = slopes.lower(images(), conv.kernel[...]).as_text()
    summed = re.findall(r"contracting_dims = \[([\d, ]+)\] x \[([\d, ]+)\]", text)
    assert len(summed) == 3 and all(len(one) == len(other) == 1 for one, other in summed)


@cache
def functions_of(network: str, size: int) -> dict[str, str]:
    """Return the name of each convolution's function."""
    plan = lower(load_spec(network), size)
    found = [node for node in walk(plan.root) if isinstance(node, ops.Conv)]
    return {op.name: convolutions.convolution_of(op).__name__ for op in found}


@pytest.mark.parametrize(
    ("network", "size", "name", "function"),
    [
        ("resnet50", 224, "conv1", "conv_general_dilated"),
        ("resnet50", 224, "layer1.0.conv1", "product"),
        ("resnet50", 224, "layer1.0.conv2", "convolution"),
        ("resnet50", 224, "layer2.0.conv2", "conv_general_dilated"),
        ("resnet50", 224, "layer2.1.conv2", "convolution"),
        ("resnet50", 224, "layer3.1.conv2", "conv_general_dilated"),
        ("resnet50", 32, "layer4.1.conv2", "product"),
        ("resnet20_cifar", 32, "layer1.0.conv1", "conv_general_dilated"),
        ("resnext50_32x4d", 224, "layer1.0.conv2", "conv_general_dilated"),
    ],
)
def test_which_one_follows_from_the_plan(network: str, size: int, name: str, function: str) -> None:
    assert functions_of(network, size)[name] == function


def gradients_of_tiny() -> Any:
    """Return the loss and gradients in a network all of whose kernels have theirs by shifts."""
    session = backend.Session(plan_of("tiny"), RECIPE, precision="float64", device="cpu")
    session.load(state_of(plan_of("tiny")))
    modules = [one for _, one in nnx.iter_modules(session.native) if isinstance(one, nnx.Conv)]
    assert {one.conv_general_dilated for one in modules} == {convolutions.convolution}
    return session.gradients(batch_of(plan_of("tiny")))


def test_a_network_of_them_agrees_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PIXELS", "_FEATURES"):
        monkeypatch.setattr(convolutions, name, 1)
    loss, got = gradients_of_tiny()
    expected_loss, expected = reference_of("tiny").gradients(batch_of(plan_of("tiny")))
    assert_close(loss, expected_loss, EXACT, "loss")
    assert_states_close(got, expected, 10 * EXACT)
    by_shifts = convolutions._by_shifts

    def shifted(padding: Any, options: Any, x: Any, kernel: Any) -> Any:
        (top, bottom), sides = padding
        return by_shifts(((top + 1, bottom - 1), sides), options, x, kernel)

    monkeypatch.setattr(convolutions, "_by_shifts", shifted)
    with pytest.raises(AssertionError, match=" > 1e-12"):
        assert_states_close(gradients_of_tiny()[1], expected, 10 * EXACT)
