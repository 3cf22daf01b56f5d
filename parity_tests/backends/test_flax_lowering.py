"""The Flax session's training step as accelerators get it, lowered for them on a machine without.

What is asked of the text is what would be slow or wrong on a device and right on a CPU.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flax_members import QUICKER, fresh, plan_of, recipe_of
from flax_networks import batch_of
from several import Found, found_by, write

from resnet_spec.group import ALONE
from resnet_spec.plan import Plan
from resnet_spec.planning.rematerialisation import rematerialised

jax = pytest.importorskip("jax")
passes: Any = importlib.import_module("resnet_spec_flax.passes")
pytestmark = pytest.mark.xdist_group("flax_group")

PLATFORMS = ("cuda", "tpu")
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""And what MLIR calls them."""
IMAGES = 8
DEVICES = 4
Texts = dict[str, str]


def step_of(session: Any) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Yield name, function and arguments of what a step runs: a pass backwards and the update."""
    program, weights = session._program()
    others = session._others
    weights, slots = others.spread((weights, session._slots))
    (inputs,) = session._parts(batch_of(plan_of(), 0, IMAGES), 1, others)
    given = weights, slots.loss_scale, inputs
    yield "backward", program.backward, given
    _, sums = jax.eval_shape(program.backward, *given)
    if others.in_parts:
        trained = {name: weights[name].sharding for name in sums.gradients}
        sums = sums._replace(gradients=jax.tree.map(placed, sums.gradients, trained))
    yield "update", program._update, (weights, slots, sums, np.float32(0.1))


def placed(shape: Any, sharding: Any) -> Any:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def lowered(session: Any, *platforms: str) -> Texts:
    """Return the step as StableHLO for platforms."""
    with session._settings():
        return {
            name: function.trace(*given).lower(lowering_platforms=platforms).as_text()
            for name, function, given in step_of(session)
        }


def wrong_in(texts: Texts, precision: str, kept: int) -> list[str]:
    """Return what is wrong with a step. kept: how many arrays it gives up to the next."""
    wrong: list[str] = []
    for name, text in texts.items():
        calls = set(re.findall(r"custom_call @(\w+)", text))
        wrong += [f"{name}: calls {call}" for call in sorted(calls)]
        wrong += [f"{name}: computes in float64"] * bool(re.search(r"[x<]f64", text))
    products = re.findall(r".*stablehlo\.(?:convolution|dot_general)\b.*", texts["backward"])
    assert len(products) >= 8
    types = {kind for line in products for kind in operands_of(line)}
    if types != {PRECISIONS[precision]}:
        wrong.append(f"backward: multiplies {sorted(types)}")
    is_full = all(line.count("HIGHEST") == 2 for line in products)
    if precision == "float32" and not is_full:
        wrong.append("backward: multiplies in less than float32")
    donated = len(re.findall(r"jax\.buffer_donor|tf\.aliasing_output", texts["update"]))
    if donated != kept:
        wrong.append(f"update: {donated} of {kept} arrays are updated in place")
    return wrong


def operands_of(line: str) -> list[str]:
    """Return the types of what a product multiplies."""
    return re.findall(
        r"tensor<(?:\d+x)*([a-z]\w*)>", line.rpartition(" : ")[2].partition(" -> ")[0]
    )


def kept_by(session: Any) -> int:
    return len(jax.tree.leaves(session._slots)) + len(plan_of().tensors)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_is_what_an_accelerator_should_get(precision: str) -> None:
    session = fresh(ALONE, 2, precision=precision)
    assert wrong_in(lowered(session, *PLATFORMS), precision, kept_by(session)) == []


def test_a_call_of_the_host_is_seen() -> None:
    session = fresh(ALONE, 2, precision="float32")
    loss_of = passes.loss_of

    def told(*given: Any) -> Any:
        def loss(*compared: Any) -> Any:
            found = loss_of(*given)(*compared)
            jax.debug.callback(lambda value: None, found)
            return found

        return loss

    # For another platform than the one it runs on, JAX does not lower such a call.
    with patch.object(passes, "loss_of", told):
        wrong = wrong_in(lowered(session, "cpu"), "float32", kept_by(session))
    assert len(wrong) == 1 and re.fullmatch(r"backward: calls \w*callback\w*", wrong[0])


def test_float64_is_seen() -> None:
    session = fresh(ALONE, 2, precision="float32")
    one_hot = jax.nn.one_hot

    def exact(classes: Any, count: int, dtype: Any) -> Any:
        with jax.enable_x64(True):
            return one_hot(classes, count, dtype=np.float64).astype(dtype)

    with patch.object(jax.nn, "one_hot", exact):
        wrong = wrong_in(lowered(session, "cuda"), "float32", kept_by(session))
    assert wrong == ["backward: computes in float64"]


def test_products_in_less_than_float32_are_seen() -> None:
    session = fresh(ALONE, 2, precision="float32")
    session._settings = lambda: jax.default_matmul_precision("default")
    wrong = wrong_in(lowered(session, "cuda"), "float32", kept_by(session))
    assert wrong == ["backward: multiplies in less than float32"]


def test_copies_where_arrays_could_be_updated_in_place_are_seen() -> None:
    session = fresh(ALONE, 2, precision="bfloat16")
    program, _ = session._program()
    program._update = jax.jit(program._updated, donate_argnums=1)
    wrong = wrong_in(lowered(session, "tpu"), "bfloat16", kept_by(session))
    (line,) = wrong
    assert re.fullmatch(r"update: \d+ of \d+ arrays are updated in place", line)


@cache
def again() -> Plan:
    return rematerialised(plan_of(), recipe_of(2).model_copy(update={"remat": "all"}))


def test_barriers_keep_apart_what_is_computed_again() -> None:
    session = fresh(ALONE, 2, precision="bfloat16", plan=again())
    texts = lowered(session, "cuda")
    assert wrong_in(texts, "bfloat16", kept_by(session)) == []
    assert texts["backward"].count("optimization_barrier") == len(again().remat)


# Over several devices, in a process that has them.


_PLACE = r"%(arg\d+): tensor<\S+> \{.*?sdy\.sharding = #sdy\.sharding<@mesh, (\[.*?\])>"
_COLLECTIVES = re.compile(
    r"= \S+ (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
    r"|collective-broadcast)(?:-start)?\("
)


def lower_over_devices(rank: int, size: int, port: int, out: str) -> None:
    kind = os.environ["KIND"]
    sync = "replica" if kind == "replica" else "global"
    more = {"device": "cpu:all", "shard": kind == "parts"}
    session = fresh(ALONE, 2, sync, "float32", **more)
    found: dict[str, Found] = {
        platform: {name: np.array(text) for name, text in lowered(session, platform).items()}
        for platform in PLATFORMS
    }
    with session._settings():
        found["cpu"] = {
            name: np.array(function.lower(*given).compile().as_text())
            for name, function, given in step_of(session)
        }
    found["kept"] = {"": np.array(kept_by(session))}
    write(found, out)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, marks=pytest.mark.thorough) for kind in ("whole", "replica", "parts")
    ],
)
def over_devices(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    flags = f"{QUICKER['XLA_FLAGS']} --xla_force_host_platform_device_count={DEVICES}"
    told = {"XLA_FLAGS": flags, "KIND": request.param}
    folder = tmp_path_factory.mktemp("lowered")
    return request.param, found_by("test_flax_lowering", "lower_over_devices", 1, folder, **told)[0]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_step_over_devices_is_what_accelerators_should_get(
    over_devices: tuple[str, Any], platform: str
) -> None:
    kind, found = over_devices
    texts = {name: str(text) for name, text in found[platform].items()}
    assert wrong_in(texts, "float32", int(found["kept"][""])) == []
    assert f"mhlo.num_partitions = {DEVICES}" in texts["backward"]
    (arguments,) = re.findall(r"func\.func public @main\((.*?)\) -> ", texts["backward"], re.S)
    places = dict(re.findall(_PLACE, arguments))
    cut = [name for name, place in places.items() if '"replica", "device"' in place]
    of_batch = 2 + len(plan_of().noises)
    assert len(cut) == of_batch + (len(plan_of().tensors) if kind == "parts" else 0), places


def test_devices_send_no_more_than_they_must(over_devices: tuple[str, Any]) -> None:
    kind, found = over_devices
    sent = {name: _COLLECTIVES.findall(str(text)) for name, text in found["cpu"].items()}
    gathered = len(plan_of().tensors) if kind == "parts" else 0
    assert sent["backward"].count("all-gather") == gathered
    assert set(sent["backward"]) - {"all-gather"} == {"all-reduce"}
    assert sent["update"] == []
