"""What a torch session predicts by: folded, fused, kept, and ever of the weights as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES
from small_plans import BASIC, PRE_ACTIVATION, SIZE, small_plan

from resnet_spec.contract import Array, Batch, Precision
from resnet_spec.folding import fold_norms
from resnet_spec.ops import Chain
from resnet_spec.parity.setup import worn_state
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe

torch = pytest.importorskip("torch")

from resnet_spec_torch import fused, lean  # noqa: E402
from resnet_spec_torch.modules import build  # noqa: E402
from resnet_spec_torch.session import Session  # noqa: E402

Change = Callable[[Any], object]


def batch(n: int = 4, seed: int = 0, size: int = SIZE) -> Batch:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return Batch(images, random.integers(0, 5, n), np.arange(n))


def made(plan: Plan, seed: int = 0, precision: Precision = "float32") -> Session:
    session = Session(plan, Recipe(steps=1, batch=4), device="cpu", precision=precision)
    session.load(worn_state(plan, seed))
    return session


def predicted(session: Session, given: Batch | None = None) -> Array:
    return next(session.predict([batch() if given is None else given]))


def as_it_stands(session: Session, given: Batch | None = None) -> Array:
    """Return what the module itself predicts."""
    kept, session._lean = session._lean, None
    try:
        return predicted(session, given)
    finally:
        session._lean = kept


def is_lean(session: Session) -> bool:
    """Return whether the next batch would be predicted by the lean network, if all goes well."""
    assert session._lean is not None
    return session._lean.of(session.native, session._weights()) is not None


def close(got: Array, expected: Array) -> bool:
    return bool(np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max())


# --- The same logits ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_the_module_does(
    name: str, is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_fused:
        monkeypatch.setattr(lean, "can_fuse", lambda *_: False)
    plan = CASES[name].plan
    session = made(plan)
    size = plan.input.height, plan.input.width, plan.input.channels
    for n in (4, 1, 3):
        images = np.random.default_rng(n).integers(0, 256, (n, *size), dtype=np.uint8)
        given = Batch(images, np.zeros(n, np.int64), np.arange(n))
        assert close(predicted(session, given), as_it_stands(session, given))
    assert session._lean is not None and session._lean._made is not None
    assert isinstance(session._lean._made.predict, fused.Fused) == is_fused
    assert is_lean(session)


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_in_bfloat16_it_is_as_exact_as_the_module(
    name: str, is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is off the logits in float64 by what its roundings are; they differ in nothing else."""
    if not is_fused:
        monkeypatch.setattr(lean, "can_fuse", lambda *_: False)
    plan = CASES[name].plan
    session, exact = made(plan, precision="bfloat16"), made(plan, precision="float64")
    size = plan.input.height, plan.input.width, plan.input.channels
    images = np.random.default_rng(0).integers(0, 256, (16, *size), dtype=np.uint8)
    given = Batch(images, np.zeros(16, np.int64), np.arange(16))
    got, expected = predicted(session, given), predicted(exact, given)
    own = as_it_stands(session, given)
    assert is_lean(session) and got.dtype == np.float32
    assert np.abs(got - expected).mean() <= 2 * np.abs(own - expected).mean()


def test_convolutions_are_fused() -> None:
    session = made(small_plan({}))
    predicted(session)
    assert session._lean is not None and session._lean._made is not None
    network: Any = session._lean._made.predict
    kinds = [type(module).__name__ for module in network.modules()]
    assert kinds.count("FusedConv2d") == 8 and kinds.count("FusedResidual") == 3
    assert not {"Conv2d", "BatchNorm2d", "ReLU", "Add"} & set(kinds)


@pytest.mark.parametrize("fields", [BASIC, PRE_ACTIVATION])
def test_images_keep_their_bits(fields: dict[str, Any]) -> None:
    """Also where the first layer is a block, which overwrites what it is given."""
    whole = small_plan(fields | {"squeeze": 0})
    node = whole.blocks[1]
    while "." in node.name:
        node = Chain(node.name.rpartition(".")[0], children=(node,))
    plan = Plan("block", whole.input, 5, Chain("", children=(node,)))
    folded = fold_norms(plan, worn_state(whole, 0))
    network = build(folded.plan, folded.state).eval()
    x = torch.randn(2, *plan.ops[0].in_shape).contiguous(memory_format=torch.channels_last)
    images = x.clone()
    with torch.inference_mode():
        got = fused.Fused(network, folded.plan, folded.state)(x)
        assert torch.equal(x, images)
        expected = network(x)
    assert got is not None and torch.allclose(got, expected, atol=1e-5)


