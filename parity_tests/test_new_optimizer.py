"""What a new optimiser touches: a throw-away one is its row, and one entry in each backend.

Adam (Kingma & Ba 2015) with a large epsilon, so that rounding decides no sign: two slots for each
tensor and the number of steps. It is made here, out of the tree; everything else follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_modules import module_of
from cases import CASES

from resnet_spec.contract import Array
from resnet_spec.errors import BackendError, CheckpointError, RecipeError
from resnet_spec.loader import installed_backends, load_backend
from resnet_spec.optimizers import OPTIMIZERS, Row, Settings, Slot, known_slots, slots_of
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.localise import search
from resnet_spec.parity.setup import Setup, make_recipe, make_setup
from resnet_spec.parity.side import Side
from resnet_spec.parity.smooth_batch import reference_of
from resnet_spec.parity.verdicts import judge
from resnet_spec.recipe import Recipe
from resnet_spec.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[1]
CASE = CASES["plain"]
BETA2, EPSILON = 0.99, 0.01
FRAMEWORKS = [name for name in installed_backends() if name in ("torch", "flax", "mindspore")]
OTHERS = [name for name in installed_backends() if name != "numpy"]
FAMILIES = ("first", "second", "steps")

pytestmark = pytest.mark.xdist_group("new_optimizer")


def adam(
    settings: Settings,
    rate: float,
    decay: float,
    weight: Array,
    gradient: Array,
    slots: Mapping[str, Array],
) -> tuple[Array, dict[str, Array]]:
    beta1, g, t = settings.momentum, gradient + decay * weight, slots["steps"] + 1
    first = beta1 * slots["first"] + (1 - beta1) * g
    second = BETA2 * slots["second"] + (1 - BETA2) * g * g
    mean, square = first / (1 - beta1**t), second / (1 - BETA2**t)
    new = weight - rate * mean / (np.sqrt(square) + EPSILON)
    return new, {"first": first, "second": second, "steps": t}


ROW = Row(
    adam,
    (
        Slot("first", "the mean of gradients"),
        Slot("second", "the mean of their squares"),
        Slot("steps", "steps taken", per="run"),
    ),
    {"momentum": 0.9},
)


def native_torch(beta2: float = BETA2) -> Any:
    import torch

    native = module_of("torch", "optimizers").Native

    def make(groups: Any, settings: Settings, fused: bool) -> Any:
        betas = settings.momentum, beta2
        return torch.optim.Adam(groups, 1.0, betas, EPSILON, fused=fused)

    return native(make, {"first": "exp_avg", "second": "exp_avg_sq", "steps": "step"})


def native_flax() -> Any:
    import optax

    native = module_of("flax", "optimizers").Native

    def make(settings: Settings, decayed: Any) -> Any:
        decay = optax.add_decayed_weights(settings.weight_decay, decayed)
        return optax.chain(decay, optax.scale_by_adam(settings.momentum, BETA2, EPSILON))

    return native(make, {"first": "mu", "second": "nu", "steps": "count"})


def native_mindspore() -> Any:
    from mindspore import ParameterTuple, nn, ops

    module = module_of("mindspore", "descents")
    assigned, scaled, with_decay = module.assigned, module.scaled, module.with_decay

    def move(
        beta1: float, rate: Any, finite: Any, t: Any, factor: Any, weight: Any, *rest: Any
    ) -> Any:
        first, second, g = rest
        mean = beta1 * first + (1 - beta1) * g
        square = BETA2 * second + (1 - BETA2) * g * g
        assigned(finite, first, mean)
        assigned(finite, second, square)
        step = mean / (1 - beta1**t) / (ops.sqrt(square / (1 - BETA2**t)) + EPSILON)
        return assigned(finite, weight, weight - scaled(rate, factor) * step)

    class Adam(nn.Cell):
        def __init__(self, settings: Settings, trained: Any) -> None:
            super().__init__(auto_prefix=False)
            self.weights = ParameterTuple(trained.weights)
            self.first = ParameterTuple(trained.slots["first"])
            self.second = ParameterTuple(trained.slots["second"])
            (self.steps,) = trained.slots["steps"]
            self.decays, self.factors = tuple(trained.decays), tuple(trained.factors)
            self.beta1 = settings.momentum
            self.map = ops.HyperMap()

        def construct(self, rate: Any, finite: Any, gradients: Any) -> Any:
            t = self.steps + 1.0
            decayed = self.map(with_decay, self.decays, self.weights, gradients)
            step = ops.partial(move, self.beta1, rate, finite, t)
            fixed = self.factors, self.weights, self.first, self.second
            return (*self.map(step, *fixed, decayed), assigned(finite, self.steps, t))

    return Adam


NATIVE = {"torch": native_torch, "flax": native_flax, "mindspore": native_mindspore}


def table_of(backend: str) -> dict[str, Any]:
    return module_of(backend, "optimizers").OPTIMIZERS


@pytest.fixture(scope="module", autouse=True)
def added() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIMIZERS, "thrown", ROW)
        for name in FRAMEWORKS:
            patch.setitem(table_of(name), "thrown", NATIVE[name]())
        yield


@cache
def setup() -> Setup:
    settings = {"kind": "thrown", "momentum": 0.8, "weight_decay": 0.02, "decay_norms": False}
    return make_setup(CASE.plan, make_recipe(4, optimizer=settings, head_rate=2.0))


@cache
def floors() -> Floors:
    return Floors(reference_of(setup()), "float32")


@cache
def side(backend: str) -> Side:
    return Side(backend, setup())


@pytest.mark.parametrize("backend", OTHERS)
def test_all_that_it_keeps_is_in_the_state_in_one_order(backend: str) -> None:
    plan, state = setup().plan, side(backend).state
    first, second = ([f"{family}/{name}" for name in plan.trainable] for family in FAMILIES[:2])
    tensors = [tensor.name for tensor in plan.tensors]
    assert list(state) == [*tensors, *first, *second, "steps/count"]
    assert state["steps/count"].shape == ()
    assert not any(state[name].any() for name in (*first, *second, "steps/count"))
    assert side(backend).stepped["steps/count"] == 1.0


@pytest.mark.parametrize("backend", OTHERS)
def test_every_slot_is_compared_and_equal(backend: str) -> None:
    got, expected = side(backend), floors()
    row = judge("update", got, expected)
    slots = [slot.name_for("fc.weight") for slot in slots_of(setup().recipe.optimizer)]
    assert {"fc.weight", *slots} <= {item.name for item in row.items}
    assert not row.is_wrong, row.worst
    assert not judge("trajectory", got, expected).is_wrong
    assert search("update", got, expected) is None


@pytest.mark.skipif("torch" not in FRAMEWORKS, reason="needs torch")
def test_a_fault_in_the_second_slot_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table_of("torch"), "thrown", native_torch(beta2=0.98))
    wrong = Side("torch", setup())
    row = judge("update", wrong, floors())
    different = {item.name for item in row.items if item.verdict == "different"}
    # At the first step the means are those of one gradient, whatever their decay.
    assert different == {f"second/{name}" for name in setup().plan.trainable}
    finding = search("update", wrong, floors())
    assert finding is not None
    assert (finding.node, finding.cause) == ("conv1.weight", "")
    assert re.match(r"step 1: second is off by \S+ roundings$", finding.detail)


@pytest.mark.parametrize(("setting", "value"), [("weight_decay", 0.01), ("decay_norms", True)])
def test_what_any_optimiser_can_get_wrong_is_found(setting: str, value: float) -> None:
    recipe = setup().recipe
    settings = recipe.optimizer.model_copy(update={setting: value})
    other = recipe.model_copy(update={"optimizer": settings})
    finding = search("update", Side(OTHERS[0], replace(setup(), recipe=other)), floors())
    assert finding is not None
    assert finding.cause == ("decayed tensors" if setting == "decay_norms" else "weight decay")


ROUND = [("torch", "flax"), ("flax", "mindspore"), ("mindspore", "torch")]
PAIRS = [
    pytest.param(*pair, marks=() if pair in ROUND else pytest.mark.thorough)
    for pair in permutations(FRAMEWORKS, 2)
]


@pytest.mark.parametrize(("giver", "taker"), PAIRS)
def test_a_run_is_handed_over_with_all_that_it_keeps(
    giver: str, taker: str, tmp_path: Path
) -> None:
    start = side(giver).session
    start.train(iter(setup().batches[:2]), setup().rates[:2])
    state = start.state()
    assert state["steps/count"] == 2.0
    save_checkpoint(tmp_path / "last.safetensors", Checkpoint(CASE.spec, state, setup().recipe))
    read = load_checkpoint(tmp_path / "last.safetensors")
    assert read.recipe == setup().recipe
    assert set(read.evaluated().state) == {tensor.name for tensor in setup().plan.tensors}
    rest = replace(setup(), state=read.state, batches=setup().batches[2:], rates=setup().rates[2:])
    taken = Side(taker, rest)  # In the session that there is: another would compile anew.
    taken.__dict__["_session"] = side(taker)._session
    for name, array in state.items():
        assert array.tobytes() == taken.state[name].tobytes(), name
    row = judge("update", taken, Floors(reference_of(rest), "float32"))
    assert not row.is_wrong, row.worst
    assert taken.stepped["steps/count"] == 3.0


def test_the_slots_of_another_optimiser_are_refused() -> None:
    session = Side("numpy", replace(setup(), recipe=make_recipe(4))).session
    with pytest.raises(CheckpointError, match=r"first/conv1\.weight: is unexpected"):
        session.load(side("numpy").stepped)


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_a_backend_without_it_says_so(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(table_of(backend), "thrown")
    with pytest.raises(BackendError) as caught:
        load_backend(backend).Session(setup().plan, setup().recipe)
    (line,) = caught.value.problems
    assert line.startswith(f"optimizer.kind = thrown: is not one of {backend}'s optimisers; ")
    assert "sgd" in line


def test_an_unknown_one_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(steps=1, optimizer={"kind": "throw"})
    line = "optimizer.kind = throw: is not a known optimiser; did you mean 'thrown'?"
    assert caught.value.problems == (line,)


def test_a_family_is_the_same_in_all_optimisers() -> None:
    for row in OPTIMIZERS.values():
        for slot in row.slots:
            assert known_slots()[slot.family].per == slot.per
            assert known_slots()[slot.family].first == slot.first


def test_every_backend_has_every_optimiser() -> None:
    for name in FRAMEWORKS:
        assert set(table_of(name)) == set(OPTIMIZERS)


def test_slots_are_named_in_rows_alone() -> None:
    families = "|".join(slot.family for row in OPTIMIZERS.values() for slot in row.slots)
    written = re.compile(rf"""["']({families})/""")
    sources = [*(ROOT / "resnet_spec").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]
    assert written.search('x = f"momentum/{name}"')
    assert [p.name for p in sources if written.search(p.read_text(encoding="utf-8"))] == []
