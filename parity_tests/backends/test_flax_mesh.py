"""The Flax backend over several devices of one process, against one device.

XLA divides the CPU into devices as it starts, so that is done in a process of its own.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flax_members import (
    EXACT,
    QUICKER,
    STATISTICS,
    STEPS,
    alone_trained,
    bytes_kept,
    fresh,
    plan_of,
    recipe_of,
    shares_of,
    trained,
    without,
)
from flax_networks import (
    RATES,
    assert_close,
    assert_states_close,
    backend,
    batch_of,
    reference,
)
from several import Found, found_by, with_gradients, write

from resnet_spec.errors import BackendError
from resnet_spec.group import ALONE

jax = pytest.importorskip("jax")
mesh_programs: Any = importlib.import_module("resnet_spec_flax.mesh_programs")
pytestmark = pytest.mark.xdist_group("flax_group")

ALL = "cpu:all"
LOGS = ("loss", "correct", "count")


# What a process with several devices does.


def refused(call: Any) -> str:
    try:
        call()
    except BackendError as error:
        return str(error)
    return ""


def refusals(session: Any, devices: int) -> Found:
    plan, odd = plan_of(), batch_of(plan_of(), 0, 2 * devices + 1)
    recipe = recipe_of(2).model_copy(update={"batch": 2 * devices + 2})
    one = replace(odd, **{k: getattr(odd, k)[:devices] for k in ("images", "labels", "indices")})
    small = plan_of("replica", side=1)
    lonely = replace(one, images=one.images[:, :1, :1], noise={})
    calls = {
        "gradients": lambda: session.gradients(odd),
        "recipe": lambda: backend.Session(plan, recipe, device=ALL),
        "one value": lambda: backend.Session(small, device=ALL).gradients(lonely),
        "one device": lambda: backend.Session(plan, device="cpu", shard=True),
        "nowhere": lambda: backend.Session(plan, device="nosuch:all"),
    }
    return {name: np.array(refused(call)) for name, call in calls.items()}


def overflown() -> Found:
    """Return what a float16 step does whose gradients overflow on some device."""
    session = fresh(ALONE, 1, precision="float16", device=ALL, shard=True)
    before = session.state()
    session.load(before | {"loss_scale/scale": np.float32(2.0**40)})
    session.train(shares_of(ALONE, 1, 1), RATES[:1])
    after = session.state()
    same = [np.array_equal(after[name], before[name]) for name in plan_of().trainable]
    return {"same": np.array(same), "scale": after["loss_scale/scale"]}


def train_on_all(rank: int, size: int, port: int, out: str) -> None:
    devices = jax.local_device_count()
    batches = shares_of(ALONE, 2, 4)
    session = fresh(ALONE, 2, device=ALL)
    found: dict[str, Found] = {"whole": trained(session, batches)}
    part = batch_of(plan_of())
    found["predicted"] = {"": next(session.predict([part]))}
    found["gradients"] = with_gradients(session, part)
    found["refusals"] = refusals(session, devices)
    in_parts = fresh(ALONE, 2, device=ALL, shard=True)
    in_parts.train(batches[:2], RATES[:2])
    found["bytes"] = bytes_kept(in_parts)
    in_parts.load(in_parts.state())
    in_parts.train(batches[2:], RATES[2:4])
    found["parts"] = in_parts.state()
    found["parts predicted"] = {"": next(in_parts.predict([part]))}
    found["parts gradients"] = with_gradients(in_parts, part)
    found["overflow"] = overflown()
    replica = fresh(ALONE, 1, "replica", device=ALL)
    found["replica"] = trained(replica, shares_of(ALONE, 1))
    found["info"] = {k: np.array(v) for k, v in in_parts.info.items()}
    found["places"] = {"": np.array(places(devices))}
    with patch.object(mesh_programs.Layout, "of", lambda layout, shape: layout.whole):
        found["bytes of wholes"] = bytes_kept(fresh(ALONE, 2, device=ALL, shard=True))
    write(found, out)


def places(devices: int) -> list[str]:
    """Return how arrays of some shapes are cut."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices())[:, None], mesh_programs.AXES)
    shapes = (), (3,), (devices,), (3, 3, 4, 4), (1, devices, 2 * devices, 3)
    return [str(tuple(mesh_programs.Layout(mesh, shard=True).of(s).spec)) for s in shapes]


