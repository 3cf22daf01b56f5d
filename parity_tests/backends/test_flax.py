"""The Flax backend against the float64 reference, and what is Flax's own about it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch, State, StepLog
from resnet_spec.describing.spec import Spec
from resnet_spec.errors import BackendError, CheckpointError
from resnet_spec.loader import load_backend
from resnet_spec.ops import DropPath, Node
from resnet_spec.plan import Plan, walk
from resnet_spec.planning.initial_weights import initial_state
from resnet_spec.planning.lowering import lower
from resnet_spec.recipe import Recipe

jax = pytest.importorskip("jax")
jnp = jax.numpy
nnx = pytest.importorskip("flax.nnx")
optax = pytest.importorskip("optax")
backend: Any = load_backend("flax")
layers: Any = importlib.import_module(f"{backend.__name__}.layers")
reference: Any = load_backend("numpy")

CLASSES = 4
COUNT = 4
STAGES = [{"width": 6, "blocks": 1}, {"width": 8, "blocks": 1, "stride": 2}]
SMALL_STEM = {"widths": [6], "kernel": 3, "stride": 1, "pool": False}

# What XLA compiles is the most of a test's time: three networks share out the options.
CASES: dict[str, tuple[dict[str, Any], int | tuple[int, int]]] = {
    # Odd sizes cut the average pool's last window off; the last map is smaller than its kernel.
    "bottleneck": (
        {
            "block": "bottleneck",
            "expansion": 2,
            "stem": {"widths": [4, 6], "kernel": 3, "stride": 2, "pool": True},
            "stages": [{"width": 6, "blocks": 2}, {"width": 8, "blocks": 1, "stride": 2}],
            "groups": 2,
            "squeeze": 0.25,
            "downsample": "avg_pool",
            "stochastic_depth": 0.5,
            "dropout": 0.25,
            "input": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        },
        (9, 13),
    ),
    "pre_activation": (
        {
            "block": "basic",
            "order": "pre_activation",
            "stem": {"widths": [6], "kernel": 3, "stride": 2, "pool": True},
            "stages": [{"width": 6, "blocks": 1}, {"width": 8, "blocks": 2, "dilation": 2}],
            "padding": "same",
            "norm": {"variance": "biased", "eps": 1e-3, "decay": 0.8},
            "dropout": 0.25,
        },
        16,
    ),
    "zero_pad": (
        {
            "block": "basic",
            "stem": SMALL_STEM,
            "stages": STAGES,
            "shortcut": "zero_pad",
            "zero_pad_at": "both",
        },
        11,
    ),
    # For everything that needs a network of its own compiled.
    "tiny": (
        {
            "block": "basic",
            "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
            "stages": [{"width": 4, "blocks": 2}],
            "stochastic_depth": 0.5,
            "dropout": 0.25,
        },
        8,
    ),
}

RECIPE = Recipe(
    steps=20,
    batch=2 * COUNT,
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
RATES = 0.02 * 0.5 * (1 + np.cos(np.linspace(0, 3, 20)))


# --- Helpers --------------------------------------------------------------------------------------


@cache
def plan_of(case: str = "zero_pad") -> Plan:
    fields, size = CASES[case]
    return lower(Spec(classes=CLASSES, **fields), size)


def state_of(plan: Plan, seed: int = 0) -> State:
    """Initial weights, with norms and biases moved away from their trivial values."""
    generator = np.random.default_rng(seed)
    state = initial_state(plan, seed)
    for array in state.values():
        if array.ndim == 1:
            array += generator.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    return state


def batch_of(plan: Plan, seed: int = 0, count: int = COUNT) -> Batch:
    generator = np.random.default_rng(seed)
    shape = (count, plan.input.height, plan.input.width, plan.input.channels)
    noise = {}
    for op in plan.noises:
        size = (count,) if isinstance(op, DropPath) else (count, op.in_shape[0])
        kept = generator.integers(0, 2, size) / (1 - op.rate)
        noise[op.name] = kept.astype(np.float32)
    return Batch(
        images=generator.integers(0, 256, shape, dtype=np.uint8),
        labels=generator.integers(0, plan.classes, count),
        indices=np.arange(count),
        noise=noise,
    )


def batches_of(plan: Plan) -> list[Batch]:
    return [batch_of(plan, seed, RECIPE.batch) for seed in range(20)]


@cache
def _session(case: str, precision: str) -> Any:
    return backend.Session(plan_of(case), RECIPE, device="cpu", precision=precision)


def session_of(case: str = "zero_pad", precision: str = "float32") -> Any:
    """Return a session that the tests share, so that each network is compiled once."""
    session = _session(case, precision)
    session.load(state_of(plan_of(case)))
    return session


def reference_of(case: str, recipe: Recipe = RECIPE) -> Any:
    session = reference.Session(plan_of(case), recipe, precision="float64")
    session.load(state_of(plan_of(case)))
    return session


@cache
def reference_run(case: str, recipe: Recipe = RECIPE) -> tuple[StepLog, State]:
    session = reference_of(case, recipe)
    log = session.train(iter(batches_of(plan_of(case))), RATES)
    return log, session.state()


def assert_close(got: Any, expected: Any, tolerance: float, what: str) -> None:
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, what
    error = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-6)
    assert error <= tolerance, f"{what}: {error:.2e} > {tolerance:.0e}"


def assert_states_close(got: State, expected: State, tolerance: float) -> None:
    assert list(got) == list(expected) and expected
    for name, array in expected.items():
        assert_close(got[name], array, tolerance, name)


def assert_identical(got: State, expected: State) -> None:
    assert list(got) == list(expected) and expected
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name


def check_passes(session: Any, case: str, tolerance: float) -> None:
    """Compare logits, training activations, loss and gradients with the reference."""
    batch, exact = batch_of(plan_of(case)), reference_of(case)
    logits, expected_logits = (next(s.predict([batch])) for s in (session, exact))
    assert_close(logits, expected_logits, tolerance, "logits")
    got, expected = (dict(s.activations(batch, train=True)) for s in (session, exact))
    assert_states_close(got, expected, tolerance)
    (loss, got), (expected_loss, expected) = (s.gradients(batch) for s in (session, exact))
    assert_close(loss, expected_loss, tolerance, "loss")
    assert_states_close(got, expected, 10 * tolerance)


# --- Numbers --------------------------------------------------------------------------------------

# Relative errors of one pass, of 20 losses, and of the state after them. Measured at most, over
# these cases: 2e-15, 7e-16, 1e-14 in float64 and 1e-6, 2e-7, 8e-6 in float32; gradients, which
# are granted ten times the first: 1e-14 and 9e-6.
TOLERANCES = {"float64": (1e-13, 1e-13, 1e-12), "float32": (1e-5, 1e-6, 5e-5)}


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        ("zero_pad", "float64"),
        ("pre_activation", "float64"),
        ("bottleneck", "float32"),
        ("zero_pad", "float32"),
    ],
)
def test_agrees_with_the_reference(case: str, precision: str) -> None:
    tolerance, loss_tolerance, state_tolerance = TOLERANCES[precision]
    session = session_of(case, precision)
    check_passes(session, case, tolerance)
    expected_log, expected = reference_run(case)
    log = session.train(iter(batches_of(plan_of(case))), RATES)
    assert_close(log.loss, expected_log.loss, loss_tolerance, "losses")
    assert np.array_equal(log.correct, expected_log.correct) and expected_log.correct.sum() > 0
    assert log.count.tolist() == [RECIPE.batch] * 20
    assert (log.loss.dtype, log.correct.dtype) == (np.float64, np.int64)
    assert_states_close(session.state(), expected, state_tolerance)


def test_the_cases_cover_every_op_and_both_convolutions() -> None:
    nodes: list[Node] = [node for case in CASES for node in walk(plan_of(case).root)]
    kinds = {type(node).__name__ for node in nodes}
    assert {"AvgPool", "MaxPool", "PadChannels", "Gate", "Dropout", "DropPath", "Flatten"} <= kinds
    functions = set()
    for case in CASES:
        network = nnx.eval_shape(partial(backend.build, plan_of(case)))
        modules = [module for _, module in nnx.iter_modules(network)]
        functions |= {m.conv_general_dilated for m in modules if isinstance(m, nnx.Conv)}
    assert functions == {layers.product, jax.lax.conv_general_dilated}


def _perturb_weight(native: Any) -> None:
    native.layer1[0].conv1.kernel[...] = native.layer1[0].conv1.kernel[...].at[0, 0, 0, 0].add(1e-6)


def _transpose_weight(native: Any) -> None:
    native.layer1[0].conv1.kernel[...] = native.layer1[0].conv1.kernel[...].swapaxes(0, 1)


def _raise_eps(native: Any) -> None:
    native.bn1.epsilon = 1.001e-5


def _shift_pad(native: Any) -> None:
    native.conv1.padding = ((0, 2), (1, 1))


def _shorten_decay(native: Any) -> None:
    native.layer1[1].bn2.momentum = 0.91


def _swap_variance(native: Any) -> None:
    native.bn1.unbiased = False


@pytest.mark.parametrize(
    "plant",
    [_perturb_weight, _transpose_weight, _raise_eps, _shift_pad, _shorten_decay, _swap_variance],
)
def test_planted_faults_are_found(plant: Callable[[Any], None]) -> None:
    batch = batch_of(plan_of("tiny"), count=RECIPE.batch)
    session, exact = session_of("tiny", "float64"), reference_of("tiny")
    graphdef, state = nnx.split(session.native)
    with jax.enable_x64(True):
        plant(session.native)
    try:
        for one in (session, exact):
            one.train([batch], RATES[:1])
        got, expected = session.state(), exact.state()
        with pytest.raises(AssertionError, match=" > 1e-12"):
            assert_states_close(got, expected, 1e-12)
    finally:
        session.native = nnx.merge(graphdef, state)


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
def test_another_recipe_is_told_apart(change: dict[str, Any]) -> None:
    fields = RECIPE.to_dict()
    optimizer = fields["optimizer"] | change.get("optimizer", {})
    other = Recipe.from_dict(fields | change | {"optimizer": optimizer})
    session, exact = session_of(precision="float64"), reference_of("zero_pad", other)
    batches = batches_of(plan_of())[:2]
    for one in (session, exact):
        one.train(batches, RATES[:2])
    with pytest.raises(AssertionError, match=" > 1e-12"):
        assert_states_close(session.state(), exact.state(), 1e-12)


def test_statistics_in_float32_are_within_rounding_where_the_mean_is_large() -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((64, 16, 16, 3)) + 100.0).astype(np.float32)

    def error_of(norm: Any, dtype: Any = jnp.float32) -> float:
        rounded = jnp.asarray(x, dtype)
        norm(rounded)
        expected = np.asarray(rounded, np.float64).var((0, 1, 2))
        return float(np.abs(np.asarray(norm.var[...]) / expected - 1).max())

    more = {"momentum": 0.0, "rngs": nnx.Rngs(0)}
    ours = partial(layers.BatchNorm, 3, unbiased=False, param_dtype=jnp.float32, **more)
    assert error_of(ours()) < 1e-6
    assert error_of(ours(dtype=jnp.bfloat16), jnp.bfloat16) < 1e-6
    assert error_of(nnx.BatchNorm(3, **more)) > 1e-5


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_a_product_is_a_convolution(kernel: int, stride: int, dilation: int) -> None:
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.standard_normal((2, 8, 7, 3)), jnp.float32)
    weight = jnp.asarray(generator.standard_normal((kernel, kernel, 3, 5)), jnp.float32)
    convolve = partial(
        nnx.Conv,
        3,
        5,
        (kernel, kernel),
        strides=(stride, stride),
        padding=((1, 2), (0, 3)),
        kernel_dilation=(dilation, dilation),
        use_bias=False,
        rngs=nnx.Rngs(0),
    )
    outputs = []
    for function in (layers.product, jax.lax.conv_general_dilated):
        conv = convolve(conv_general_dilated=function)
        conv.kernel[...] = weight
        outputs.append(conv(x))
    assert_close(outputs[0], outputs[1], 1e-6, "output")


# --- State ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_resume_is_bit_identical(precision: str) -> None:
    batches = batches_of(plan_of())[:6]
    session = session_of(precision=precision)
    losses = session.train(batches, RATES[:6]).loss
    whole = session.state()
    session = session_of(precision=precision)
    session.train(batches[:3], RATES[:3])
    middle = session.state()
    session.train(batches[:1], RATES[:1])
    session.load(middle)
    assert_identical(session.state(), middle)
    assert np.array_equal(session.train(batches[3:], RATES[3:6]).loss, losses[3:])
    assert_identical(session.state(), whole)


def test_another_session_takes_over_to_the_bit() -> None:
    plan = plan_of("tiny")
    batches = batches_of(plan)[:4]
    first = session_of("tiny", "float16")
    first.train(batches, RATES[:4])
    whole = first.state()
    first.load(state_of(plan))
    first.train(batches[:2], RATES[:2])
    second = backend.Session(plan, RECIPE, device="cpu", precision="float16")
    second.load(first.state())
    second.train(batches[2:], RATES[2:4])
    assert_identical(second.state(), whole)
    assert {"loss_scale/scale", "loss_scale/good_steps"} <= set(whole)


def test_a_fresh_load_resets_the_slots() -> None:
    plan, weights = plan_of(), state_of(plan_of())
    session = session_of()
    session.train(batches_of(plan)[:1], RATES[:1])
    session.load(weights)
    state = session.state()
    assert all(np.array_equal(state[name], a) for name, a in weights.items())
    assert all(np.array_equal(state[f"ema/{name}"], a) for name, a in weights.items())
    assert not any(state[f"momentum/{name}"].any() for name in plan.trainable)
    recipe = Recipe(steps=1, optimizer={"momentum": 0.0})
    assert set(backend.Session(plan, recipe).state()) == set(weights)


def test_state_is_owned_by_its_receiver() -> None:
    plan, given = plan_of(), state_of(plan_of())
    session = session_of()
    session.load(given)
    for array in given.values():
        array += 1.0
    taken = session.state()
    assert_identical({name: taken[name] for name in given}, state_of(plan))
    before = {name: array.copy() for name, array in taken.items()}
    session.train(batches_of(plan)[:2], RATES[:2])
    assert_identical(taken, before)
    for array in taken.values():
        assert array.flags["C_CONTIGUOUS"] and array.flags["OWNDATA"]
        assert array.dtype == np.float32
        array += 1.0
    assert not np.array_equal(session.state()["conv1.weight"], taken["conv1.weight"])


def test_training_leaves_arrays_taken_from_the_module_alone() -> None:
    session = session_of()
    kernel = session.native.conv1.kernel.get_value()
    before = np.array(kernel)
    session.train(batches_of(plan_of())[:2], RATES[:2])
    assert np.array_equal(kernel, before)
    assert not np.array_equal(session.native.conv1.kernel[...], before)


def test_gradients_activations_and_predict_change_nothing() -> None:
    session = session_of("bottleneck")
    batch = batch_of(plan_of("bottleneck"))
    session.train(batches_of(plan_of("bottleneck"))[:1], RATES[:1])
    state = session.state()
    graphdef, before = nnx.split(session.native)
    session.gradients(batch)
    for train in (False, True):
        list(session.activations(batch, train=train))
    list(session.predict([batch]))
    assert_identical(session.state(), state)
    after = nnx.split(session.native)
    assert after[0] == graphdef
    pairs = zip(jax.tree.leaves(after[1]), jax.tree.leaves(before), strict=True)
    assert all(a is b for a, b in pairs)


def test_load_lists_every_wrong_name_and_changes_nothing() -> None:
    plan = plan_of()
    session = session_of()
    before = session.state()
    wrong = {name: a + 1 for name, a in before.items()}
    wrong["stray"] = wrong.pop("fc.bias")
    wrong["conv1.weight"] = wrong["conv1.weight"][:1]
    del wrong["momentum/fc.weight"]
    with pytest.raises(CheckpointError) as error:
        session.load(wrong)
    assert sorted(error.value.problems) == [
        "conv1.weight = [1, 3, 3, 3]: must have shape [6, 3, 3, 3]",
        "fc.bias: is missing",
        "momentum/fc.weight: is missing",
        "stray: is unexpected",
    ]
    assert_identical(session.state(), before)
    with pytest.raises(CheckpointError, match="is missing"):
        backend.build(plan, {})


# --- Streams, noise and compilation ---------------------------------------------------------------


def test_streams_and_compiles_once() -> None:
    plan = plan_of()
    session = backend.Session(plan, RECIPE, device="cpu")
    session.load(state_of(plan))
    taken: list[int] = []

    def source(count: int) -> Iterator[Batch]:
        for i in range(100):
            taken.append(i)
            yield batch_of(plan, i, count)

    session.train(source(RECIPE.batch), RATES[:3])
    assert taken == [0, 1, 2]
    session.train(batches_of(plan)[:2], RATES[3:5])
    taken.clear()
    assert next(session.predict(source(COUNT))).shape == (COUNT, CLASSES)
    assert taken == [0]
    sizes = [4, 3, 1]
    batches = [batch_of(plan, i, n) for i, n in enumerate(sizes)]
    outputs = list(session.predict(batches))
    assert [len(y) for y in outputs] == sizes
    whole = Batch(
        np.concatenate([b.images for b in batches[1:]]), np.zeros(4, np.int64), np.arange(4)
    )
    assert_close(next(session.predict([whole])), np.concatenate(outputs[1:]), 1e-6, "logits")
    (program,) = session._programs.values()
    functions = (program.predict, program.backward, program._update)
    assert [function._cache_size() for function in functions] == [1, 1, 1]


def test_wrong_calls_give_one_line() -> None:
    plan, batch = plan_of("bottleneck"), batch_of(plan_of("bottleneck"))
    session = session_of("bottleneck")
    two = batches_of(plan)[:1]
    with pytest.raises(BackendError, match="batches = 1: must hold one batch for each of 2 rates"):
        session.train(two, RATES[:2])
    assert session.train([], RATES[:0]).loss.shape == (0,)
    with pytest.raises(BackendError, match="batch = 3: must be a multiple of accumulate = 2"):
        session.train([batch_of(plan, count=3)], RATES[:1])
    with pytest.raises(BackendError, match="recipe = None"):
        backend.Session(plan).train([batch], RATES[:1])
    with pytest.raises(BackendError, match=r"batch\.noise: lacks layer1\.1\.drop_path, .*drop"):
        session.gradients(replace(batch, noise={}))
    tiny = lower(Spec(stages=STAGES, classes=CLASSES, block="basic", stem=SMALL_STEM), 2)
    with pytest.raises(BackendError, match=r"batch = 1: leaves layer2\.0\.bn1 one value"):
        backend.Session(tiny).gradients(batch_of(tiny, count=1))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"device": "tpu9"}, r"device = tpu9: cannot be used by jax here; choose from auto.*cpu"),
        ({"device": "cpu:7"}, r"device = cpu:7: cannot be used"),
        ({"device": "cpu:x"}, r"device = cpu:x: cannot be used"),
        ({"precision": "flaot32"}, r"precision = flaot32: .*; did you mean 'float32'\?"),
    ],
)
def test_bad_devices_and_precisions_give_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(BackendError, match=line):
        backend.Session(plan_of(), **arguments)


def test_images_may_be_normalised_already() -> None:
    plan = plan_of("bottleneck")
    session, batch = session_of("bottleneck"), batch_of(plan)
    expected = next(session.predict([batch]))
    normalised = batch.images * np.array(plan.input.scale) + np.array(plan.input.shift)
    mirrored = np.ascontiguousarray(batch.images[:, :, ::-1])[:, :, ::-1]
    for images in (normalised, normalised.astype(np.float32), mirrored):
        got = next(session.predict([replace(batch, images=images)]))
        assert_close(got, expected, 1e-6, "logits")


# --- Precisions -----------------------------------------------------------------------------------


def test_sessions_of_two_precisions_live_side_by_side() -> None:
    batch = batch_of(plan_of())
    single, double = session_of(), session_of(precision="float64")
    alone = next(single.predict([batch]))
    exact = next(reference_of("zero_pad").predict([batch]))
    streams = [session.predict([batch, batch]) for session in (single, double)]
    for _ in range(2):
        got, precise = (next(stream) for stream in streams)
        assert jnp.zeros(()).dtype == jnp.float32 and not jax.config.jax_enable_x64
        assert np.array_equal(got, alone) and got.dtype == np.float32
        assert precise.dtype == np.float64
        assert_close(precise, exact, 1e-13, "logits")
    assert jax.config.jax_default_matmul_precision is None
    assert all(array.dtype == np.float64 for array in double.state().values())
    with jax.enable_x64(True):
        assert np.array_equal(next(single.predict([batch])), alone)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precisions_keep_weights_in_float32(precision: str) -> None:
    plan, batch = plan_of("tiny"), batch_of(plan_of("tiny"))
    session = session_of("tiny", precision)
    assert session.info["math"] == f"computes in {precision}"
    loss, got = session.gradients(batch)
    exact, expected = reference_of("tiny").gradients(batch)
    assert abs(loss - exact) < 0.02
    error = np.abs(got["fc.weight"] - expected["fc.weight"]).max()
    assert 1e-5 < error / np.abs(expected["fc.weight"]).max() < 0.05
    session.train(batches_of(plan)[:1], RATES[:1])
    assert all(array.dtype == np.float32 for array in session.state().values())


def test_an_overflow_in_float16_skips_the_step_and_halves_the_scale() -> None:
    plan = plan_of("tiny")
    session = session_of("tiny", "float16")
    fresh = session.state()
    assert fresh["loss_scale/scale"] == 2.0**16 and fresh["loss_scale/good_steps"] == 0
    scale, good = np.float32(2.0**40), np.float32(7)
    session.load(fresh | {"loss_scale/scale": scale, "loss_scale/good_steps": good})
    session.train(batches_of(plan)[:1], RATES[:1])
    state = session.state()
    assert all(np.array_equal(state[name], fresh[name]) for name in plan.trainable)
    assert not any(state[f"momentum/{name}"].any() for name in plan.trainable)
    assert state["loss_scale/scale"] == 2.0**39 and state["loss_scale/good_steps"] == 0
    ready = {"loss_scale/scale": np.float32(256.0), "loss_scale/good_steps": np.float32(1999)}
    session.load(fresh | ready)
    session.train(batches_of(plan)[:1], RATES[:1])
    state = session.state()
    assert not np.array_equal(state["fc.weight"], fresh["fc.weight"])
    assert state["loss_scale/scale"] == 512.0 and state["loss_scale/good_steps"] == 0


def test_float32_products_are_not_computed_in_less() -> None:
    """Without this, accelerators take TF32 or bfloat16."""
    lowered = {}
    for precision in ("float32", "bfloat16"):
        session = backend.Session(plan_of(), device="cpu", precision=precision)
        with session._settings():
            program, weights = session._program()
            lowered[precision] = program.predict.lower(weights, batch_of(plan_of()).images)
    convolutions = [x for x in lowered["float32"].as_text().splitlines() if "convolution(" in x]
    assert convolutions and all("HIGHEST" in line for line in convolutions)
    assert "HIGHEST" not in lowered["bfloat16"].as_text()


def test_info_names_what_is_in_force() -> None:
    info = session_of().info
    assert info["framework"] == "flax" and info["jax"] == jax.__version__
    assert (info["device"], info["precision"], info["math"]) == ("cpu", "float32", "strict")
    assert all(isinstance(value, str) for value in info.values())


# --- The native module ----------------------------------------------------------------------------


def test_paths_are_the_plans_names() -> None:
    leaves = {
        "conv_weight": "kernel",
        "linear_weight": "kernel",
        "bias": "bias",
        "norm_scale": "scale",
        "norm_shift": "bias",
        "running_mean": "mean",
        "running_var": "var",
    }
    for case in CASES:
        plan = plan_of(case)
        module = nnx.eval_shape(partial(backend.build, plan))
        state = nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat)))
        got = {".".join(path): leaf.shape for path, leaf in state}
        expected = {
            f"{t.name.rpartition('.')[0]}.{leaves[t.role]}": sorted(t.shape) for t in plan.tensors
        }
        assert {name: sorted(shape) for name, shape in got.items()} == expected
    model = nnx.eval_shape(partial(backend.build, plan_of("bottleneck")))
    assert model.layer1[0].conv2.kernel.shape == (3, 3, 6, 12)
    assert model.fc.kernel.shape == (16, CLASSES)


def normalised(plan: Plan, batch: Batch) -> Any:
    images = batch.images * np.array(plan.input.scale) + np.array(plan.input.shift)
    return jnp.asarray(images, jnp.float32)


def test_build_gives_the_sessions_network() -> None:
    plan, batch = plan_of("tiny"), batch_of(plan_of("tiny"))
    module = backend.build(plan, state_of(plan))
    expected = next(session_of("tiny").predict([batch]))
    module.eval()
    got = nnx.jit(lambda module, x: module(x))(module, normalised(plan, batch))
    assert_close(got, expected, 1e-5, "logits")
    # Without a state: Flax's own initialisers.
    fresh = backend.build(plan_of("tiny"))
    kernel = np.asarray(fresh.layer1[1].conv2.kernel[...])
    assert fresh.bn1.scale[...].dtype == jnp.float32
    assert kernel.std() == pytest.approx((9 * 4) ** -0.5, rel=0.2)


def test_the_module_trains_with_nnx_alone() -> None:
    plan = plan_of("tiny")
    batch = batch_of(plan)
    images, labels = normalised(plan, batch), jnp.asarray(batch.labels, jnp.int32)
    model = backend.build(plan, state_of(plan))
    optimizer = nnx.Optimizer(model, optax.sgd(0.05, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> Any:
        def loss_of(model: Any) -> Any:
            loss = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
            return loss.mean()

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, gradients)
        return loss

    before = np.array(model.bn1.mean[...])
    losses = [float(step(model, optimizer)) for _ in range(6)]
    assert len(set(losses)) == 6, "each step draws noise of its own"
    assert not np.array_equal(model.bn1.mean[...], before)
    graphdef, state = nnx.split(model)
    twin = nnx.merge(graphdef, state)
    model.eval()
    twin.eval()
    assert np.array_equal(model(images), twin(images))


def test_noise_is_drawn_by_the_module_on_its_own() -> None:
    module = backend.build(plan_of("tiny"), state_of(plan_of("tiny")))
    x = jnp.ones((4000, 2, 2, 4))
    path, drop = module.layer1[1].drop_path, module.drop
    (rate,) = [op.rate for op in plan_of("tiny").noises if op.name == "layer1.1.drop_path"]
    assert np.unique(path(x)).tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    assert np.all(np.ptp(np.asarray(path(x)), (1, 2, 3)) == 0), "one draw per sample"
    assert float(drop(x[:, 0, 0]).mean()) == pytest.approx(1.0, abs=0.05)
    assert not np.array_equal(path(x), path(x))
    module.eval()
    assert np.array_equal(path(x), x) and np.array_equal(drop(x), x)


def test_layers_can_be_replaced() -> None:
    plan, batch = plan_of(), batch_of(plan_of())
    session = session_of()
    graphdef, state = nnx.split(session.native)
    expected = next(session.predict([batch]))
    session.native.act1 = layers.Activation(nnx.gelu)
    try:
        assert not np.allclose(next(session.predict([batch])), expected)
    finally:
        session.native = nnx.merge(graphdef, state)
    assert np.array_equal(next(session.predict([batch])), expected)
    assert len(session.native.layer1) == 1 and plan.classes == CLASSES
