"""A native module in other hands: parts replaced, added and deleted; pickled, cloned and merged."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_plans import BASIC, PRE_ACTIVATION, SIZE, small_plan

from resnet_spec.contract import Batch
from resnet_spec.errors import BackendError
from resnet_spec.loader import load_backend
from resnet_spec.plan import Plan
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.recipe import Recipe

pytest.importorskip("jax")
backend: Any = load_backend("flax")
jax: Any = importlib.import_module("jax")
nnx: Any = importlib.import_module("flax.nnx")

SPECS: dict[str, dict[str, Any]] = {
    "basic": BASIC,
    "pre_activation": PRE_ACTIVATION,
}


def make_plan(name: str = "basic") -> Plan:
    return small_plan(SPECS[name])


IMAGES = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
compiled = nnx.jit(lambda module, images: module(images))


def network(name: str = "basic") -> Any:
    plan = make_plan(name)
    module = backend.build(plan, initial_state(plan, 3))
    module.eval()
    return module


def plain(module: Any, images: Any) -> Any:
    return module(images)


RUNS = {"plain": plain, "jit": compiled}


class Doubled(nnx.Module):
    """Does as `layer`, and doubles what comes out."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, *inputs: Any) -> Any:
        return self.layer(*inputs) * 2.0


KINDS = (
    *("conv1", "bn1", "act1", "maxpool", "layer1", "layer1.0", "layer1.1.conv1", "layer1.1.bn2"),
    *("layer1.0.act1", "layer1.0.act2", "layer1.0.se", "layer1.0.se.pool", "layer1.1.se.fc1"),
    *("layer1.0.se.gate", "layer1.0.add", "layer2.0.downsample", "layer2.0.downsample.0"),
    *("layer2.0.downsample.1", "global_pool", "fc"),
)


@pytest.mark.parametrize("run", ["plain", pytest.param("jit", marks=pytest.mark.thorough)])
def test_every_kind_of_child_that_is_replaced_is_run(run: str) -> None:
    module = network()
    before = RUNS[run](module, IMAGES)
    for path in sorted(KINDS, key=lambda path: -path.count(".")):
        *parents, key = path.split(".")
        parent = reduce(getattr, parents, module)
        setattr(parent, key, Doubled(getattr(parent, key)))
        after = RUNS[run](module, IMAGES)
        assert not np.array_equal(after, before), path
        before = after
    assert len(KINDS) == 20


def fewer(module: Any) -> None:
    del module.maxpool
    del module.layer1[1]
    del module.layer1[0].act1
    module.layer1[0].se = None


def more(module: Any) -> None:
    module.layer1[0].downsample = nnx.Conv(8, 8, (1, 1), rngs=nnx.Rngs(0))
    module.layer1.after = Doubled(module.layer1[1])
    module.extra = nnx.Linear(5, 4, rngs=nnx.Rngs(0))


def functions(module: Any) -> None:
    module.act1 = jax.nn.gelu
    module.layer1[0].act2 = lambda x: x
    module.layer2[0] = lambda x: 2.0 * x


@pytest.mark.parametrize(("change", "classes"), [(fewer, 5), (more, 4), (functions, 5)])
def test_children_are_deleted_added_and_made_of_functions(change: Any, classes: int) -> None:
    module = network()
    before = module(IMAGES)
    compiled(module, IMAGES)
    change(module)
    after = module(IMAGES)
    assert after.shape == (2, classes)
    assert classes != 5 or not np.allclose(after, before)
    assert np.allclose(compiled(module, IMAGES), after, atol=1e-5)
    assert np.array_equal(nnx.merge(*nnx.split(module))(IMAGES), after)


def test_a_block_without_its_sum_is_an_error() -> None:
    module = network()
    del module.layer1[0].add
    with pytest.raises(AttributeError, match="add"):
        module(IMAGES)


# --- Copies ---------------------------------------------------------------------------------------

WAYS = {
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "deepcopy": copy.deepcopy,
    "clone": nnx.clone,
    "merge": lambda module: nnx.merge(*nnx.split(module)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SPECS)
def test_a_copy_is_the_same_network_with_weights_of_its_own(name: str, way: str) -> None:
    module = network(name)
    before = module(IMAGES)
    twin = WAYS[way](module)
    assert np.array_equal(twin(IMAGES), before)
    first, _, _ = make_plan(name).trainable[0].rpartition(".")
    weight = reduce(getattr, first.split("."), twin).kernel
    weight[...] = 2.0 * weight[...]
    assert not np.array_equal(twin(IMAGES), before)
    if way != "merge":  # That shares them, as NNX says.
        assert np.array_equal(module(IMAGES), before)


def test_a_pickled_module_loads_in_a_fresh_process(tmp_path: Path) -> None:
    module = network()
    (tmp_path / "module.pickle").write_bytes(pickle.dumps(module))
    np.save(tmp_path / "images.npy", IMAGES)
    code = (
        "import pickle, sys, numpy as np\n"
        "module = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(np.asarray(module(np.load(sys.argv[2]))).tobytes().hex())\n"
    )
    files = [str(tmp_path / name) for name in ("module.pickle", "images.npy")]
    done = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == np.asarray(module(IMAGES)).tobytes().hex()


# --- In a session ---------------------------------------------------------------------------------

BATCH = Batch(
    np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8),
    np.arange(4),
    np.arange(4),
)
RATES = np.full(1, 0.1)


def test_a_session_trains_what_was_replaced_and_refuses_another_network() -> None:
    plan = make_plan()
    made = backend.Session(plan, Recipe(steps=2, batch=4))
    made.load(initial_state(plan, 3))
    made.train([BATCH], RATES)
    ones = nnx.initializers.ones
    made.native.conv1 = nnx.Conv(
        3, 8, (3, 3), use_bias=False, kernel_init=ones, padding=((1, 1), (1, 1)), rngs=nnx.Rngs(0)
    )
    assert np.array_equal(made.state()["conv1.weight"], np.ones((8, 3, 3, 3), np.float32))
    made.train([BATCH], RATES)
    kernel = np.asarray(made.native.conv1.kernel[...])
    assert not np.array_equal(kernel, np.ones_like(kernel))
    assert np.array_equal(made.state()["conv1.weight"], kernel.transpose(3, 2, 0, 1))
    for new, message in (
        (nnx.Linear(8, 3, rngs=nnx.Rngs(0)), r"native\.fc\.weight = \[3, 8\]: must have shape"),
        (lambda x: x, r"native\.fc\.weight: is missing in a session's network"),
    ):
        made.native.fc = new
        for use in (made.state, lambda: list(made.predict([BATCH]))):
            with pytest.raises(BackendError, match=message):
                use()