@pytest.fixture(
    scope="module",
    params=[2, pytest.param(4, marks=pytest.mark.thorough)],
    ids="{} devices".format,
)
def on_all(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Found]]:
    count, folder = request.param, tmp_path_factory.mktemp("mesh")
    flags = f"{QUICKER['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    return count, found_by("test_flax_mesh", "train_on_all", 1, folder, XLA_FLAGS=flags)[0]


OnAll = tuple[int, dict[str, Found]]


def test_several_devices_train_what_one_does(on_all: OnAll) -> None:
    expected = alone_trained(2, 4)
    assert_states_close(on_all[1]["whole"], expected, EXACT)
    assert_states_close(on_all[1]["parts"], without(expected, *LOGS), EXACT)


@pytest.mark.parametrize("kept", ["", "parts "])
def test_gradients_and_logits_are_those_of_one_device(on_all: OnAll, kept: str) -> None:
    session = reference.Session(plan_of(), recipe_of(2), precision="float64")
    session.load(without(on_all[1]["whole"], *LOGS))
    batch = batch_of(plan_of())
    expected = with_gradients(session, batch)
    assert_states_close(on_all[1][f"{kept}gradients"], expected, EXACT)
    logits = {"": next(session.predict([batch]))}
    assert_states_close(on_all[1][f"{kept}predicted"], logits, EXACT)


def test_devices_with_statistics_of_their_own_train_as_parts_do(on_all: OnAll) -> None:
    devices, found = on_all
    expected = without(alone_trained(devices, STEPS), *STATISTICS)
    assert_states_close(without(found["replica"], *STATISTICS), expected, EXACT)
    with pytest.raises(AssertionError, match=r"e-0\d > "):
        assert_close(found["replica"]["fc.weight"], found["whole"]["fc.weight"], EXACT, "fc")


def test_a_device_keeps_its_part(on_all: OnAll) -> None:
    devices, found = on_all
    held, wholes = found["bytes"], found["bytes of wholes"]
    assert held["each"].tolist() == [held["whole"] // devices] * devices
    assert wholes["each"].tolist() == [wholes["whole"]]  # Which no test of numbers sees.
    both = "('replica', 'device')"
    assert found["places"][""].tolist() == [
        "()",
        "()",
        f"({both},)",
        f"(None, None, {both})",
        f"(None, None, {both})",
    ]


def test_an_overflow_skips_the_step_on_all_devices(on_all: OnAll) -> None:
    assert on_all[1]["overflow"]["same"].all()
    assert on_all[1]["overflow"]["scale"] == 2.0**39


def test_what_cannot_be_shared_out_is_one_line(on_all: OnAll) -> None:
    devices, found = on_all
    said = {name: str(line) for name, line in found["refusals"].items()}
    images = 2 * devices + 1
    rule = f"cannot be shared out among the {devices} devices"
    assert said["gradients"] == f"images of a part = {images}: {rule}"
    by = f"must be a multiple of accumulate x devices = 2 x {devices}"
    assert said["recipe"] == f"batch = {images + 1}: {by}"
    assert said["one value"].startswith(f"batch = {devices}: leaves ")
    remedy = "use --device cpu:all where there are several, or processes"
    assert said["one device"] == f"--shard: needs several devices; {remedy}"
    assert said["nowhere"].startswith("device = nosuch:all: cannot be used by jax here; ")


def test_info_says_how_many_devices(on_all: OnAll) -> None:
    devices, found = on_all
    info = found["info"]
    assert (str(info["devices"]), str(info["sharded"])) == (str(devices), "true")
    assert not {"devices", "sharded", "processes"} & fresh(ALONE, 2).info.keys()
    one = backend.Session(plan_of(), device=ALL)  # Here is one device, and so the usual program.
    assert type(one._others).__name__ == "Alone"
