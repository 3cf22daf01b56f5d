"""A ResNet in the style of Flax's ImageNet example, which pads SAME, against a spec."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.parity.own import compare
from resnet_spec.parity.wrapping import wrap
from resnet_spec.planning.lowering import lower
from resnet_spec.reporting.report import Report

jax = pytest.importorskip("jax", reason="the flax backend is not installed")
linen = pytest.importorskip("flax.linen", reason="the flax backend is not installed")

SPEC = Spec(
    name="example",
    classes=5,
    block="basic",  # pyright: ignore[reportArgumentType]
    stem={"widths": [8]},  # pyright: ignore[reportArgumentType]
    stages=[{"width": 8, "blocks": 1}, {"width": 16, "blocks": 1, "stride": 2}],  # pyright: ignore[reportArgumentType]
    norm={"variance": "biased"},  # pyright: ignore[reportArgumentType]
)


class ResNetBlock(linen.Module):  # pyright: ignore[reportGeneralTypeIssues,reportUntypedBaseClass]
    filters: int
    conv: Any
    norm: Any
    strides: tuple[int, int] = (1, 1)

    @linen.compact
    def __call__(self, x: Any) -> Any:
        y = self.conv(self.filters, (3, 3), self.strides)(x)
        y = linen.relu(self.norm()(y))
        y = self.norm()(self.conv(self.filters, (3, 3))(y))
        if x.shape != y.shape:
            x = self.conv(self.filters, (1, 1), self.strides, name="conv_proj")(x)
            x = self.norm(name="norm_proj")(x)
        return linen.relu(x + y)


class Example(linen.Module):  # pyright: ignore[reportGeneralTypeIssues,reportUntypedBaseClass]
    """examples/imagenet/models.py: an explicitly padded stem, SAME everywhere else."""

    dtype: Any = None

    @linen.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        conv = partial(linen.Conv, use_bias=False, dtype=self.dtype)
        norm = partial(
            linen.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype
        )
        x = conv(8, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], name="conv_init")(x)
        x = linen.relu(norm(name="bn_init")(x))
        x = linen.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        x = ResNetBlock(8, conv, norm)(x)
        x = ResNetBlock(16, conv, norm, (2, 2))(x)
        return linen.Dense(5, dtype=self.dtype)(x.mean((1, 2)))


def example(size: int, dtype: Any = None) -> tuple[Any, Any]:
    module = Example(dtype)
    images = jax.numpy.zeros((1, size, size, 3))
    return module, module.init(jax.random.key(0), images)


def compared(size: int, **more: Any) -> Report:
    return compare(example(size), SPEC, "flax-imagenet", input_size=size, **more)


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=pytest.mark.thorough)]
)
def test_on_odd_sizes_same_pads_as_torch_does(precision: Any) -> None:
    report = compared(33, precision=precision)
    assert {row.level for row in report.rows} >= {"gradients", "statistics", "activations"}
    assert {row.verdict for row in report.rows} <= {"equal", "rounding"}


def test_on_even_sizes_same_moves_the_grid_and_the_node_is_named() -> None:
    report = compared(32)
    assert {row.level for row in report.rows if row.is_wrong} >= {"logits", "gradients"}
    (finding, *_) = report.findings
    # The example's pool is a function: the first node that shows is the one after it.
    plan = lower(SPEC, 32)
    names = plan.observed
    assert names.index("maxpool") <= names.index(finding.node) <= names.index("layer1.0.conv1")


def test_a_block_s_output_is_that_of_its_last_activation() -> None:
    plan = lower(SPEC, 33)
    own: Any = wrap(example(33), plan, "flax-imagenet")
    from resnet_spec.parity.setup import make_setup

    batch = make_setup(plan).batches[0]
    shown = dict(own.activations(batch))
    assert shown["layer1.0.act2"].min() == 0.0
    assert {"layer2.0.downsample.0", "layer2.0.downsample.1", "fc", "bn1"} <= shown.keys()
    assert not {"act1", "maxpool", "layer1.0.act1", "global_pool"} & shown.keys()
    before = own.state()
    own.load({name: array + 1 for name, array in before.items()})
    assert np.array_equal(own.state()["fc.weight"], before["fc.weight"] + 1)


def test_a_module_without_its_variables_and_other_misuse() -> None:
    plan = lower(SPEC, 33)
    with pytest.raises(BackendError, match=r"model = Example: a Linen module holds no weights"):
        wrap(Example(), plan, "flax-imagenet")
    with pytest.raises(CheckpointError, match=r"names = timm: .* use names = flax-imagenet"):
        wrap(example(33), plan)
    own = wrap(example(33, jax.numpy.float32), plan, "flax-imagenet", precision="float64")
    from resnet_spec.parity.setup import make_setup

    with pytest.raises(BackendError, match=r"computes in float32 though its weights are float64"):
        list(own.predict(make_setup(plan).batches[:1]))
