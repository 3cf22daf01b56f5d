"""A native module in other hands: parts replaced, added and deleted; copied, saved and traced."""

from __future__ import annotations

import copy
import importlib
import io
import pickle
import subprocess
import sys
import warnings
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

pytest.importorskip("torch")
backend: Any = load_backend("torch")
torch: Any = importlib.import_module("torch")
nn: Any = torch.nn

SPECS: dict[str, dict[str, Any]] = {
    "basic": BASIC,
    "pre_activation": PRE_ACTIVATION,
    "same": {"padding": "same", "norm": {"variance": "biased"}, "shortcut": "zero_pad"},
    "plain": {"shortcut": "none"},
}


def make_plan(name: str = "basic") -> Plan:
    return small_plan(SPECS[name])


IMAGES = torch.from_numpy(
    np.random.default_rng(0).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
)


def network(name: str = "basic") -> Any:
    plan = make_plan(name)
    return backend.build(plan, initial_state(plan, 3))


def logits(module: Any) -> Any:
    torch.manual_seed(0)  # For the noise that a module draws by itself.
    with torch.no_grad():
        return module(IMAGES.clone()).numpy()


class Doubled(nn.Module):
    """Does as `module`, and doubles what comes out."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs) * 2.0


KINDS = (
    *("conv1", "bn1", "act1", "maxpool", "layer1", "layer1.0", "layer1.1.conv1", "layer1.1.bn2"),
    *("layer1.0.act1", "layer1.0.act2", "layer1.0.se", "layer1.0.se.pool", "layer1.1.se.fc1"),
    *("layer1.0.se.gate", "layer1.0.add", "layer2.0.downsample", "layer2.0.downsample.0"),
    *("layer2.0.downsample.1", "global_pool", "fc"),
)


def test_every_kind_of_child_that_is_replaced_is_run() -> None:
    module = network().eval()
    before = logits(module)
    for path in sorted(KINDS, key=lambda path: -path.count(".")):
        parent, _, key = path.rpartition(".")
        setattr(module.get_submodule(parent), key, Doubled(module.get_submodule(path)))
        after = logits(module)
        assert not np.array_equal(after, before), path
        before = after
    assert len(KINDS) == 20


def fewer(module: Any) -> None:
    del module.maxpool
    del module.layer1[1]
    del module.layer1[0].act1
    module.layer1[0].se = None


def more(module: Any) -> None:
    module.layer1.append(nn.ReLU())
    module.layer1[0].downsample = nn.Conv2d(8, 8, 1)
    module.extra = nn.Linear(5, 4)


@pytest.mark.parametrize(("change", "classes"), [(fewer, 5), (more, 4)])
def test_children_are_deleted_and_added(change: Any, classes: int) -> None:
    module = network().eval()
    before = logits(module)
    change(module)
    after = logits(module)
    assert after.shape == (2, classes)
    assert classes != 5 or not np.array_equal(after, before)
    module.layer2 = nn.Identity()
    assert not np.array_equal(logits(module), after)
    module(IMAGES).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_block_without_its_sum_is_an_error() -> None:
    module = network()
    del module.layer1[0].add
    with pytest.raises(AttributeError, match="add"):
        module(IMAGES)


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("pre_activation", ["stages.0.blocks.1.norm1"]),
        ("basic", ["conv1", "bn1"]),
        ("basic", ["layer1.1.conv1", "layer1.1.bn1"]),
        ("basic", ["layer1.1.conv1", "layer1.1.bn1", "layer1.1.act1", "layer1.1.conv2",
                   "layer1.1.bn2", "layer1.1.se"]),
        ("basic", ["layer1.0.se.pool", "layer1.0.se.fc1"]),
        ("plain", ["layer1.1.conv1", "layer1.1.bn1"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["replaced", "deleted"])
def test_what_is_still_read_is_not_overwritten(name: str, paths: list[str], way: str) -> None:
    """A ReLU works in place on what came before it; here that is what another part reads."""

    def changed() -> Any:
        module = network(name).eval()
        for path in paths:
            parent, _, key = path.rpartition(".")
            if way == "replaced":
                setattr(module.get_submodule(parent), key, nn.Identity())
            else:
                delattr(module.get_submodule(parent), key)
        if paths[0] == "conv1":
            module.layer1 = module.layer2 = nn.Sequential()
            module.fc = nn.Identity()
        return module

    module, careful = changed(), changed()
    for part in careful.modules():
        if hasattr(part, "inplace"):
            part.inplace = False
    images = IMAGES.clone()
    with torch.no_grad():
        module(images)
    assert torch.equal(images, IMAGES)
    assert np.array_equal(logits(module), logits(careful))


def test_untouched_it_goes_on_overwriting() -> None:
    module = network()
    assert module.act1.inplace and module.layer1[0].add.inplace and module.layer1[0].act1.inplace
    module.layer1[0].bn1 = nn.Identity()
    assert not module.layer1[0].add.inplace and not module.layer1[0].act1.inplace
    assert module.act1.inplace and module.layer1[1].add.inplace


# --- Copies, files and traces ---------------------------------------------------------------------


def saved(module: Any) -> Any:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def traced(module: Any) -> Any:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, IMAGES, check_trace=False), file)
    file.seek(0)
    return torch.jit.load(file)


WAYS = {
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "copy": copy.deepcopy,
    "save": saved,
    "trace": traced,
    "fx": torch.fx.symbolic_trace,
    "export": lambda module: torch.export.export(module, (IMAGES,)).module(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SPECS)
def test_it_is_copied_saved_and_traced(name: str, way: str) -> None:
    module = network(name).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated.
        twin = WAYS[way](module)
        assert np.abs(logits(twin) - logits(module)).max() < 1e-5
    for key, tensor in module.state_dict().items():
        if not key.endswith("num_batches_tracked"):  # A counter, which torch.fx may leave out.
            assert torch.equal(twin.state_dict()[key], tensor), key


def test_a_pickled_module_loads_in_a_fresh_process(tmp_path: Path) -> None:
    module = network().eval()
    torch.save(module, tmp_path / "module.pt")
    code = (
        "import sys, torch\n"
        "module = torch.load(sys.argv[1], weights_only=False)\n"
        "print(type(module).__name__, len(module.layer1), *module.state_dict())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "module.pt")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["ResNet", "2", *module.state_dict()]


def test_weights_of_a_whole_module_are_not_read_by_default(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "module.pt")
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        torch.load(tmp_path / "module.pt")


def test_scripting_says_what_to_use() -> None:
    for module in (network(), network().layer1[0], nn.Sequential(network())):
        with warnings.catch_warnings(), pytest.raises(BackendError) as error:
            warnings.simplefilter("ignore")
            torch.jit.script(module)
        assert str(error.value).startswith("torch.jit.script = ResNet: ")
        assert "torch.jit.trace" in str(error.value) and "torch.export" in str(error.value)


# --- In a session ---------------------------------------------------------------------------------

BATCH = Batch(
    np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8),
    np.arange(4),
    np.arange(4),
)
RATES = np.full(2, 0.1)


def session(**recipe: Any) -> Any:
    plan = make_plan()
    made = backend.Session(plan, Recipe(steps=2, batch=4, **recipe))
    made.load(initial_state(plan, 3))
    made.train([BATCH] * 2, RATES)
    return made


def test_a_session_runs_and_trains_what_was_replaced() -> None:
    made = session()
    (before,) = made.predict([BATCH])
    old = made.native.conv1.weight
    new = made.native.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    first, left = new.weight.detach().clone(), old.detach().clone()
    velocity = made.state()["momentum/conv1.weight"]
    assert np.abs(velocity).max() > 0  # It stays with the name.
    (after,) = made.predict([BATCH])
    assert not np.array_equal(after, before)
    made.train([BATCH], RATES[:1])
    assert not torch.equal(new.weight, first) and torch.equal(old, left)
    assert np.array_equal(made.state()["conv1.weight"], new.weight.detach().numpy())
    assert not np.array_equal(made.state()["momentum/conv1.weight"], velocity)


@pytest.mark.parametrize("format", ["contiguous_format", "channels_last"])
def test_another_memory_format_changes_no_step(format: str) -> None:
    """The fused optimiser reads weight, gradient and velocity in one order of memory."""
    made, moved = session(), session()
    moved.native.to(memory_format=getattr(torch, format))
    for each in (made, moved):
        each.train([BATCH] * 2, RATES)
    one, two = made.state(), moved.state()
    assert one.keys() == two.keys()
    assert max(np.abs(one[name] - two[name]).max() for name in one) < 1e-4


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (nn.Linear(8, 3), r"native\.fc\.weight = \[3, 8\]: must have shape \[5, 8\]"),
        (nn.Identity(), r"native\.fc\.weight: is missing in a session's network"),
    ],
)
def test_a_session_refuses_another_network(new: Any, message: str) -> None:
    made = session()
    made.native.fc = new
    for use in (lambda: list(made.predict([BATCH])), made.state, lambda: made.train([], RATES[:0])):
        with pytest.raises(BackendError, match=message):
            use()
