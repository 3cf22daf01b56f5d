"""The native module: its names are torchvision's and timm's, and it is torch's like any other."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from torch_by_hand import SIZE, assert_close, batch_of, plan_of, session_of, state_of

from resnet_spec.describing.spec import Spec
from resnet_spec.loader import load_backend
from resnet_spec.planning.lowering import lower

torch = pytest.importorskip("torch")
backend: Any = load_backend("torch")


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


QUICK = """
import sys
from resnet_spec import build, load_spec, session

made = session("resnet20_cifar", "torch", device="cpu")
build(load_spec("resnet20_cifar"), "torch")
print("sympy" in sys.modules, next(iter(made.state().values())).dtype)
"""


def test_a_session_is_made_without_what_torch_imports_for_tensors_without_memory():
    """sympy and torch's shape arithmetic, at the start of every command."""
    done = subprocess.run(
        [sys.executable, "-c", QUICK], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False float32\n"), done.stderr