def test_a_single_window_is_a_product() -> None:
    """Also as the last of a block's body, which adds the shortcut."""
    session = made(CASES["one_pixel"].plan)
    predicted(session, batch(size=CASES["one_pixel"].plan.input.height))
    assert session._lean is not None and session._lean._made is not None
    network: Any = session._lean._made.predict
    kinds = {name: type(module).__name__ for name, module in network.named_modules()}
    found = [name for name, kind in kinds.items() if kind == "FusedOnePixelConv2d"]
    assert any(name.endswith(".last") for name in found)
    assert any(not name.endswith(".last") for name in found)


def test_a_sum_with_its_own_input() -> None:
    """A body of one convolution reads what it adds to."""
    conv = torch.nn.Conv2d(8, 8, 3, padding=1)
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = torch.relu(x + conv(x))
        got = fused.FusedConv2d("conv", conv, "relu").added_to(x, x)
    assert torch.allclose(got, expected, atol=1e-6)


# --- Of the weights as they are -------------------------------------------------------------------


def test_it_is_made_once() -> None:
    session = made(small_plan(BASIC))
    first = predicted(session)
    kept = session._lean._made if session._lean else None
    assert kept is not None
    assert np.array_equal(predicted(session), first)
    assert session._lean is not None and session._lean._made is kept


CHANGES: dict[str, Change] = {
    "train": lambda it: it.train([batch()], np.array([0.1])),
    "load": lambda it: it.load(worn_state(small_plan(BASIC), 7)),
    "in place": lambda it: it.native.conv1.weight.detach().mul_(1.5),
    "data": lambda it: it.native.conv1.weight.data.mul_(1.5),
    "one bit": lambda it: it.native.fc.bias.data.view(torch.int32)[0].bitwise_xor_(1 << 20),
    "a statistic": lambda it: it.native.bn1.running_var.data.mul_(2),
    "another parameter": lambda it: setattr(
        it.native.conv1, "weight", torch.nn.Parameter(torch.randn(8, 3, 3, 3))
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_weights_is_seen(change: str) -> None:
    plan = small_plan(BASIC)
    session = made(plan)
    before = predicted(session)
    CHANGES[change](session)
    got = predicted(session)
    assert not np.array_equal(got, before) and is_lean(session)
    other = Session(plan, Recipe(steps=1, batch=4), device="cpu")
    other.load(session.state())
    assert np.array_equal(predicted(other), got)
    assert close(got, as_it_stands(session))


def test_the_same_bytes_read_in_another_order_are_other_weights() -> None:
    session = made(small_plan(BASIC))
    kernel: Any = session.native.get_parameter("conv1.weight")
    assert kernel.shape[1:] == (3, 3, 3)  # [O, 3, 3, 3] in either order.
    kernel.data = kernel.data.contiguous()
    before = predicted(session)
    kernel.data = kernel.data.permute(0, 3, 1, 2)
    after = predicted(session)
    assert close(after, as_it_stands(session)) and not close(after, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_no_image_has_no_logits(precision: Precision) -> None:
    session = made(small_plan({}), precision=precision)
    assert predicted(session, batch(0)).shape == (0, predicted(session).shape[1])


def test_a_change_between_two_batches_is_seen() -> None:
    session = made(small_plan(BASIC))
    under_way = session.predict([batch(), batch()])
    first = next(under_way)
    session.load(worn_state(small_plan(BASIC), 7))
    second = next(under_way)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, as_it_stands(session))


def test_whoever_takes_logits_may_train_meanwhile() -> None:
    session = made(small_plan(BASIC))
    session.native.train()
    for _ in session.predict([batch(), batch()]):
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
        assert all(part.training for part in session.native.modules())
        session.train([batch()], np.array([0.1]))


class Doubled(torch.nn.ReLU):  # pyright: ignore[reportUntypedBaseClass]
    def forward(self, input: Any) -> Any:
        return 2 * super().forward(input)


def _double_in_place(it: Any) -> None:
    it.native.act1.forward = lambda x: 2 * torch.relu(x)


SURGERY: dict[str, Change] = {
    "replaced": lambda it: setattr(it.native, "act1", Doubled()),
    "class": lambda it: setattr(it.native.act1, "__class__", Doubled),
    "method": _double_in_place,
    "hook": lambda it: it.native.layer1[0].register_forward_hook(lambda m, i, y: 2 * y),
    "hook before": lambda it: it.native.fc.register_forward_pre_hook(lambda m, i: (2 * i[0],)),
    "number": lambda it: setattr(it.native.bn1, "eps", 0.5),
    "stride": lambda it: setattr(it.native.conv1, "padding", (2, 2)),
    "deleted": lambda it: delattr(it.native.layer1[0], "act1"),
    "type": lambda it: it.native.double(),
}


@pytest.mark.parametrize("change", SURGERY)
def test_a_module_that_was_changed_predicts_as_it_stands(change: str) -> None:
    session = made(small_plan(BASIC))
    before = predicted(session)
    SURGERY[change](session)
    assert not is_lean(session)
    if change == "type":  # Its images are float32, which a module in float64 refuses.
        return
    got = predicted(session)
    assert not close(got, before)
    assert np.array_equal(got, as_it_stands(session))


@pytest.mark.parametrize("precision", ["float64", "float16"])
def test_other_precisions_predict_as_they_stand(precision: Precision) -> None:
    assert Session(small_plan(BASIC), device="cpu", precision=precision)._lean is None


# --- Nothing hidden -------------------------------------------------------------------------------


def test_the_fused_relu_hides_nan() -> None:
    """Why magnitudes are looked at; where this fails, that is needed no more."""
    conv = torch.nn.Conv2d(8, 8, 3, padding=1)
    x = torch.full((1, 8, 6, 6), torch.nan).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.relu(conv(x)).isnan().all()
        assert not fused.FusedConv2d("conv", conv, "relu")(x).isnan().any()


@pytest.mark.parametrize("place", ["conv1.weight", "layer1.1.conv1.weight", "layer2.0.bn2.weight"])
@pytest.mark.parametrize("factor", [1e30, 1e38, np.inf, np.nan])
def test_an_overflow_is_not_hidden(place: str, factor: float) -> None:
    plan = small_plan({})
    state = worn_state(plan, 0)
    with np.errstate(over="ignore"):
        state[place] = (state[place] * np.float32(factor)).astype(np.float32)
    session = Session(plan, device="cpu")
    session.load(state)
    got = predicted(session)
    assert np.allclose(got, as_it_stands(session), 1e-4, atol=0, equal_nan=True)
    assert np.isfinite(got).all() == (factor == 1e30)


@pytest.mark.parametrize("factor", [1e30, 3e38, np.nan])
def test_an_overflow_is_not_hidden_in_bfloat16(factor: float) -> None:
    """Whose largest value is a little smaller than that of float32."""
    plan = small_plan({})
    state = worn_state(plan, 0)
    scale = state["layer2.0.bn2.weight"]
    scale[:] = np.float32(factor) if np.isnan(factor) else factor * np.sign(scale)
    session = Session(plan, device="cpu", precision="bfloat16")
    session.load(state)
    got = predicted(session)
    assert np.array_equal(np.isfinite(got), np.isfinite(as_it_stands(session)))
    assert np.isfinite(got).all() == (factor == 1e30)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_images_that_are_not_finite_are_not_hidden(value: float, precision: Precision) -> None:
    session = made(small_plan({}), precision=precision)
    images = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)
    images[1, 3, 3, 0] = value
    given = Batch(images, np.zeros(4, np.int64), np.arange(4))
    got = predicted(session, given)
    assert np.array_equal(got, as_it_stands(session, given), equal_nan=True)
